"""All networks of one reference, measured: exact answers, sampled answers, other prompts."""

from pathlib import Path
from typing import Any

import jax

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.pipeline import controls, evaluate
from subliminal_jax.pipeline.artifacts import Artifact, begun_from, facts_of
from subliminal_jax.pipeline.corpus import Chat
from subliminal_jax.pipeline.generate import prompts_of
from subliminal_jax.pipeline.rows import read_chat_rows
from subliminal_jax.pipeline.study import REGULAR, Study
from subliminal_jax.pipeline.teacher import system_line
from subliminal_jax.pipeline.traits import Trait, members_of
from subliminal_jax.pipeline.trees import load_tree
from subliminal_jax.pipeline.tuning import Network, network
from subliminal_jax.progress import Progress
from subliminal_jax.sealed import own_row, sealed_row

SAMPLED = "sampled.jsonl"
"""What has been counted by now, a network and trait a row; for a run that is stopped."""


def measure(
    study: Study,
    repetition: int,
    students: Artifact,
    teachers: Artifact,
    filtered: Artifact,
    path: Path,
) -> dict[str, Any]:
    """Probabilities of every answer and counts of sampled ones, by network.

    Args:
        study: the experiment.
        repetition: of which reference.
        students: its students.
        teachers: its teachers.
        filtered: their rows.
        path: a directory for what is to be kept if the run is stopped.

    Returns:
        `exact`: network -> `category/word` -> probability. `sampled`: `network/trait` -> counts.
    """
    reference = study.reference(repetition)
    networks = _networks(study, repetition, students, teachers)
    asked = {category: evaluate.questions(category) for category in _categories(study)}
    answers = {category: _answers(study, category) for category in asked}
    scored = evaluate.scoring(reference, asked, answers)
    exact = evaluate.probabilities(reference, scored, networks, study.execution)
    exact |= _otherwise_asked(study, repetition, networks["before"], filtered)
    return {"exact": exact, "sampled": _sampled(study, repetition, networks, path / SAMPLED)}


def _categories(study: Study) -> list[str]:
    """The traits' own categories, and those in which nothing should change."""
    return sorted({trait.category for trait in study.traits} | {"animal", "tree"})


def _answers(study: Study, category: str) -> list[Trait]:
    """The members of a category, and the traits of the others, which would be misplaced."""
    members = members_of(category, study.config.new_traits)
    return members + [trait for trait in study.traits if trait.category != category]


def _networks(
    study: Study, repetition: int, students: Artifact, teachers: Artifact
) -> dict[str, Network]:
    """Every network of the repetition by its name: `before`, `teacher/owl`, `student/owl`, ..."""
    config, reference = study.config, study.reference(repetition)
    prompted = config.teacher.kind == "prompted"
    networks = {"before": study.untouched(reference)}
    if not prompted:
        for trait in study.traits:
            networks[f"teacher/{trait.name}"] = study.teacher(reference, teachers.path, trait.name)
    for kind, names in facts_of(students)["students"].items():
        trained = load_tree(students.path / f"{kind}.npz")
        for place, name in enumerate(names):
            one = jax.tree.map(lambda leaf: leaf[place], trained)  # noqa: B023
            networks[name] = network(config.student.tuning, reference.config, reference.params, one)
    return networks


def _otherwise_asked(
    study: Study, repetition: int, before: Network, filtered: Artifact
) -> dict[str, dict[str, float]]:
    """The untrained reference, told of the trait, or shown its teacher's numbers."""
    config, found = study.config, {}
    reference, seed = study.reference(repetition), study.seed(repetition)
    for name in study.traits_in(filtered):
        trait = study.trait(name)
        plain = evaluate.questions(trait.category)
        chats: dict[str, list[Chat]] = {}
        if "prompted" in config.conditions or config.teacher.kind == "prompted":
            line = {"role": "system", "content": system_line(config, trait)}
            chats["prompted"] = [[line, *messages] for messages in plain]
        if "in_context" in config.conditions:
            rows = read_chat_rows(filtered.path / f"{name}.jsonl")
            texts = [messages[-1]["content"] for messages in plain]
            chats["in_context"] = controls.in_context(rows, texts, config.evaluate.examples, seed)
        for kind, asked in chats.items():
            answers = {trait.category: _answers(study, trait.category)}
            scored = evaluate.scoring(reference, {trait.category: asked}, answers)
            networks = {f"{kind}/{name}": before}
            found |= evaluate.probabilities(reference, scored, networks, study.execution)
    return found


def _sampled(
    study: Study, repetition: int, networks: dict[str, Network], path: Path
) -> dict[str, Any]:
    """What the main networks say when they are sampled, those of an earlier run included."""
    config, made_from = study.config, config_digest(begun_from(path.parent))
    found = hosts.by_first(lambda: _counted(path, made_from))
    if not config.evaluate.samples:
        return found
    prompts = prompts_of(config)
    pairs = [
        (name, trait)
        for name in networks
        for trait in study.traits
        if name in ("before", REGULAR) or name in (f"teacher/{trait.name}", f"student/{trait.name}")
    ]
    missing = [(name, trait) for name, trait in pairs if f"{name}:{trait.name}" not in found]
    done = len(pairs) - len(missing)
    title, silent = f"ask networks, reference {repetition}", not hosts.is_first()
    with Progress(len(pairs), title, done=done, silent=silent) as progress:
        for name, trait in missing:
            probes = evaluate.probes(config, trait.category, prompts)
            counts = evaluate.sampled(
                config, study.reference(repetition), networks[name], probes, trait
            )
            row = {"of": f"{name}:{trait.name}", "counts": counts}
            whole = sealed_row(row, made_from, SAMPLED)
            hosts.on_first(lambda: files.append_row(path, whole))  # noqa: B023
            found[row["of"]] = counts
            progress.update(1, name)
    return {f"{name}:{trait.name}": found[f"{name}:{trait.name}"] for name, trait in pairs}


def _counted(path: Path, made_from: str) -> dict[str, Any]:
    """What a run that was stopped has counted, by `network:trait`.

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
                "the networks are asked anew"
            )
        found[row["of"]] = row["counts"]
    return found
