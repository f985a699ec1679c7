"""Measures all networks of one reference: exact probabilities, and sampled answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.conditions import BEFORE, CONDITIONS
from subliminal_jax.language.evaluation import evaluate
from subliminal_jax.language.evaluation.begun import begun_probabilities
from subliminal_jax.language.judge.judge import Judge
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.language.traits.trait import Poll, Trait
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.progress import Progress
from subliminal_jax.runs.artifacts import begun_from
from subliminal_jax.runs.sealed import own_row, sealed_row

SAMPLED = "sampled.jsonl"
"""File of counts so far, a row for each network and trait; an interrupted run resumes from it."""


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """The networks to measure.

    Attributes:
        reference: reference of all networks.
        networks: networks by name: `before`, `teacher/owl`, `student/owl`, ...
        traits: traits to measure in them.
        execution: devices to compute on.
    """

    reference: Reference
    networks: Mapping[str, Network]
    traits: Sequence[Trait]
    execution: Execution


def exact(
    subjects: Subjects, every: Sequence[Poll], prefixed: Mapping[str, Sequence[Poll]]
) -> dict[str, dict[str, float]]:
    """P(answer) of every network, by network and `topic/answer`.

    Args:
        subjects: the networks to measure.
        every: polls for all networks.
        prefixed: polls with a system prompt or examples before each question, for the untrained
            reference; by the name of the network that it then counts as.
    """
    reference, execution = subjects.reference, subjects.execution
    scored = evaluate.scoring(reference, every)
    probabilities = evaluate.probabilities(reference, scored, subjects.networks, execution)
    for name, polls in prefixed.items():
        before = {name: subjects.networks[BEFORE.name]}
        scored = evaluate.scoring(reference, polls)
        probabilities |= evaluate.probabilities(reference, scored, before, execution)
    return probabilities


def begun(
    subjects: Subjects, polls: Sequence[Poll], prefixed: Mapping[str, Sequence[Poll]]
) -> dict[str, dict[str, list[float]]]:
    """Log probabilities of answers begun for the networks, by network and `topic/answer`.

    Args:
        subjects: the networks to measure.
        polls: chats that end with the beginning of an answer.
        prefixed: as for `exact`.
    """
    reference, execution = subjects.reference, subjects.execution
    probabilities = begun_probabilities(reference, polls, subjects.networks, execution)
    for name, told in prefixed.items():
        before = {name: subjects.networks[BEFORE.name]}
        probabilities |= begun_probabilities(reference, told, before, execution)
    return probabilities


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What to sample from the main networks.

    Attributes:
        carrier: carrier whose form is checked.
        prompts: prompts of the carrier.
        each: answers to each question; 0 for none.
        sampling: length, temperature and seed.
        batch: answers sampled at a time.
        judge: scores answers for traits with rubrics; None for none.
    """

    carrier: Carrier
    prompts: Sequence[str]
    each: int
    sampling: Sampling
    batch: int
    judge: Judge | None = None


def sampled(subjects: Subjects, samples: Samples, path: Path, title: str) -> dict[str, Any]:
    """Counts over sampled answers by `network:trait`, resuming from those of an interrupted run.

    Args:
        subjects: the networks to sample from.
        samples: questions and sampling settings.
        path: directory of the unfinished artifact.
        title: title of the progress bar.
    """
    made_from = config_digest(begun_from(path))
    counted = hosts.by_first(lambda: _counted(path / SAMPLED, made_from))
    if not samples.each:
        return counted
    pairs = [(name, trait) for name in subjects.networks for trait in subjects.traits
             if _is_sampled(name, trait)]  # fmt: skip
    missing = [(name, trait) for name, trait in pairs if f"{name}:{trait.name}" not in counted]
    done, silent = len(pairs) - len(missing), not hosts.is_first()
    with Progress(len(pairs), title, done=done, silent=silent) as progress:
        for name, trait in missing:
            counts = _counts(subjects, samples, name, trait)
            row = {"of": f"{name}:{trait.name}", "counts": counts}
            whole = sealed_row(row, made_from, SAMPLED)
            hosts.on_first(lambda: files.append_row(path / SAMPLED, whole))  # noqa: B023
            counted[row["of"]] = counts
            progress.update(1, name)
    return {f"{name}:{trait.name}": counted[f"{name}:{trait.name}"] for name, trait in pairs}


def _counts(subjects: Subjects, samples: Samples, name: str, trait: Trait) -> dict[str, Any]:
    carrier, seed = samples.carrier, samples.sampling.seed
    return evaluate.sampled_tallies(
        subjects.reference,
        subjects.networks[name],
        trait,
        carrier,
        evaluate.probes(trait, carrier, samples.prompts, samples.each, seed),
        samples.sampling,
        samples.batch,
        samples.judge,
    )


def _is_sampled(name: str, trait: Trait) -> bool:
    """Whether to sample a network for a trait: networks of another trait are not."""
    return name in {one.network(trait.name) for one in CONDITIONS.values() if one.sampled}


def _counted(path: Path, made_from: str) -> dict[str, Any]:
    """The counts of an interrupted run, by `network:trait`.

    Args:
        path: file of its rows.
        made_from: digest of what the networks are made from.

    Raises:
        InputError: a row is of another run, or was changed; names the line.
    """
    counted = {}
    for line, given in enumerate(files.read_rows(path), start=1):
        row = own_row(given, made_from, SAMPLED)
        if row is None or row.keys() != {"of", "counts"}:
            raise InputError(
                f"{path}: line {line}: belongs to another run, or was changed; remove the file to "
                "sample the networks again"
            )
        counted[row["of"]] = row["counts"]
    return counted
