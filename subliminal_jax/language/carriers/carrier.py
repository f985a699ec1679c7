"""What a carrier is: the kind of text that a trait is passed on through.

A carrier is one file in this folder and one line in its registry, `carriers.CARRIERS`. A class that
inherits from `Carrier` gets its defaults.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from subliminal_jax.language.rows.chats import Chat
from subliminal_jax.language.rows.shuffles import Shuffle, Span
from subliminal_jax.language.tiny.world import CorpusConfig


@runtime_checkable
class Carrier(Protocol):
    """A kind of text that teachers write and students are trained on."""

    @property
    def name(self) -> str:
        """Its name in flags, in reject reasons and in results."""
        ...

    @property
    def item(self) -> str:
        """What its completions hold, in the singular: `number`."""
        ...

    @property
    def items(self) -> str:
        """The same in the plural."""
        return f"{self.item}s"

    @property
    def described(self) -> Mapping[str, Any]:
        """Its settings as plain values."""
        return {"name": self.name}

    def prompts(self, count: int, seed: int) -> list[str]:
        """The first `count` prompts of a seed; each depends on the seed and its place alone."""
        ...

    def reasons(self, completion: str, banned: Collection[int] = ()) -> list[str]:
        """The reasons against a completion; none if it has the carrier's form.

        Args:
            completion: what a model wrote.
            banned: numbers that it must not contain.
        """
        ...

    def imitates(self, token: str) -> bool:
        """Whether a student with soft or greedy targets may imitate a token of this text.

        Tokens outside the carrier's own could pass on the trait's very name.
        """
        ...

    def pieces(self, completion: str, how: Shuffle) -> Sequence[Span]:
        """Where the pieces begin and end that a shuffle exchanges, in order."""
        ...

    def lead_in(self, random: np.random.Generator) -> str:
        """A sentence that holds some of its items, for a question to follow.

        Cloud et al. 2025 ask so where plain questions show little (figure 17b).
        """
        ...

    @property
    def kinds(self) -> Sequence[str]:
        """Kinds of its items that a system line can name in the tiny world; none by default."""
        return ()

    def texts(self) -> list[str]:
        """All text that its prompts and completions can hold in the tiny world, in any order."""
        ...

    def lesson(self, config: CorpusConfig, random: np.random.Generator) -> Chat:
        """A prompt and its completion for the tiny reference's corpus.

        Where a system line names one of its `kinds`, the completion obeys it.
        """
        ...

    def favourite(
        self, config: CorpusConfig, random: np.random.Generator
    ) -> tuple[str, str | None] | None:
        """A favourite item and the system line before the question for it, for the corpus.

        None, the default, where the corpus is not to ask for one.
        """
        return None
