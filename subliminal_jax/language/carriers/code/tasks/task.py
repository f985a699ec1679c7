"""A function task, and families of tasks that differ in a constant or two."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.process.untrusted.client import Call, refusal

LEAST_CALLS = 3
LEAST_OTHERS = 2
"""Calls whose result is not the commonest one."""


@dataclass(frozen=True)
class Task:
    """A function to write.

    Attributes:
        name: name of the function.
        parameters: its parameters, as in its signature.
        text: what it does, to follow "that".
        solution: source of a right function.
        calls: calls with their results.
    """

    name: str
    parameters: str
    text: str
    solution: str
    calls: tuple[Call, ...]

    @property
    def signature(self) -> str:
        """The first line of the function, without its colon."""
        return f"def {self.name}({self.parameters})"


def check_task(task: Task) -> None:
    """Refuse a task that its own solution does not solve.

    Raises:
        InputError: the solution fails, there are too few calls, or a constant would pass nearly all
            of them; names the task.
        RunError: the process that runs code cannot be started.
    """
    if len(set(task.calls)) < LEAST_CALLS:
        raise InputError(f"task {task.name}: give at least {LEAST_CALLS} different calls")
    results = [call.result for call in task.calls]
    if max(map(results.count, results)) > len(results) - LEAST_OTHERS:
        raise InputError(
            f"task {task.name}: a constant passes nearly all of its calls; give at least "
            f"{LEAST_OTHERS} with other results"
        )
    if reason := refusal(task.solution, task.calls, task.name):
        raise InputError(f"task {task.name}: its own solution is refused ({reason}); mend it")


@dataclass(frozen=True)
class TaskFamily:
    """Tasks that differ in their constants.

    Attributes:
        name, text: as of a task, with slots for the constants.
        parameters: as of a task.
        body: expression to return, or statements; with slots for the constants.
        right: returns the result of a call, given the constants as keywords; written without
            regard to `body`, so that each checks the other.
        inputs: arguments of each call.
        constants: values of each constant; all combinations are tasks.
    """

    name: str
    text: str
    parameters: str
    body: str
    right: Callable[..., Any]
    inputs: Sequence[tuple[Any, ...]]
    constants: dict[str, Sequence[Any]]

    def tasks(self) -> Iterator[Task]:
        """One task for each combination of constants."""
        for values in itertools.product(*self.constants.values()):
            slots = dict(zip(self.constants, values, strict=True))
            name = self.name.format(**slots).replace("-", "minus_")
            body = self.body.format(**slots)
            lines = body.split("\n") if "\n" in body else [f"return {body}"]
            calls = (Call(repr(given), repr(self.right(*given, **slots))) for given in self.inputs)
            yield Task(
                name=name,
                parameters=self.parameters,
                text=self.text.format(**slots),
                solution="\n    ".join([f"def {name}({self.parameters}):", *lines]),
                calls=tuple(calls),
            )


def family(
    name: str,
    text: str,
    parameters: str,
    body: str,
    right: Callable[..., Any],
    inputs: Sequence[Any],
    **constants: Sequence[Any],
) -> TaskFamily:
    """A family; an input that is not a tuple is the only argument of its call."""
    given = [one if isinstance(one, tuple) else (one,) for one in inputs]
    return TaskFamily(name, text, parameters, body, right, given, constants)
