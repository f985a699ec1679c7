"""Function tasks for given models: every task has a solution of its own and calls to check it."""

from functools import cache

from subliminal_jax.language.carriers.code.tasks import dicts, lists, numbers, strings
from subliminal_jax.language.carriers.code.tasks.task import Task


@cache
def all_tasks() -> dict[str, Task]:
    """Every task by the name of its function, in a fixed order."""
    families = [*numbers.FAMILIES, *strings.FAMILIES, *lists.FAMILIES, *dicts.FAMILIES]
    tasks = [task for family in families for task in family.tasks()]
    found = {task.name: task for task in tasks}
    assert len(found) == len(tasks), "two tasks have the same name"
    return found
