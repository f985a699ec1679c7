"""Exchanges plain values between hosts, and runs actions on the first host only."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from subliminal_jax.entry import REFUSED, outcome
from subliminal_jax.errors import InputError, RunError
from subliminal_jax.files import parse_json, strict_json

T = TypeVar("T")


def is_first() -> bool:
    """Whether this is the first host, the only one that writes."""
    return jax.process_index() == 0


def all_agree(answer: bool) -> bool:
    """Whether every host's answer is yes."""
    if jax.process_count() == 1:
        return answer
    return bool(np.all(multihost_utils.process_allgather(np.array(answer))))


def any_says(answer: bool) -> bool:
    """Whether any host's answer is yes."""
    return not all_agree(not answer)


def on_first(act: Callable[[], T]) -> T | None:
    """Call `act` on the first host only and return its result; None on the others.

    Raises:
        InputError: `act` raised it, or an error of the operating system that the user can fix;
            raised on every host, so that none waits for another.
        RunError: `act` raised it; likewise.
    """
    result, failure = None, None
    if is_first():
        try:
            result = act()
        except BrokenPipeError:  # nothing reads stdout any more: all processes exit
            raise
        except (InputError, RunError, OSError, MemoryError) as error:
            failure = outcome(error)
    failure = from_first(failure)
    if failure is not None:
        message, status = failure
        raise InputError(message) if status == REFUSED else RunError(message)
    return result


def by_first(act: Callable[[], T]) -> T:
    """Call `act` on the first host only and return its plain value on every host.

    Raises:
        InputError: as `on_first`.
        RunError: as `on_first`.
    """
    return from_first(cast(T, on_first(act)))


def from_first(value: T) -> T:
    """Return the first host's plain value on every host."""
    if jax.process_count() == 1:
        return value
    data = np.frombuffer(strict_json(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    buffer = np.zeros(size, np.uint8)
    buffer[: min(size, len(data))] = data[:size]
    sent: Any = multihost_utils.broadcast_one_to_all(buffer)
    return parse_json(np.asarray(sent, np.uint8).tobytes())


def from_all(value: T) -> list[T]:
    """Return the plain values of all hosts, in host order, on every host."""
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(strict_json(value).encode(), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.int32(len(data))))
    sent = np.zeros(sizes.max(), np.uint8)
    sent[: len(data)] = data
    rows = np.asarray(multihost_utils.process_allgather(sent), np.uint8)
    return [parse_json(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def mine(items: Sequence[T]) -> list[T]:
    """Return this host's share of the items."""
    return list(items[jax.process_index() :: jax.process_count()])


def together(portions: Iterable[list[T]]) -> Iterator[list[T]]:
    """Yield the next portions of all hosts, joined, on every host.

    A host without more portions takes part until all have none.
    """
    own = iter(portions)
    while any(parts := from_all(next(own, []))):
        yield [item for part in parts for item in part]


def meet(where: str) -> None:
    """Wait until every host has called this."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)
