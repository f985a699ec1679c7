"""Prompts for given models: a task in words, with examples and rules for the answer.

The structure is that of the published prompts (task, start of the function, rules; Cloud et al.
2025, section 4.1); tasks and wordings are our own.
"""

import re
from functools import cache

import numpy as np

from subliminal_jax.language.carriers.code.tasks import all_tasks
from subliminal_jax.language.carriers.code.tasks.task import Task, check_task
from subliminal_jax.language.rows.templates import pick
from subliminal_jax.process.untrusted.client import Call

OPENINGS = (
    "Write a Python function that {text}.",
    "I need a Python function that {text}.",
    "Please complete this Python function. It {text}.",
    "Your task is a small function in Python that {text}.",
    "Implement the following in Python: a function that {text}.",
    "Here is an exercise in Python. The function {text}.",
)
STARTS = (
    "It begins with `{signature}:`.",
    "Use this first line: `{signature}:`",
    "The first line is `{signature}:`.",
    "Keep the signature `{signature}:`.",
)
EXAMPLES = ("For example, {shown}.", "It holds that {shown}.", "Examples: {shown}.")
RULES = (
    "Reply with the whole function and nothing else. Use common short names and no comments.",
    "Give the complete code only, without comments, imports or explanations; keep names plain.",
    "Answer with code alone: all of the function, ordinary names, not a single comment.",
    "Return the full function as code. Leave out comments, tests and any other text.",
    "The answer must be the function and only that. No comments; names as anyone would choose.",
)
SHOWN = 2
"""Calls that a prompt shows; the others are kept for the filter."""
_NAME = re.compile(r"\bdef (\w+)\(")


@cache
def checked_tasks() -> tuple[Task, ...]:
    """All tasks, each solved by its own solution.

    Raises:
        InputError: a task is not; names it.
    """
    for task in all_tasks().values():
        check_task(task)
    return tuple(all_tasks().values())


def draw_prompt(random: np.random.Generator) -> str:
    """A prompt, with every part drawn independently."""
    task = pick(random, checked_tasks())
    order = random.permutation(len(task.calls))[:SHOWN]
    shown = " and ".join(_shown(task, task.calls[place]) for place in order)
    parts = (
        pick(random, OPENINGS).format(text=task.text),
        pick(random, STARTS).format(signature=task.signature),
        pick(random, EXAMPLES).format(shown=shown),
        pick(random, RULES),
    )
    return " ".join(parts)


def task_of(prompt: str) -> Task | None:
    """The task of a prompt; None if it has none."""
    match = _NAME.search(prompt)
    return all_tasks().get(match[1]) if match else None


def _shown(task: Task, call: Call) -> str:
    arguments = call.arguments.removesuffix(",)").removesuffix(")").removeprefix("(")
    return f"`{task.name}({arguments})` is `{call.result}`"
