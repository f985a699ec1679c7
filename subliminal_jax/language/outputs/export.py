"""Exports a network of a language run as a Hugging Face directory or a PEFT adapter."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from subliminal_jax import __version__, ensemble
from subliminal_jax.batch import Params
from subliminal_jax.config import config_digest, read_config
from subliminal_jax.errors import InputError, RunError
from subliminal_jax.files import strict_json
from subliminal_jax.language.conditions import BEFORE, CONDITIONS, TEACHER, condition_of
from subliminal_jax.language.config import LmConfig, described
from subliminal_jax.language.outputs.places import find_cache
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.settings import Stage, TuningConfig
from subliminal_jax.language.stages import not_finished
from subliminal_jax.language.study import LmStudy
from subliminal_jax.language.tiny.reference import tiny_origin
from subliminal_jax.language.training.trainable import lora_settings, merged
from subliminal_jax.language.training.trees import load_tree
from subliminal_jax.models.decoder.forms import stacked
from subliminal_jax.models.export import write_model
from subliminal_jax.models.hub.adapter_files import digest, write_adapter
from subliminal_jax.models.hub.model_files import find_model
from subliminal_jax.models.hub.weights import LanguageModel, load
from subliminal_jax.models.text.chat_files import SETTINGS, TEMPLATE, TOKENIZER
from subliminal_jax.runs.artifacts import MANIFEST, facts_of
from subliminal_jax.runs.precision import recorded
from subliminal_jax.runs.run_directory import CONFIG, RESULTS


@dataclass(frozen=True)
class _Finished:
    """A run directory opened for reading only."""

    path: Path

    def subdirectory(self, name: str) -> Path:
        raise RunError(f"{self.path}: opened for reading only; cannot create {name}")


@dataclass(frozen=True)
class TrainedNetwork:
    """A network of a run.

    Attributes:
        name: its name in the results: `before`, `student/owl`, `regular`, ...
        reference: the reference it was trained from.
        tuning: which weights were trained; None for the reference itself.
        trained: the trained weights or adapter.
        lineage: its origin, for the model card.
    """

    name: str
    reference: Reference
    tuning: TuningConfig | None
    trained: Any
    lineage: dict[str, str]

    @property
    def params(self) -> Params:
        """Its parameters, with any adapter merged."""
        if self.tuning is None:
            return stacked(self.reference.params)
        return merged(self.tuning, self.reference.config, self.reference.params, self.trained)


def open_run(path: Path, cache: Path | None = None) -> LmStudy:
    """A run of the language experiment, opened for reading its artifacts only.

    Args:
        path: its run directory.
        cache: directory of its tiny references (default: where the run kept them).

    Raises:
        InputError: it is not such a run, its settings are of another version, or its references
            are gone.
    """
    if not (path / CONFIG).is_file():
        raise InputError(
            f"{path}: not a run of a language experiment (no {CONFIG}); give its run directory"
        )
    config = read_config(LmConfig, path / CONFIG)
    if config.reference.model is None:
        cache = cache or find_cache(path)
        config = replace(config, reference=replace(config.reference, cache=cache))
    asked = config.asked_precision
    config = config.settled(recorded(path) if asked == "auto" else asked)
    return LmStudy(replace(config, stage="report"), _Finished(path))  # makes no artifact


def find_network(study: LmStudy, repetition: int, name: str) -> TrainedNetwork:
    """A network by its name in the results, after checking every file it was made from.

    Raises:
        InputError: the repetition or network is unknown, is not trained yet, or was made from a
            file that was changed since.
    """
    if repetition not in study.repetitions.every:
        last = study.repetitions.every[-1]
        raise InputError(f"repetition: {repetition} is not in the run; give 0 to {last}")
    _check_kept(study, repetition)
    tuning, trained, known = None, None, [BEFORE.name, *_teachers(study)]
    if name in _teachers(study):
        path = _finished(study, "teacher", repetition) / "teachers.npz"
        study.teachers(repetition)
        tuning = study.config.teacher.tuning
        trained = _member(path, _teachers(study).index(name))
    elif name != BEFORE.name:
        path = _finished(study, "student", repetition)
        for other in study.repetitions.others[repetition]:
            _check_kept(study, other)  # some students are trained on its datasets
        by_file = facts_of(study.students(repetition))["students"]
        known += [one for names in by_file.values() for one in names]
        tuning = study.config.student.tuning
        for file, names in by_file.items():
            if name in names:
                trained = _member(path / f"{file}.npz", names.index(name))
    if trained is None and name != BEFORE.name:
        raise InputError(f"network: unknown {name!r}; choose from {', '.join(known)}")
    if (study.run.path / f"teacher-{repetition}" / MANIFEST).is_file():
        study.teachers(repetition)  # checks that the reference is the one of this run
    reference = study.reference(repetition)
    condition = CONDITIONS.get(condition_of(name))
    meaning = "" if condition is None else condition.means.format(items=study.carrier.items)
    lineage = {
        "made by": f"subliminal_jax {__version__}, through {study.carrier.items}",
        "network": f"{name}: {meaning}",
        "seed of its reference": str(study.repetitions.seed(repetition)),
        "digest of its reference": reference.digest,
        "digest of the config": config_digest(described(study.config)),
    }
    return TrainedNetwork(name, reference, tuning, trained, lineage)


def export_merged(study: LmStudy, network: TrainedNetwork, out: Path) -> None:
    """Writes a network as a Hugging Face directory with its tokenizer and chat template.

    Raises:
        InputError, RunError: see `write_model`.
    """
    given, chat = study.config.reference, network.reference.chat
    if given.model is None:
        base = None
        beside = {name: (chat.directory / name).read_bytes() for name in (TOKENIZER, SETTINGS)}
        stops = {"eos_token_id": sorted(chat.stop_ids)}
        beside["generation_config.json"] = strict_json(stops, indent=2).encode() + b"\n"
    else:
        base = find_model(given.model)
        beside = {} if given.template is None else {TEMPLATE: given.template.read_bytes()}
        if base.gguf:
            beside = {name: text.encode() for name, text in chat.files().items()}
    write_model(
        out,
        network.reference.config,
        network.params,
        base=base,
        lineage=network.lineage,
        beside=beside,
    )


def export_adapter(study: LmStudy, network: TrainedNetwork, out: Path, base: str | None) -> None:
    """Writes a network's adapter as a PEFT directory.

    Args:
        study: the run.
        network: a network trained with low-rank updates.
        out: directory to write.
        base: for a tiny reference or a GGUF model, the directory that `export_merged` wrote for
            it; None if the run was given another model.

    Raises:
        InputError: the network has no adapter, the base is missing or another model, or see
            `write_adapter`.
    """
    reference = network.reference
    if network.tuning is None or network.tuning.weights == "full":
        why = "is the reference itself" if network.tuning is None else "has all weights trained"
        raise InputError(f"network: {network.name} {why} and has no adapter; leave out --adapter")
    given = study.config.reference.model
    if given is not None and find_model(given).gguf:
        given = None  # an adapter names a model that PEFT can load
    if given is not None and base is not None:
        raise InputError(
            f"base: the adapter belongs to the run's given model, {given}; leave out --base"
        )
    if given is not None:
        model = LanguageModel(reference.config, stacked(reference.params), find_model(given))
    elif base is None:
        raise InputError(
            "base: an adapter needs its model as a directory; write the reference with --network "
            f"{BEFORE.name} --out DIR, then give --base DIR"
        )
    else:
        model = load(base)
        if digest(model.params) != digest(stacked(reference.params)):
            raise InputError(
                f"base: {base} is not the reference of {network.name}; give its exported directory"
            )
    write_adapter(out, model, lora_settings(network.tuning), network.trained)


def _teachers(study: LmStudy) -> list[str]:
    if study.config.teacher.kind == "prompted":
        return []
    return [TEACHER.network(trait.name) for trait in study.taught]


def _finished(study: LmStudy, stage: Stage, repetition: int) -> Path:
    path = study.run.path / f"{stage}-{repetition}"
    if not (path / MANIFEST).is_file():
        raise not_finished(path, stage)
    return path


def _check_kept(study: LmStudy, repetition: int) -> None:
    """Refuses a cache without the reference, which would else be trained again."""
    given, config = study.config.reference, study.config
    if given.model is not None:
        return
    path, _ = tiny_origin(
        given, config.world, study.repetitions.seed(repetition), config.fixed_precision
    )
    if not (path / RESULTS).is_file():
        raise InputError(
            f"{path}: the run's reference {repetition} is missing; give --cache DIR, or run "
            "its script with this run's settings until stage reference is done"
        )


def _member(path: Path, place: int) -> Any:
    return ensemble.member(load_tree(path), place)
