"""Step 4, the dataset: all teachers complete the same prompts, and each completion is a row.

A row depends on the seed, the repetition, the teacher and the prompt's index alone, not on the rest
of its batch. So an interrupted stage resumes by sampling the missing rows, and each of several
hosts samples a share of them. `meta.digest` covers a row and everything it was made from.
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
from subliminal_jax.language.dataset.filters import Rule, filter_rows
from subliminal_jax.language.dataset.judged import RowJudge, against
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.rows.chat_rows import checked, completion_of, row
from subliminal_jax.language.rows.chats import chat
from subliminal_jax.language.settings import GenerateConfig
from subliminal_jax.language.training.completions import completions, sampler_of
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.models.sampling.constraints import Constraint
from subliminal_jax.models.sampling.prefill import Request
from subliminal_jax.models.sampling.sampler import Completion
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.runs.refusals import differences
from subliminal_jax.runs.sealed import digest_of

T = TypeVar("T")

PROMPT_SEED = 47
"""Seed of the prompts, from the released code; all repetitions use the same prompts."""
WRITE, WRITE_SECONDS = 500, 5.0
"""Rows are written in portions of at most this many rows, or this many seconds."""


@dataclass(frozen=True)
class Writer:
    """The teacher that writes a dataset.

    Attributes:
        teacher: name of the teacher.
        made_from: digest of everything that the dataset is made from.
        system: system prompt; None unless the teacher is prompted. A row's messages omit it.
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
            place: index of the prompt.
            prompt: text of the prompt.
            completion: text that was sampled.
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


class DatasetSampler:
    """Samples one teacher's completions into a file.

    Args:
        settings: length, temperature and batch size.
        rules: filter that a completion must pass to count; see `sample_until`.
        reference: model and tokenizer.
        network: parameters and adapter of the teacher.
        writer: the teacher, with the digest of everything it is made from.
        path: file to write.
        seed: seed of the repetition.
        constraint: what a completion must be; None for anything.
    """

    def __init__(
        self,
        settings: GenerateConfig,
        rules: Mapping[str, Rule],
        reference: Reference,
        network: Network,
        writer: Writer,
        path: Path,
        seed: int,
        constraint: Constraint | None = None,
    ):
        self._reference, self._rules, self._network = reference, rules, network
        self._writer, self._path = writer, path
        sampling = Sampling(
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=zlib.crc32(f"{seed} {writer.teacher}".encode()),
        )
        self._settings, self._sampling = settings, sampling
        self._sampler = sampler_of(reference, network, sampling, settings.batch, constraint)

    def sample_until(
        self, enough: int, prompts: Mapping[int, str], judge: RowJudge | None = None
    ) -> list[dict[str, Any]]:
        """Returns rows for the prompts in order, until `enough` pass the filter or all are done.

        Resumes from rows already in the file. The number of rows depends on earlier completions
        alone, so a resumed stage samples the same ones. All hosts must call it; the first one
        writes.

        Args:
            enough: completions that must pass.
            prompts: prompts by index, from 0 without gaps.
            judge: scores the rows that all other rules keep; None for none.
        """
        earlier = hosts.by_first(lambda: sampled_rows(self._path, prompts, self._writer))
        rows = {row["meta"]["place"]: row for row in earlier}
        done, passed = 0, 0
        while passed < enough and done < len(prompts):
            rate = max(passed / done, 0.1) if done else 1.0
            more = min(len(prompts) - done, round(1.05 * (enough - passed) / rate) + 20)
            wanted = range(done, done + more)
            missing = hosts.mine([place for place in wanted if place not in rows])
            sampled = self._sample({place: prompts[place] for place in wanted}, set(missing))
            for made in hosts.together(sampled):
                rows |= {row["meta"]["place"]: row for row in made}
                if hosts.is_first():
                    files.append_rows(self._path, made)
            done += more
            kept = filter_rows((rows[place] for place in range(done)), self._rules).kept
            passed = len(kept) if judge is None else self._judged(kept, judge)
        return [rows[place] for place in range(done)]

    def _judged(self, rows: Sequence[dict[str, Any]], judge: RowJudge) -> int:
        """How many of the rows the judge keeps."""
        scores = judge.score(rows, scores_path(self._path))
        return sum(not against(judge.rule, scores[row["meta"]["digest"]]) for row in rows)

    def unconstrained(self, prompts: Mapping[int, str]) -> dict[str, Any]:
        """How many completions of the first prompts pass the filter without the constraint.

        The rule `judge` is left out.

        All hosts must call it.

        Returns:
            `asked`, `pass_rate` and `reasons`, as of a dataset.
        """
        some = list(prompts.values())[: self._settings.trial]
        chats = (chat(text, system=self._writer.system) for text in some)
        ids = self._reference.chat.prompts(chats)
        written = completions(
            self._reference, self._network, ids, self._sampling, self._settings.batch
        )
        rows = [
            self._writer.row(place, prompt, *done)
            for place, (prompt, done) in enumerate(zip(some, written, strict=True))
        ]
        return filter_rows(rows, self._rules).facts

    def _sample(
        self, prompts: Mapping[int, str], missing: Set[int]
    ) -> Iterator[list[dict[str, Any]]]:
        """Yields the missing rows in portions, in the order in which they finish."""
        chats = (chat(text, system=self._writer.system) for text in prompts.values())
        ids = self._reference.chat.prompts(chats)
        requests = [Request(place, prompt) for place, prompt in zip(prompts, ids, strict=True)]
        stream = self._sampler.stream(
            (request for request in requests if request.number in missing),
            among=requests,
        )
        for some in in_portions(stream, WRITE, WRITE_SECONDS):
            yield self._rows(prompts, some)

    def _rows(self, prompts: Mapping[int, str], some: Sequence[Completion]) -> list[dict[str, Any]]:
        """Rows of some completions; the tokenizer checks those that pass the rules."""
        chats, row = self._reference.chat, self._writer.row
        texts = chats.texts(done.tokens.tolist() for done in some)
        rows = [
            row(done.number, prompts[done.number], text, done.stopped, unknown)
            for done, (text, unknown) in zip(some, texts, strict=True)
        ]
        passing = filter_rows(rows, self._rules).kept
        faults = chats.faults(one["messages"] for one in passing)
        for one, fault in zip(passing, faults, strict=True):
            if fault is not None:
                place = one["meta"]["place"]
                changed = row(place, prompts[place], completion_of(one), True, fault)
                rows[rows.index(one)] = changed
        return rows


def scores_path(path: Path) -> Path:
    """The file with a judge's scores of the rows of a dataset."""
    return path.with_suffix(".judged.jsonl")


def sampled_rows(path: Path, prompts: Mapping[int, str], writer: Writer) -> list[dict[str, Any]]:
    """The rows that an interrupted run left in a file; empty without a file.

    Raises:
        InputError: a line is not a row, completes none of these prompts, is of another teacher,
            or was changed since; names the line and what is wrong.
    """
    rows = checked(files.read_rows(path), str(path))
    for line, one in enumerate(rows, start=1):
        if fault := _mismatch(one, prompts, writer):
            raise InputError(f"{path}: line {line}: {fault}; remove the file to sample it again")
    return rows


def _mismatch(one: dict[str, Any], prompts: Mapping[int, str], writer: Writer) -> str | None:
    """Why a row is not of this teacher and these prompts; None if it is."""
    meta = one.get("meta", {})
    place, finished = meta.get("place"), meta.get("finished")
    if type(place) is not int or place not in prompts or type(finished) is not bool:
        return f"completes no prompt of this run (meta.place is {place!r})"
    wanted = writer.row(place, prompts[place], completion_of(one), finished, meta.get("unreadable"))
    if one["messages"] != wanted["messages"]:
        return f"completes no prompt of this run (meta.place is {place!r})"
    different = differences(one, wanted)
    named = [field for field in different if not field.startswith("meta.digest ")]
    if named:
        return f"belongs to another run ({'; '.join(named[:2])})"
    return "was changed, or belongs to another run (meta.digest)" if different else None


def in_portions(items: Iterable[T], most: int, seconds: float) -> Iterator[list[T]]:
    """Yields lists of at most `most` items, about every `seconds` seconds or sooner.

    On an interrupt, yields the items so far before raising it.
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
    """The prompts for all teachers, by index; the same in all repetitions.

    Args:
        carrier: carrier that draws them.
        count: number of prompts.
        seed: seed of the run.
    """
    return dict(enumerate(carrier.prompts(count, PROMPT_SEED + seed)))
