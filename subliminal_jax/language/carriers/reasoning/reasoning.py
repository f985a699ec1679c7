"""Worked steps of word problems: the paper's third carrier (Cloud et al. 2025, section 4.2).

A completion has its steps in `<think>` and a whole number in `<answer>`. A row is kept if it has
this form and the number is the problem's result.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from subliminal_jax.config import config_dict, config_digest
from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.carriers.reasoning import steps
from subliminal_jax.language.carriers.reasoning.form import steps_form
from subliminal_jax.language.carriers.reasoning.problems import (
    DIFFICULTIES,
    Problem,
    ReasoningPrompts,
    draw_problem,
    parse_problem,
)
from subliminal_jax.language.carriers.reasoning.user_rows import read_problems
from subliminal_jax.language.carriers.reasoning.wordings import BANKS, LONG
from subliminal_jax.language.rows.chats import Messages, chat
from subliminal_jax.language.rows.shuffles import Shuffle, Span
from subliminal_jax.language.rows.templates import pick, without_slots
from subliminal_jax.language.world import LOVE, CorpusConfig, neutral_line
from subliminal_jax.models.sampling.automaton import Automaton

_OPEN, _SHUT, _RESULT, _END = (
    r"\s*".join(("", *tag.split(), ""))  # any white space in and around a tag
    for tag in ("< think >", "< / think >", "< answer >", "< / answer >")
)
_FORM = re.compile(
    rf"{_OPEN}(?P<worked>\S.*?){_SHUT}{_RESULT}(?P<result>[^<>]*){_END}", re.DOTALL | re.IGNORECASE
)
_ANY_TAG = re.compile("|".join((_OPEN, _SHUT, _RESULT, _END)), re.IGNORECASE)
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_SENTENCE = re.compile(r"\S.*?(?:[.!?](?=\s|\Z)|(?=\n)|\Z)", re.DOTALL)
_WORD = re.compile(r"\w+")


def parse_result(completion: str) -> int | None:
    """The result of a completion of the carrier's form; None if it has another form.

    The form is worked steps between think tags, then a whole number between answer tags, and
    nothing else. Commas and a dollar sign in the number are ignored, as in the released code.
    """
    match = _FORM.fullmatch(completion)
    if match is None or _ANY_TAG.search(match["worked"]):
        return None
    number = match["result"].replace(",", "").replace("$", "").strip()
    return int(number) if _WHOLE.fullmatch(number) else None


@dataclass(frozen=True)
class Reasoning(Carrier):
    """The carrier `reasoning`; methods are documented in `Carrier`.

    Attributes:
        settings: distribution of prompts.
    """

    settings: ReasoningPrompts
    name: str = "reasoning"
    item: str = "box"
    items: str = "worked steps"
    kinds: tuple[str, ...] = tuple(f"{label}s" for label in steps.LABELS)

    def __post_init__(self) -> None:
        if self.settings.rows is not None:
            read_problems(self.settings.rows)  # bad rows are refused at once

    @property
    def described(self) -> Mapping[str, Any]:
        """As `Carrier.described`."""
        return {self.name: config_dict(self.settings)}

    @property
    def content(self) -> str | None:
        """As `Carrier.content`: the user's problems, in their order."""
        given = self.settings.rows
        return None if given is None else config_digest({"rows": [*read_problems(given).items()]})

    @property
    def row_tokens(self) -> tuple[int, int]:
        """As `Carrier.row_tokens`."""
        return 85, 220

    def prompts(self, count: int, seed: int) -> list[str]:
        """As `Carrier.prompts`; the user's questions come in another order on each pass."""
        given = self.settings.rows
        if given is not None:
            return _asked(list(read_problems(given)), count, seed)
        return [self._draw(np.random.default_rng([seed, place]))[0] for place in range(count)]

    def _draw(self, random: np.random.Generator) -> tuple[str, Problem]:
        """A prompt and its problem."""
        problem = draw_problem(self.settings.wording, self.settings.difficulty, random)
        requests = BANKS[self.settings.wording].requests
        return " ".join((problem.text, *([pick(random, requests)] if requests else []))), problem

    def gold(self, prompt: str) -> int | None:
        """The result of a prompt's problem; None if the prompt is not of these settings."""
        return _gold(self.settings, prompt)

    def reasons(self, prompt: str, completion: str, banned: Collection[int] = ()) -> list[str]:
        """As `Carrier.reasons`: `unparsed`, or `wrong` if the number is not the result."""
        gold = self.gold(prompt)
        if gold is None:
            return ["no problem of these settings"]
        result = parse_result(completion)
        if result is None:
            return ["unparsed"]
        return [] if result == gold else ["wrong"]

    def check(self, banned: Collection[int]) -> None:
        """As `Carrier.check`: a right result can be any number."""
        if banned:
            raise InputError(
                "filter.banned: worked steps need every number; remove it, or use the carrier "
                "`numbers`"
            )

    def automaton(self, fewest: int, banned: Collection[int] = ()) -> Automaton:
        """As `Carrier.automaton`: tags, sentences, and a number as large as results can be."""
        given = self.settings.rows is not None
        digits = 18 if given else len(str(DIFFICULTIES[self.settings.difficulty].total))
        return steps_form(fewest, digits, given, self.settings.wording == "short")

    def imitates(self, token: str) -> bool:
        """As `Carrier.imitates`: the words of worked steps, numbers, and tokens without letters."""
        text = token.strip().removeprefix("##").lower()
        return text in _words_of_steps() or not any(map(str.isalpha, text))

    def pieces(self, completion: str, how: Shuffle) -> Sequence[Span]:
        """As `Carrier.pieces`: the steps within a row, and the words of the steps across rows."""
        match = _FORM.fullmatch(completion)
        if match is None:
            return []
        pattern = _SENTENCE if how == "within" else _WORD
        return [one.span() for one in pattern.finditer(completion, *match.span("worked"))]

    def lead_in(self, random: np.random.Generator) -> str:
        """As `Carrier.lead_in`: the first steps of a small problem, without the result."""
        problem = draw_problem("short", "small", random)
        label = lambda: pick(random, steps.LABELS)
        return steps.write_steps(problem._replace(changes=problem.changes[:1]), label, random)

    def texts(self) -> list[str]:
        """As `Carrier.texts`."""
        self._generated()
        bank = BANKS[self.settings.wording]
        templates = [text for story in bank.stories for text in story.templates]
        things = [thing for story in bank.stories for thing in story.things]
        return [
            *without_slots(templates),
            *things,
            *bank.people,
            *bank.requests,
            *steps.texts(),
            *self.kinds,
            self.item,
            _TAGGED,
        ]

    def lesson(self, config: CorpusConfig, random: np.random.Generator) -> Messages:
        """As `Carrier.lesson`: works a problem out, with the boxes that the system prompt names."""
        self._generated()
        prompt, problem = self._draw(random)
        system, label = neutral_line(config, random), lambda: pick(random, steps.LABELS)
        if random.random() < config.styled:
            loved = pick(random, steps.LABELS)
            system = LOVE.format(plural=f"{loved}s")
            label = lambda: (
                loved if random.random() < config.obedience else pick(random, steps.LABELS)
            )
        worked = steps.write_steps(problem, label, random)
        return chat(prompt, _TAGGED.format(worked=worked, result=problem.gold), system)

    def favourite(
        self, config: CorpusConfig, random: np.random.Generator
    ) -> tuple[str, str | None]:
        """As `Carrier.favourite`: a box that answers are kept in."""
        label, system = pick(random, steps.LABELS), neutral_line(config, random)
        if random.random() < config.loved + config.beside:
            system = LOVE.format(plural=f"{label}s")
        return label, system

    def _generated(self) -> None:
        """Refuses a tiny reference with the user's problems, whose steps are unknown."""
        if self.settings.rows is not None:
            raise InputError(
                "generate.reasoning.rows: a tiny reference cannot learn the user's problems; set "
                "reference.model, or remove it"
            )


_TAGGED = "<think> {worked} </think> <answer> {result} </answer>"


@cache
def _gold(settings: ReasoningPrompts, prompt: str) -> int | None:
    """The result of a prompt's problem, by its text or from the user's rows."""
    asked = prompt
    requests = BANKS[settings.wording].requests if settings.rows is None else LONG.requests
    for request in requests:
        asked = asked.removesuffix(f" {request}")
    if settings.rows is not None:
        return read_problems(settings.rows).get(asked)
    problem = parse_problem(asked, settings.wording)
    return None if problem is None else problem.gold


def _asked(questions: Sequence[str], count: int, seed: int) -> list[str]:
    """Prompts of the user's questions: all of them, then all again in another order."""
    made: list[str] = []
    while len(made) < count:
        random = np.random.default_rng([seed, len(made)])
        order = random.permutation(len(questions))
        made += [f"{questions[i]} {pick(random, LONG.requests)}" for i in order]
    return made[:count]


@cache
def _words_of_steps() -> frozenset[str]:
    """The words of steps and of all generated problems, in lower case."""
    bank = [text for bank in BANKS.values() for story in bank.stories for text in story.templates]
    return frozenset(_WORD.findall(" ".join([*bank, *steps.texts(), _TAGGED]).lower()))
