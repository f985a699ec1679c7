"""The types of messages and of training examples."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

Message: TypeAlias = Mapping[str, str]
"""`{"role": ..., "content": ...}`."""

Option: TypeAlias = bool | int | float | str
"""The value of a chat template's switch, such as `enable_thinking`."""

ROLES = ("system", "user", "assistant")


class Example(NamedTuple):
    """One row of training data.

    Attributes:
        prompt: ids up to the assistant's answer.
        completion: ids of the answer, the token that ends the turn included.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
