"""All networks of one reference, measured: exact probabilities, and sampled answers."""

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
from subliminal_jax.language.conditions import BEFORE, CONDITIONS, REGULAR, STUDENT
from subliminal_jax.language.evaluation import evaluate
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.language.traits.trait import Poll, Trait, merged_polls
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.progress import Progress
from subliminal_jax.runs.artifacts import begun_from
from subliminal_jax.runs.sealed import own_row, sealed_row

SAMPLED = "sampled.jsonl"
"""The counts so far, a row for each network and trait; an interrupted run resumes from them."""


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """Who is measured.

    Attributes:
        reference: of all networks.
        networks: by name: `before`, `teacher/owl`, `student/owl`, ...
        traits: what they are measured for.
        execution: where they are measured.
    """

    reference: Reference
    networks: Mapping[str, Network]
    traits: Sequence[Trait]
    execution: Execution


def exact(subjects: Subjects, told: Mapping[str, Sequence[Poll]]) -> dict[str, dict[str, float]]:
    """P(answer) by `topic/answer`, for every network.

    Args:
        subjects: who is measured.
        told: by a further network's name, polls with something before their questions, which the
            untrained reference is asked.
    """
    reference, execution = subjects.reference, subjects.execution
    scored = evaluate.scoring(reference, merged_polls(subjects.traits))
    found = evaluate.probabilities(reference, scored, subjects.networks, execution)
    for name, polls in told.items():
        before = {name: subjects.networks[BEFORE.name]}
        scored = evaluate.scoring(reference, polls)
        found |= evaluate.probabilities(reference, scored, before, execution)
    return found


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What is sampled from the main networks.

    Attributes:
        carrier: whose form is checked.
        prompts: of the carrier.
        each: samples of each question; 0 for none.
        sampling: how answers are drawn.
        batch: answers that are sampled together.
    """

    carrier: Carrier
    prompts: Sequence[str]
    each: int
    sampling: Sampling
    batch: int


def sampled(subjects: Subjects, samples: Samples, path: Path, title: str) -> dict[str, Any]:
    """Counts of sampled answers by `network/trait`, those of an interrupted run included.

    Args:
        subjects: who is asked.
        samples: what.
        path: the directory of the artifact that is being made.
        title: what the progress bar shows.
    """
    made_from = config_digest(begun_from(path))
    found = hosts.by_first(lambda: _counted(path / SAMPLED, made_from))
    if not samples.each:
        return found
    pairs = [(name, trait) for name in subjects.networks for trait in subjects.traits
             if _is_sampled(name, trait)]  # fmt: skip
    missing = [(name, trait) for name, trait in pairs if f"{name}:{trait.name}" not in found]
    done, silent = len(pairs) - len(missing), not hosts.is_first()
    with Progress(len(pairs), title, done=done, silent=silent) as progress:
        for name, trait in missing:
            counts = _counts(subjects, samples, name, trait)
            row = {"of": f"{name}:{trait.name}", "counts": counts}
            whole = sealed_row(row, made_from, SAMPLED)
            hosts.on_first(lambda: files.append_row(path / SAMPLED, whole))  # noqa: B023
            found[row["of"]] = counts
            progress.update(1, name)
    return {f"{name}:{trait.name}": found[f"{name}:{trait.name}"] for name, trait in pairs}


def _counts(subjects: Subjects, samples: Samples, name: str, trait: Trait) -> dict[str, Any]:
    carrier, seed = samples.carrier, samples.sampling.seed
    return evaluate.sampled(
        subjects.reference,
        subjects.networks[name],
        trait,
        carrier,
        evaluate.probes(trait, carrier, samples.prompts, samples.each, seed),
        samples.sampling,
        samples.batch,
    )


def _is_sampled(name: str, trait: Trait) -> bool:
    """Whether a network is sampled for a trait: its own teacher and student, and who has none."""
    own = {CONDITIONS["teacher"].network(trait.name), STUDENT.network(trait.name)}
    return name in {BEFORE.name, REGULAR, *own}


def _counted(path: Path, made_from: str) -> dict[str, Any]:
    """The counts of an interrupted run, by `network:trait`.

    Args:
        path: of its rows.
        made_from: the digest of what the networks are made from.
    """
    found = {}
    for line, given in enumerate(files.read_rows(path), start=1):
        row = own_row(given, made_from, SAMPLED)
        if row is None or row.keys() != {"of", "counts"}:
            raise InputError(
                f"{path}: line {line}: is not of this run, or was changed; remove the file, and "
                "the networks are sampled again"
            )
        found[row["of"]] = row["counts"]
    return found
