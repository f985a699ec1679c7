"""What a conversation is made of, and what is made of it."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

Message: TypeAlias = Mapping[str, str]
"""`{"role": ..., "content": ...}`."""

Option: TypeAlias = bool | int | float | str
"""What a switch of a chat template, such as `enable_thinking`, can be set to."""

ROLES = ("system", "user", "assistant")


class Example(NamedTuple):
    """One row to train on.

    Attributes:
        prompt: ids up to where the assistant answers.
        completion: ids of the answer, the token that ends the turn included.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
