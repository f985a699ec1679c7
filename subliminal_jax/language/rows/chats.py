"""Chats as lists of messages, each with a role and a content."""

from typing import TypeAlias

Messages: TypeAlias = list[dict[str, str]]
"""Messages in order, each `{"role": ..., "content": ...}`."""


def chat(question: str, answer: str | None = None, system: str | None = None) -> Messages:
    """The messages of one exchange; without an answer, a prompt to complete."""
    messages = (("system", system), ("user", question), ("assistant", answer))
    return [{"role": role, "content": text} for role, text in messages if text is not None]
