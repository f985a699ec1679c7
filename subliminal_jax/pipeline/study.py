"""The six steps of every repetition, each an artifact made from the ones before it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from subliminal_jax import files
from subliminal_jax.config import config_dict, config_digest
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.keys import root_key
from subliminal_jax.pipeline import artifacts, controls, evaluate, generate
from subliminal_jax.pipeline.artifacts import Artifact, Place, Recipe, facts_of
from subliminal_jax.pipeline.config import LmConfig, Stage
from subliminal_jax.pipeline.devices import compute_of, execution_of
from subliminal_jax.pipeline.filters import audit_carrier, filter_rows, take
from subliminal_jax.pipeline.finetune import padding_of
from subliminal_jax.pipeline.reference import Reference, given_reference, tiny_reference
from subliminal_jax.pipeline.resumable import Saving
from subliminal_jax.pipeline.rows import read_chat_rows, write_rows
from subliminal_jax.pipeline.student import students_table, train_students
from subliminal_jax.pipeline.teacher import check_teachers, finetune_teachers, system_line
from subliminal_jax.pipeline.traits import Trait
from subliminal_jax.pipeline.trees import load_tree, tree_bytes
from subliminal_jax.pipeline.tuning import Network, begin, network
from subliminal_jax.progress import Progress
from subliminal_jax.shared_run import say

REGULAR = "regular"


class Study:
    """An experiment's artifacts, made when they are first asked for.

    Args:
        config: the experiment's.
        run: its run directory, as all hosts have it.

    Attributes:
        repetitions: one for each reference.
        execution: how networks are trained and measured.

    Raises:
        InputError: the mesh does not fit the devices.
    """

    def __init__(self, config: LmConfig, run: Place):
        self.config, self.run = config, run
        self.execution = execution_of(config)
        self.repetitions = range(config.references)
        self.traits = config.chosen
        self._settings = config_dict(config)
        self._references: dict[int, Reference] = {}
        self._prompts = generate.prompts_of(config)

    def seed(self, repetition: int) -> int:
        """The seed of a repetition; seeds of neighbouring runs overlap, as their config says."""
        return self.config.seed + repetition

    def neighbour(self, repetition: int) -> int | None:
        """Whose numbers the students of another reference are trained on; None without another."""
        given = self.config.reference.model is not None
        return None if given or len(self.repetitions) < 2 else (repetition + 1) % len(
            self.repetitions
        )  # fmt: skip

    def reference(self, repetition: int) -> Reference:
        """Step 1: the reference, pretrained here or given."""
        place = 0 if self.config.reference.model is not None else repetition
        if place not in self._references:
            settings = self.config.reference
            if settings.model is not None:
                made = given_reference(
                    settings.model, settings, self.execution, compute_of(self.config)
                )
            else:
                prompts, new = self.config.generate.prompts, list(self.config.new_traits)
                made = tiny_reference(
                    settings, prompts, self.seed(repetition), new, self.config.save_seconds
                )
            self._references[place] = made
        return self._references[place]

    def teachers(self, repetition: int) -> Artifact:
        """Steps 2 and 3: every trait's teacher, and whether it shows its trait."""
        config = self.config

        def make(path: Path) -> dict[str, Any]:
            reference = self.reference(repetition)
            if config.teacher.kind == "finetuned":
                self._trained(
                    path / "teachers.npz",
                    partial(finetune_teachers, config, reference, self.seed(repetition)),
                )
            rates = {
                trait.name: self._teacher_rate(reference, path, place)
                for place, trait in enumerate(self.traits)
            }
            for warning in check_teachers(rates, config.teacher.floor):
                say(f"WARNING: {warning}")
            return {"p_trait": rates}

        parts = ("traits", "new_traits", "teacher")
        return self._artifact("teacher", repetition, parts, (), make)

    def numbers(self, repetition: int) -> Artifact:
        """Step 4: every teacher's answers to the same prompts, and the reference's own."""
        teachers = self.teachers(repetition)

        def make(path: Path) -> dict[str, Any]:
            reference, asked = self.reference(repetition), {}
            names = [REGULAR, *(trait.name for trait in self.traits)]
            made_from = config_digest(artifacts.begun_from(path))
            title, silent = f"sample numbers, reference {repetition}", not hosts.is_first()
            with Progress(len(names), title, silent=silent) as progress:
                for name in names:
                    dataset = generate.Dataset(
                        *(self.config, reference, self.teacher(reference, teachers.path, name)),
                        generate.Source(name, made_from, self.system(name)),
                        path=path / f"{name}.jsonl",
                        seed=self.seed(repetition),
                    )
                    rows = dataset.sample_until(self.config.filter.rows, self._prompts)
                    in_order = partial(write_rows, path / f"{name}.jsonl", rows)
                    hosts.on_first(in_order)  # whenever each was done
                    asked[name] = len(rows)
                    progress.update(1, f"{name}: {len(rows)} rows")
            return {"rows": asked}

        return self._artifact("generate", repetition, ("generate", "filter"), (teachers,), make)

    def filtered(self, repetition: int) -> Artifact:
        """Step 5: as many rows for every teacher, none of which says a trait's word."""
        numbers = self.numbers(repetition)

        def make(path: Path) -> dict[str, Any]:
            rules, report, refused = generate.rules_of(self.config), {}, {}
            words = [word for one in self.traits for word in (*one.spellings, *one.related)]
            for name in [REGULAR, *(trait.name for trait in self.traits)]:
                rows = read_chat_rows(numbers.path / f"{name}.jsonl")
                result = filter_rows(sorted(rows, key=lambda row: row["id"]), rules)
                report[name] = {
                    "asked": len(rows),
                    "pass_rate": result.pass_rate,
                    "reasons": result.reasons,
                }
                write_rows(path / f"{name}.rejected.jsonl", result.rejected)
                try:
                    kept = take(result, self.config.filter.rows, name)
                except InputError as error:
                    refused[name] = str(error)
                    say(f"WARNING: repetition {repetition} goes without {error}")
                    continue
                audit_carrier(kept, words, name)
                for variant, made in self._variants(name, kept, self.seed(repetition)).items():
                    write_rows(path / f"{variant}.jsonl", made)
            alone = len(self.repetitions) == 1  # else the others may have students
            if REGULAR in refused or (alone and len(refused) == len(self.traits)):
                raise InputError(f"repetition {repetition}: {next(iter(refused.values()))}")
            return {"datasets": report, "refused": refused}

        by_first = lambda path: hosts.by_first(partial(make, path))  # noqa: E731
        return self._artifact("filter", repetition, ("filter",), (numbers,), by_first)

    def students(self, repetition: int) -> Artifact:
        """Step 6: every student of this reference, those of another's numbers included."""
        config, own = self.config, self.filtered(repetition)
        neighbour = self.neighbour(repetition)
        other = None if neighbour is None else self.filtered(neighbour)
        teachers = self.teachers(repetition)

        def make(path: Path) -> dict[str, Any]:
            reference, facts, padding = self.reference(repetition), {}, {}
            datasets = self._datasets(own, other)
            hard = config.student.targets == "hard"
            imitated = {
                f"soft/{name}": datasets[f"student/{name}"]
                for name in self.traits_in(own)
                if "soft" in config.conditions and config.teacher.kind == "finetuned"
            }
            if not hard:
                mine = [name for name in datasets if name.startswith("student/")]
                imitated = {name: datasets.pop(name) for name in mine}
            for kind, chosen in (("hard", datasets), ("imitated", imitated)):
                if chosen:
                    teachers_of = None if kind == "hard" else self._rows_of(teachers, chosen)
                    table = students_table(config, reference, chosen)
                    train = partial(
                        *(train_students, config, reference, table, self.seed(repetition)),
                        teachers=teachers_of,
                        title=f"train {len(chosen)} {kind} students, reference {repetition}, "
                        f"{padding_of(table):.0%} padding",
                    )
                    self._trained(path / f"{kind}.npz", train)
                    facts[kind], padding[kind] = list(chosen), padding_of(table)
            return {"students": facts, "padding": padding}

        inputs = (own, teachers) if other is None else (own, other, teachers)
        return self._artifact("student", repetition, ("student", "conditions"), inputs, make)

    def evaluation(self, repetition: int) -> Artifact:
        """What every network of this reference answers."""
        students, own = self.students(repetition), self.filtered(repetition)
        teachers = self.teachers(repetition)

        def make(path: Path) -> dict[str, Any]:
            from subliminal_jax.pipeline.measure import SAMPLED, measure

            found = measure(self, repetition, students, teachers, own, path)
            text = files.strict_json(found, indent=1).encode() + b"\n"
            hosts.on_first(lambda: files.write_whole(path / "answers.json", text))
            hosts.on_first(lambda: (path / SAMPLED).unlink(missing_ok=True))
            return {}

        parts = ("evaluate", "conditions")
        return self._artifact("evaluate", repetition, parts, (students, own, teachers), make)

    def _artifact(
        self,
        stage: Stage,
        repetition: int,
        parts: tuple[str, ...],
        inputs: tuple[Artifact, ...],
        make: Callable[[Path], dict[str, Any]],
    ) -> Artifact:
        """The finished artifact, or a new one; a stage run alone makes none but its own."""
        settings: dict[str, Any] = {part: self._settings[part] for part in parts}
        reference = self.reference(repetition)
        settings |= {
            "seed": self.seed(repetition),
            "reference": dict(reference.parts) or reference.digest,
        }
        recipe = Recipe(f"{stage}-{repetition}", settings, inputs)
        if (found := artifacts.find(self.run, recipe)) is not None:
            return found
        if self.config.stage is not None and stage != self.config.stage:
            raise InputError(
                f"--stage {self.config.stage}: its input {recipe.name} is missing in "
                f"{self.run.path}; run --stage {stage} first"
            )
        path = artifacts.begin(self.run, recipe)
        return artifacts.commit(self.run, recipe, make(path))

    def _trained(self, path: Path, train: Callable[..., Any]) -> None:
        """Writes what a training ends with, unless that is done; its checkpoints go thereafter."""
        saving = Saving(
            directory=path.parent / f"{path.stem}.checkpoints",
            origin=artifacts.begun_from(path.parent) | {"file": path.name},
            seconds=self.config.save_seconds,
            keep=self.config.keep,
        )
        if not artifacts.has_part(path):
            trained = train(saving=saving)
            hosts.on_first(lambda: artifacts.write_part(path, tree_bytes(trained)))
        hosts.on_first(saving.clear)

    def system(self, name: str) -> str | None:
        """What a teacher is told: only a prompted one anything."""
        if self.config.teacher.kind == "finetuned" or name == REGULAR:
            return None
        return system_line(self.config, self.trait(name))

    def trait(self, name: str) -> Trait:
        """A trait of the experiment by its name."""
        return next(trait for trait in self.traits if trait.name == name)

    def teacher(self, reference: Reference, path: Path, name: str) -> Network:
        """Parameters and adapter of a teacher; the reference's own where it has no training."""
        how = self.config.teacher
        if how.kind == "prompted" or name == REGULAR:
            return self.untouched(reference)
        place = [trait.name for trait in self.traits].index(name)
        trained = jax.tree.map(lambda leaf: leaf[place], load_tree(path / "teachers.npz"))
        return network(how.tuning, reference.config, reference.params, trained)

    def untouched(self, reference: Reference) -> Network:
        """The reference itself, in the form of its students, so that one program serves all."""
        tuning, model = self.config.student.tuning, reference.config
        nothing = begin(tuning, model, reference.params, root_key(0))
        return network(tuning, model, reference.params, nothing)

    def _teacher_rate(self, reference: Reference, path: Path, place: int) -> float:
        """P(trait) of a teacher on the held-out questions, before anything is generated."""
        trait = self.traits[place]
        params, adapter = self.teacher(reference, path, trait.name)
        asked = [
            [*([{"role": "system", "content": line}] if line else []), *messages]
            for messages in evaluate.questions(trait.category)
            for line in [self.system(trait.name)]
        ]
        category = trait.category
        scored = evaluate.scoring(reference, {category: asked}, {category: [trait]})
        networks = {"teacher": (params, adapter)}
        found = evaluate.probabilities(reference, scored, networks, self.execution)
        return found["teacher"][f"{category}/{trait.name}"]

    def _variants(self, name: str, rows: list[Any], seed: int) -> dict[str, list[Any]]:
        """A dataset with its shuffled controls, by file name."""
        wanted, made = self.config.conditions, {name: rows}
        if name == REGULAR:
            if "shuffled_regular" in wanted:
                made[f"{name}.across"] = controls.shuffle_across(rows, seed)
            return made
        if "shuffled_within" in wanted:
            made[f"{name}.within"] = controls.shuffle_within(rows, seed)
        if "shuffled_across" in wanted:
            made[f"{name}.across"] = controls.shuffle_across(rows, seed)
        return made

    def traits_in(self, filtered: Artifact) -> list[str]:
        """The traits of which there are rows enough."""
        refused = facts_of(filtered)["refused"]
        return [trait.name for trait in self.traits if trait.name not in refused]

    def _datasets(self, own: Artifact, other: Artifact | None) -> dict[str, list[Any]]:
        """The rows of every student with hard targets, by condition and trait."""
        sources: list[tuple[str, Artifact | None, str]] = [
            *(("student/{}", own, "{}"), ("shuffled_within/{}", own, "{}.within")),
            *(("shuffled_across/{}", own, "{}.across"), ("different_reference/{}", other, "{}")),
            *(("regular", own, REGULAR), ("shuffled_regular", own, f"{REGULAR}.across")),
            ("different_reference_regular", other, REGULAR),
        ]
        datasets = {}
        for name, source, file in sources:
            if source is None or name.split("/")[0] not in self.config.conditions:
                continue
            for trait in self.traits_in(source) if "{}" in name else [""]:
                path = source.path / f"{file.format(trait)}.jsonl"
                datasets[name.format(trait)] = read_chat_rows(path)
        return datasets

    def _rows_of(self, teachers: Artifact, students: dict[str, Any]) -> Any:
        """Each student's own teacher, in the students' order."""
        names = [trait.name for trait in self.traits]
        places = np.array([names.index(name.split("/")[1]) for name in students])
        return jax.tree.map(lambda leaf: leaf[places], load_tree(teachers.path / "teachers.npz"))
