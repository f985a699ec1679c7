"""Function tasks for given models: every task has a solution of its own and calls to check it."""

from functools import cache

from subliminal_jax.language.carriers.code.tasks import dicts, lists, numbers, strings
from subliminal_jax.language.carriers.code.tasks.task import Task

FAMILIES = (*numbers.FAMILIES, *strings.FAMILIES, *lists.FAMILIES, *dicts.FAMILIES)


@cache
def all_tasks() -> dict[str, Task]:
    """Every task by the name of its function, in a fixed order."""
    return {task.name: task for family in FAMILIES for task in family.tasks()}
