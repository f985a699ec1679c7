"""A local model as judge: its score is an exact expectation; nothing is sampled."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.language.judge.number_tree import NumberTree, number_tree
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.rows.chats import Messages
from subliminal_jax.models.sampling.scoring import likelihoods_after


class LocalJudge:
    """A judge by `NumberTree.score`.

    The first host scores.

    Args:
        reference: its model and tokenizer.
        name: its name, for messages.
        batch: texts scored at a time.
    """

    def __init__(self, reference: Reference, name: str, batch: int):
        self.name = name
        self._reference, self._batch = reference, batch

    @cached_property
    def tree(self) -> NumberTree:
        """The spellings of the numbers."""
        return number_tree(self._reference.chat)

    @property
    def described(self) -> Mapping[str, str]:
        """As `Judge.described`."""
        return {"model": self.name, "digest": self._reference.digest}

    def scores(self, asked: Sequence[Messages]) -> list[float | None]:
        """As `Judge.scores`."""
        return hosts.by_first(lambda: [self.tree.score(row) for row in self.likelihoods(asked)])

    def likelihoods(self, asked: Sequence[Messages]) -> np.ndarray:
        """The probability of each of the tree's continuations, `[chats, continuations]`."""
        tree, reference = self.tree, self._reference
        prompts = [(*prompt, *tree.before) for prompt in reference.chat.prompts(asked)]
        longest = max(map(len, prompts)) + max(map(len, tree.continuations))
        if longest > reference.config.context:
            raise InputError(
                f"{self.name}: a question to the judge has {longest} tokens, but its context is "
                f"{reference.config.context}; choose another judge, or lower "
                "evaluate.max_tokens and generate.max_tokens"
            )
        params, _ = reference.here((reference.params, None))
        each = likelihoods_after(
            reference.config, params, prompts, tree.continuations, batch=self._batch
        )
        return np.exp(each, dtype=np.float64)
