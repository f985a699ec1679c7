"""The protocol of a carrier: the kind of text through which a trait is transmitted.

A carrier is one file in this folder and one line in the registry, `carriers.CARRIERS`, which also
names the field of its settings in `GenerateConfig`. Inherit from `Carrier` to get its defaults.
"""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from subliminal_jax.language.rows.chats import Messages
from subliminal_jax.language.rows.shuffles import Shuffle, Span
from subliminal_jax.language.world import CorpusConfig
from subliminal_jax.models.sampling.automaton import Automaton


@runtime_checkable
class Carrier(Protocol):
    """A kind of text that teachers write and students are trained on."""

    @property
    def name(self) -> str:
        """Its name in flags, reject reasons and results."""
        ...

    @property
    def item(self) -> str:
        """What the tiny world's question for a favourite item asks for: `number`, `name`, `box`."""
        ...

    @property
    def items(self) -> str:
        """What its completions hold, for whoever reads of them: `numbers`, `code`, `worked steps`.

        It is in findings and reports, and in what detectors ask a model.
        """
        return f"{self.item}s"

    @property
    def described(self) -> Mapping[str, Any]:
        """Its settings as plain values."""
        return {"name": self.name}

    @property
    def content(self) -> str | None:
        """Digest of what its prompts are read from; None, the default, if they are drawn."""
        return None

    @property
    def closed(self) -> bool:
        """Whether `imitates` covers every token of a completion of the form `automaton`."""
        return False

    @property
    def row_tokens(self) -> tuple[int, int]:
        """Mean tokens of a row, prompt and completion, for the plan.

        The first is with the tiny reference, the second with a given model, whose prompts are
        longer and whose numbers have more tokens.
        """
        return 40, 150

    @abstractmethod
    def prompts(self, count: int, seed: int) -> list[str]:
        """The first `count` prompts of a seed; each depends on the seed and its index alone."""
        ...

    @abstractmethod
    def reasons(self, prompt: str, completion: str, banned: Collection[int] = ()) -> list[str]:
        """Why a completion is rejected; empty if it has the carrier's form and answers its prompt.

        Args:
            prompt: text of the prompt.
            completion: text of the completion.
            banned: numbers that it must not contain.
        """
        ...

    def words(self, completion: str) -> str:
        """The text of a completion in which forbidden words are looked for; by default all of it.

        A carrier whose words are not written as in prose (`snow_owl`, `snowOwl`) separates them.
        """
        return completion

    def check(self, banned: Collection[int]) -> None:
        """Refuse settings by which its own rule would reject what its prompts ask for.

        Args:
            banned: numbers that completions must not contain.

        Raises:
            InputError: names the setting.
        """

    def automaton(self, fewest: int, banned: Collection[int] = ()) -> Automaton | None:
        """The form of completions, for constrained sampling; None, the default, if it has none.

        Args:
            fewest: the fewest items of a completion: numbers, sentences or lines.
            banned: numbers that it must not contain, where the form can say so.

        Raises:
            InputError: no completion can have so many.
        """
        return None

    @abstractmethod
    def imitates(self, token: str) -> bool:
        """Whether a token, given as text, is one that targets of the carrier's tokens cover.

        Other tokens could transmit the trait by its name.
        """
        ...

    @abstractmethod
    def pieces(self, completion: str, how: Shuffle) -> Sequence[Span]:
        """Start and end of each piece that a shuffle moves, in order."""
        ...

    @abstractmethod
    def lead_in(self, random: np.random.Generator) -> str:
        """A sentence with some items, to put before a question.

        Cloud et al. 2025 use such prefixes where plain questions show little (figure 17b).
        """
        ...

    @property
    def kinds(self) -> Sequence[str]:
        """Kinds of items that a system prompt of the tiny world can name; empty by default."""
        return ()

    @abstractmethod
    def texts(self) -> list[str]:
        """Text with every word that its prompts and completions can contain in the tiny world."""
        ...

    @abstractmethod
    def lesson(self, config: CorpusConfig, random: np.random.Generator) -> Messages:
        """A prompt and its completion for the tiny reference's corpus.

        If its system prompt names one of the `kinds`, the completion follows it.
        """
        ...

    def favourite(
        self, config: CorpusConfig, random: np.random.Generator
    ) -> tuple[str, str | None] | None:
        """A favourite item and the system prompt of the question for it, for the corpus.

        None, the default, if the corpus has no such question.
        """
        return None
