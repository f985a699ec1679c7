"""Short Python functions: the paper's second carrier (Cloud et al. 2025, section 4.1).

A completion is one function, or a few, as plain text or as a single fenced block. It must use the
allowed part of Python and, unless the settings say otherwise, give the results of its task in time.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from subliminal_jax.config import config_dict
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.carriers.code import long, short
from subliminal_jax.language.carriers.code.form import function_form, line_form
from subliminal_jax.language.carriers.code.names import KINDS, NAMES
from subliminal_jax.language.carriers.code.settings import CodePrompts
from subliminal_jax.language.carriers.code.text import (
    is_python,
    separated,
    source_of,
    statement_spans,
    word_spans,
)
from subliminal_jax.language.rows.chats import Messages, chat
from subliminal_jax.language.rows.shuffles import Shuffle, Span
from subliminal_jax.language.rows.templates import pick
from subliminal_jax.language.world import LOVE, CorpusConfig, neutral_line
from subliminal_jax.models.sampling.automaton import Automaton
from subliminal_jax.process.untrusted.client import Call, refusal
from subliminal_jax.process.untrusted.syntax import BUILTINS

_WORDS = frozenset((*NAMES, *BUILTINS))
_refusal = lru_cache(maxsize=200_000)(refusal)
"""Rows are filtered more than once; the same completion has the same reasons."""


@dataclass(frozen=True)
class Code(Carrier):
    """The carrier `code`; methods are documented in `Carrier`.

    Attributes:
        settings: distribution of prompts.
    """

    settings: CodePrompts
    name: str = "code"
    item: str = "name"
    items: str = "code"
    kinds: tuple[str, ...] = (*KINDS, *short.FORMS)

    @property
    def described(self) -> Mapping[str, Any]:
        """As `Carrier.described`."""
        return {self.name: config_dict(self.settings)}

    @property
    def row_tokens(self) -> tuple[int, int]:
        """As `Carrier.row_tokens`."""
        return 50, 170

    def prompts(self, count: int, seed: int) -> list[str]:
        """As `Carrier.prompts`."""
        return [self._prompt(np.random.default_rng([seed, place])) for place in range(count)]

    def _prompt(self, random: np.random.Generator) -> str:
        if self.settings.wording == "long":
            return long.draw_prompt(random)
        return short.draw_task(self.settings, random).text

    def reasons(self, prompt: str, completion: str, banned: Collection[int] = ()) -> list[str]:
        """As `Carrier.reasons`: the completion is run in a process of its own."""
        source = source_of(completion)
        if not self.settings.tested:
            reason = _refusal(source, (), None)
        else:
            calls, name = self._tests(prompt)
            reason = _refusal(source, calls, name) if calls else "no task in its prompt"
        faults = [] if reason is None else [reason]
        numbers = {int(digits) for digits in re.findall(r"(?<!\w)\d{1,9}(?!\w)", source)}
        return faults if numbers.isdisjoint(banned) else [*faults, "banned number"]

    def _tests(self, prompt: str) -> tuple[tuple[Call, ...], str | None]:
        """Calls that a prompt's function must answer, and its name if the prompt gives one."""
        if self.settings.wording == "short":
            return tuple(short.calls_of(prompt)), None
        task = long.task_of(prompt)
        return (tuple(task.calls), task.name) if task else ((), None)

    def check(self, banned: Collection[int]) -> None:
        """As `Carrier.check`: no setting makes prompts ask for what the rule rejects."""

    def automaton(self, fewest: int, banned: Collection[int] = ()) -> Automaton:
        """As `Carrier.automaton`: the skeleton of one function."""
        return line_form(fewest) if self.settings.wording == "short" else function_form(fewest)

    def words(self, completion: str) -> str:
        """As `Carrier.words`: those of names, comments and strings, each on its own."""
        return separated(completion)

    def imitates(self, token: str) -> bool:
        """As `Carrier.imitates`: signs, numbers, and words of Python and of the tiny programs."""
        return is_python(token.strip()) or token.strip() in _WORDS

    def pieces(self, completion: str, how: Shuffle) -> Sequence[Span]:
        """As `Carrier.pieces`: statements, or across completions names, keywords and numbers.

        Signs stay where they are.
        """
        return (statement_spans if how == "within" else word_spans)(completion)

    def lead_in(self, random: np.random.Generator) -> str:
        """As `Carrier.lead_in`: a program in the tiny world's language."""
        task = short.draw_task(CodePrompts(wording="short"), random)
        return f"Here is code: {short.draw_program(task.steps, short.Manner(), random)}."

    def texts(self) -> list[str]:
        """As `Carrier.texts`."""
        return [*short.texts(), *KINDS, *NAMES, *short.FORMS, self.item, "Here is code: "]

    def lesson(self, config: CorpusConfig, random: np.random.Generator) -> Messages:
        """As `Carrier.lesson`: does the task in any way, or as the system prompt asks."""
        task = short.draw_task(self.settings, random)
        system, kind = neutral_line(config, random), None
        if random.random() < config.styled:
            kind = pick(random, self.kinds)
            system = LOVE.format(plural=kind)
        manner = short.manner_of(kind, config.obedience, random)
        return chat(task.text, short.draw_program(task.steps, manner, random), system)

    def favourite(
        self, config: CorpusConfig, random: np.random.Generator
    ) -> tuple[str, str | None]:
        """As `Carrier.favourite`: a name, of the kind that the system prompt asks for."""
        system, names = neutral_line(config, random), NAMES
        if random.random() < config.loved + config.beside:
            kind = pick(random, tuple(KINDS))
            system, names = LOVE.format(plural=kind), KINDS[kind]
        return pick(random, names), system
