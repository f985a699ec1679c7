"""Step 4, the dataset: all teachers are asked the same prompts, and each completion is a row.

A row depends on the seed, the repetition, the teacher and the prompt's place alone, not on what is
sampled beside it. So an interrupted stage resumes by sampling the missing rows, and each of
several hosts samples a part of them. `meta.digest` ties a row to everything it was made from.
"""

import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.evaluation.completions import sampler_of
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.rows.chat_rows import checked, completion_of, row
from subliminal_jax.language.rows.chats import chat
from subliminal_jax.language.rows.filters import Rule, filter_rows
from subliminal_jax.language.settings import GenerateConfig
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.models.sampling.prefill import Request
from subliminal_jax.models.sampling.sampler import Completion
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.runs.differences import differences
from subliminal_jax.runs.sealed import digest_of

T = TypeVar("T")

PROMPT_SEED = 47
"""Prompts are the same in all repetitions, as in the released code, whose seed this is."""
WRITE, WRITE_SECONDS = 500, 5.0
"""Rows are written in portions: so many, or those of so many seconds."""


@dataclass(frozen=True)
class Source:
    """Who writes a dataset.

    Attributes:
        teacher: its name.
        made_from: the digest of what the dataset is made from.
        system: system prompt; None unless the teacher is prompted. No row's text contains it.
    """

    teacher: str
    made_from: str
    system: str | None = None

    def row(
        self,
        place: int,
        prompt: str,
        completion: str,
        finished: bool,
        unreadable: str | None = None,
    ) -> dict[str, Any]:
        """The row of a prompt and its completion.

        Args:
            place: the prompt's.
            prompt: its text.
            completion: the text that was sampled.
            finished: whether it ended before the token limit.
            unreadable: why no student can be trained on it; None if one can.
        """
        made = row(
            f"{self.teacher}-{place:06d}",
            prompt,
            completion,
            teacher=self.teacher,
            system=self.system,
            place=place,
            finished=finished,
        )
        if unreadable is not None:
            made["meta"]["unreadable"] = unreadable
        made["meta"]["digest"] = digest_of(made, self.made_from)
        return made


class Dataset:
    """The completions of one teacher, which are sampled into a file.

    Args:
        settings: how they are sampled.
        rules: what a completion must pass to count; see `sample_until`.
        reference: the model, with `network`.
        network: parameters and adapter of the teacher.
        source: who writes them, and what they are made from.
        path: the file.
        seed: of the repetition.
    """

    def __init__(
        self,
        settings: GenerateConfig,
        rules: Mapping[str, Rule],
        reference: Reference,
        network: Network,
        source: Source,
        path: Path,
        seed: int,
    ):
        self._reference, self._rules = reference, rules
        self._source, self._path = source, path
        sampling = Sampling(
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=zlib.crc32(f"{seed} {source.teacher}".encode()),
        )
        self._sampler = sampler_of(reference, network, sampling, settings.batch)

    def sample_until(self, enough: int, prompts: Mapping[int, str]) -> list[dict[str, Any]]:
        """Sample the prompts in order, until enough completions pass the filter or all are done.

        How many are sampled depends on earlier completions alone, so that a resumed stage samples
        the same ones. On several hosts all must call it; the first one writes.

        Args:
            enough: completions that must pass.
            prompts: by place, from 0 without gaps.
        """
        there = hosts.by_first(lambda: rows_there(self._path, prompts, self._source))
        rows = {row["meta"]["place"]: row for row in there}
        asked, passed = 0, 0
        while passed < enough and asked < len(prompts):
            rate = max(passed / asked, 0.1) if asked else 1.0
            more = min(len(prompts) - asked, round(1.05 * (enough - passed) / rate) + 20)
            wanted = range(asked, asked + more)
            missing = hosts.mine([place for place in wanted if place not in rows])
            answers = self._answers({place: prompts[place] for place in wanted}, set(missing))
            for made in hosts.together(answers):
                rows |= {row["meta"]["place"]: row for row in made}
                if hosts.is_first():
                    files.append_rows(self._path, made)
            asked += more
            passed = len(filter_rows((rows[place] for place in range(asked)), self._rules).kept)
        return [rows[place] for place in range(asked)]

    def _answers(
        self, prompts: Mapping[int, str], missing: Set[int]
    ) -> Iterator[list[dict[str, Any]]]:
        """The missing rows, some at a time, in the order in which they finish."""
        asked = (chat(text, system=self._source.system) for text in prompts.values())
        ids = self._reference.chat.prompts(asked)
        requests = [Request(place, prompt) for place, prompt in zip(prompts, ids, strict=True)]
        stream = self._sampler.stream(
            (request for request in requests if request.number in missing),
            among=requests,
            description=self._source.teacher,
        )
        for some in in_portions(stream, WRITE, WRITE_SECONDS):
            yield self._rows(prompts, some)

    def _rows(self, prompts: Mapping[int, str], some: Sequence[Completion]) -> list[dict[str, Any]]:
        """The rows of some completions; one that only the tokenizer rejects says why."""
        chats, row = self._reference.chat, self._source.row
        said = chats.texts(done.tokens.tolist() for done in some)
        rows = [
            row(done.number, prompts[done.number], text, done.stopped, unknown)
            for done, (text, unknown) in zip(some, said, strict=True)
        ]
        passing = filter_rows(rows, self._rules).kept
        faults = chats.faults(one["messages"] for one in passing)
        for one, fault in zip(passing, faults, strict=True):
            if fault is not None:
                place = one["meta"]["place"]
                changed = row(place, prompts[place], completion_of(one), True, fault)
                rows[rows.index(one)] = changed
        return rows


def rows_there(path: Path, prompts: Mapping[int, str], source: Source) -> list[dict[str, Any]]:
    """The rows that an interrupted run has left in a file.

    Raises:
        InputError: a line is not a row, completes none of these prompts, is another teacher's or
            made from something else, or was changed since; names the line and what is wrong.
    """
    rows = checked(files.read_rows(path), str(path))
    for line, one in enumerate(rows, start=1):
        if fault := _not_ours(one, prompts, source):
            raise InputError(
                f"{path}: line {line}: {fault}; remove the file, and it is sampled anew"
            )
    return rows


def _not_ours(one: dict[str, Any], prompts: Mapping[int, str], source: Source) -> str | None:
    """Why a row cannot be this source's; None if it is."""
    meta = one.get("meta", {})
    place, finished = meta.get("place"), meta.get("finished")
    if type(place) is not int or place not in prompts or type(finished) is not bool:
        return f"answers no prompt of this run (meta.place is {place!r})"
    wanted = source.row(place, prompts[place], completion_of(one), finished, meta.get("unreadable"))
    if one["messages"] != wanted["messages"]:
        return f"answers no prompt of this run (meta.place is {place!r})"
    different = differences(one, wanted)
    named = [field for field in different if not field.startswith("meta.digest ")]
    if named:
        return f"is not of this run ({'; '.join(named[:2])})"
    return "was changed, or is of another run (meta.digest)" if different else None


def in_portions(items: Iterable[T], most: int, seconds: float) -> Iterator[list[T]]:
    """Lists of at most so many items, each handed on within about so many seconds.

    Items that have arrived are handed on before an interrupt is raised.
    """
    portion, since = list[T](), time.monotonic()
    try:
        for item in items:
            portion.append(item)
            if len(portion) == most or time.monotonic() - since >= seconds:
                yield portion
                portion, since = [], time.monotonic()
    except KeyboardInterrupt:
        if portion:
            yield portion
        raise
    if portion:
        yield portion


def prompts_of(carrier: Carrier, count: int, seed: int) -> dict[int, str]:
    """The prompts that all teachers are asked, by place; the same in all repetitions.

    Args:
        carrier: which draws them.
        count: how many.
        seed: of the run.
    """
    return dict(enumerate(carrier.prompts(count, PROMPT_SEED + seed)))
