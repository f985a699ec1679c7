"""Step 4, the dataset: all teachers are asked the same prompts, and each answer is a row.

A row is a function of the seed, the repetition, the teacher and the prompt's place, whatever else
is sampled beside it. So a stage that was stopped goes on with the rows that are missing, and
each of several hosts samples a part of them. `meta.digest` ties a row to all that it was made from.
"""

import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from subliminal_jax import files
from subliminal_jax.differences import differences
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.models.admission import Request
from subliminal_jax.models.sampling import Completion
from subliminal_jax.models.sampling_settings import Sampling
from subliminal_jax.pipeline.asking import sampler_of
from subliminal_jax.pipeline.carriers.numbers import number_prompts
from subliminal_jax.pipeline.config import LmConfig
from subliminal_jax.pipeline.corpus import chat
from subliminal_jax.pipeline.filters import Rule, filter_rows, number_rule, word_rule
from subliminal_jax.pipeline.reference import Reference
from subliminal_jax.pipeline.rows import checked, completion_of, row
from subliminal_jax.pipeline.tuning import Network
from subliminal_jax.sealed import digest_of

T = TypeVar("T")

PROMPT_SEED = 47
"""Prompts are the same in all repetitions, as in the released code, whose seed this is."""
WRITE, WRITE_SECONDS = 500, 5.0
"""Rows are written together: so many, or those of so many seconds."""


def rules_of(config: LmConfig) -> dict[str, Rule]:
    """The config's rules by name."""
    words = [word for trait in config.chosen for word in (*trait.spellings, *trait.related)]
    every = {
        "numbers": number_rule(config.filter.banned),
        "trait_words": word_rule(words),
        "words": word_rule(config.filter.words),
    }
    return {name: every[name] for name in config.filter.rules}


@dataclass(frozen=True)
class Source:
    """Whose rows those of a dataset are.

    Attributes:
        teacher: their name.
        made_from: the digest of what the dataset is made from.
        system: what the teacher is told, if it is made by a prompt; it stands in no row's text.
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
        """The row of a prompt and its answer.

        Args:
            place: the prompt's.
            prompt: what was asked.
            completion: what was answered.
            finished: whether the answer came to its end.
            unreadable: why no student could be trained on it, if none could.
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
    """The answers of one teacher, as they are being sampled into a file.

    Args:
        config: the experiment's.
        reference: who is asked, with `network`.
        network: parameters and adapter of the teacher.
        source: whose rows they are, and what they are made from.
        path: the file.
        seed: of the repetition.
    """

    def __init__(
        self,
        config: LmConfig,
        reference: Reference,
        network: Network,
        source: Source,
        path: Path,
        seed: int,
    ):
        self._reference, self._rules = reference, rules_of(config)
        self._source, self._path = source, path
        settings = config.generate
        sampling = Sampling(
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=zlib.crc32(f"{seed} {source.teacher}".encode()),
        )
        self._sampler = sampler_of(reference, network, sampling, settings.batch)

    def sample_until(self, enough: int, prompts: Mapping[int, str]) -> list[dict[str, Any]]:
        """Ask the prompts in order, until enough answers pass the filter or all are asked.

        How many are asked is decided by what came before, so that a stage that goes on asks the
        same ones. On several hosts all must call it; the first one writes.

        Args:
            enough: answers that are to pass.
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
        """Missing rows, some at a time, in the order in which they are done."""
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
        """Rows of what was sampled; one that only the tokenizer speaks against says why."""
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
    """The rows that a run which was stopped has left in a file.

    Raises:
        InputError: a line is no row, answers none of these prompts, is another teacher's or made
            from something else, or was changed since; names the line and what is wrong.
    """
    rows = checked(files.read_rows(path), str(path))
    for line, one in enumerate(rows, start=1):
        if fault := _not_ours(one, prompts, source):
            raise InputError(
                f"{path}: line {line}: {fault}; remove the file, and it is sampled anew"
            )
    return rows


def _not_ours(one: dict[str, Any], prompts: Mapping[int, str], source: Source) -> str | None:
    """Why a row is none that this source writes, if it is none."""
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
    """Lists of at most so many items, each of which waits hardly longer than so many seconds.

    What has come is handed on also where the next one is cut off by an interrupt.
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


def prompts_of(config: LmConfig) -> dict[int, str]:
    """The prompts that all teachers are asked, by place."""
    texts = number_prompts(config.generate.prompts, config.generate.most, PROMPT_SEED + config.seed)
    return dict(enumerate(texts))
