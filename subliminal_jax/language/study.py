"""The six steps of every repetition; each makes an artifact from earlier ones."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.language import dataset as generate
from subliminal_jax.language.carriers import form_of
from subliminal_jax.language.conditions import BEFORE, CONDITIONS, PROMPTED, REGULAR, trait_of
from subliminal_jax.language.evaluation import evaluate, measure, told
from subliminal_jax.language.judge.choose import judge_of
from subliminal_jax.language.judge.judge import Judge
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.rows.chat_rows import read_chat_rows, write_rows
from subliminal_jax.language.rows.filters import (
    check_clean,
    filter_rows,
    forbidden_words,
    rules_of,
    take,
)
from subliminal_jax.language.rows.judged import RowJudge, reasons_by_scores
from subliminal_jax.language.rows.variants import student_datasets, variants
from subliminal_jax.language.stages import Stages
from subliminal_jax.language.student import (
    Imitated,
    imitated_tokens,
    students_table,
    train_students,
)
from subliminal_jax.language.teacher import check_teachers, finetune_teachers
from subliminal_jax.language.training.answers import padding_of
from subliminal_jax.language.training.networks import trained_networks, untrained_network
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.language.training.trees import load_tree
from subliminal_jax.language.traits.trait import PRIMARY, Poll, Trait, merged_polls, own_polls
from subliminal_jax.models.sampling.constraints import Constraint, constraint
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.progress import Progress
from subliminal_jax.runs import artifacts
from subliminal_jax.runs.artifacts import Artifact, facts_of
from subliminal_jax.runs.shared_run import say


class Study(Stages):
    """The six steps; each method returns its artifact, making it on the first call."""

    _asked_judge: Judge | None = None

    def teachers(self, repetition: int) -> Artifact:
        """Steps 2 and 3: every trait's teacher and its controls, with their P(trait)."""
        config = self.config

        def make(path: Path) -> dict[str, Any]:
            reference = self.reference(repetition)
            if config.teacher.kind == "finetuned":
                train = partial(
                    *(finetune_teachers, config.teacher, reference, self.taught),
                    seed=self.seed(repetition),
                    execution=self.execution,
                )
                self._trained(path / "teachers.npz", train)
            rates = self._teacher_rates(reference, path)
            named = {trait.name: rates[trait.name] for trait in self.traits}
            for warning in check_teachers(named, config.teacher.floor):
                say(f"WARNING: {warning}")
            return {"p_trait": rates}

        parts = ("traits", "new_traits", "teacher")
        return self._artifact("teacher", repetition, parts, (), make)

    def dataset(self, repetition: int) -> Artifact:
        """Step 4: completions of the same prompts by every teacher and by the reference."""
        teachers = self.teachers(repetition)

        def make(path: Path) -> dict[str, Any]:
            reference, counts = self.reference(repetition), {}
            names = [REGULAR, *(trait.name for trait in self.taught)]
            made_from, trials = config_digest(artifacts.begun_from(path)), {}
            form, judge = self._constraint(reference), self._row_judge()
            title = f"sample {self.carrier.items}, reference {repetition}"
            with Progress(len(names), title, silent=not hosts.is_first()) as progress:
                for name in names:
                    sampling = generate.Dataset(
                        *(self.config.generate, self._rules(), reference),
                        self.teacher(reference, teachers.path, name),
                        generate.Source(name, made_from, self.system(name)),
                        path=path / f"{name}.jsonl",
                        seed=self.seed(repetition),
                        constraint=form,
                    )
                    if form is not None:
                        trials[name] = sampling.unconstrained(self._prompts)
                    rows = sampling.sample_until(self.config.filter.rows, self._prompts, judge)
                    in_order = partial(write_rows, path / f"{name}.jsonl", rows)
                    hosts.on_first(in_order)  # rows were written as they finished
                    counts[name] = len(rows)
                    progress.update(1, f"{name}: {len(rows)} rows")
            return {"rows": counts} | ({"unconstrained": trials} if trials else {})

        return self._artifact("generate", repetition, ("generate", "filter"), (teachers,), make)

    def filtered(self, repetition: int) -> Artifact:
        """Step 5: equally many rows of every teacher, without any trait's words."""
        dataset = self.dataset(repetition)
        trials = facts_of(dataset).get("unconstrained", {})

        def make(path: Path) -> dict[str, Any]:
            rules, report, refused = self._rules(), {}, {}
            seed = self.seed(repetition)
            words = forbidden_words(self.traits)
            for name in [REGULAR, *(trait.name for trait in self.taught)]:
                rows = read_chat_rows(dataset.path / f"{name}.jsonl")
                ordered = sorted(rows, key=lambda row: row["id"])
                path_of_scores = generate.scores_path(dataset.path / f"{name}.jsonl")
                judged = reasons_by_scores(self.config.filter, path_of_scores)
                result = filter_rows(ordered, rules, judged)
                report[name] = result.facts
                if name in trials:
                    report[name]["unconstrained"] = trials[name]
                write_rows(path / f"{name}.rejected.jsonl", result.rejected)
                try:
                    kept = take(result, self.config.filter.rows, name)
                except InputError as error:
                    refused[name] = str(error)
                    say(f"WARNING: repetition {repetition} has no student of {error}")
                    continue
                check_clean(kept, words, self.carrier.words, name)
                made_of = variants(
                    *(self.config.compared, self.carrier, name, kept, seed),
                    [trait.name for trait in self.traits],
                )
                for variant, made in made_of.items():
                    write_rows(path / f"{variant}.jsonl", made)
            alone = len(self.repetitions) == 1  # else others may still have students
            none = all(trait.name in refused for trait in self.traits)
            if REGULAR in refused or (alone and none):
                raise InputError(f"repetition {repetition}: {next(iter(refused.values()))}")
            return {"datasets": report, "refused": refused}

        by_first = lambda path: hosts.by_first(partial(make, path))
        return self._artifact("filter", repetition, ("filter",), (dataset,), by_first)

    def students(self, repetition: int) -> Artifact:
        """Step 6: every student of this reference, including those of others' datasets."""
        config, own = self.config, self.filtered(repetition)
        others = [self.filtered(other) for other in config.others(repetition)]
        teachers = self.teachers(repetition)

        def make(path: Path) -> dict[str, Any]:
            reference, facts, padding = self.reference(repetition), {}, {}
            datasets_of = student_datasets(
                *(config.compared, config.student.targets, config.teacher.kind),
                [trait.name for trait in self.traits],
                {
                    "own": [self._rows_in(own)],
                    "other": [self._rows_in(other) for other in others],
                },
            )
            for kind, datasets in datasets_of.items():
                if not datasets:
                    continue
                table = students_table(reference, datasets, config.student.sequence)
                imitated = self._imitated(reference, teachers, datasets) if kind != "hard" else None
                train = partial(
                    *(train_students, config.student, reference, table, config.filter.rows),
                    seed=self.seed(repetition),
                    execution=self.execution,
                    imitated=imitated,
                )
                self._trained(path / f"{kind}.npz", train)
                facts[kind], padding[kind] = list(datasets), padding_of(table)
            return {"students": facts, "padding": padding}

        inputs = (own, *others, teachers)
        return self._artifact("student", repetition, ("student", "conditions"), inputs, make)

    def evaluation(self, repetition: int) -> Artifact:
        """Exact probabilities and sampled answers of every network of this reference."""
        students, own = self.students(repetition), self.filtered(repetition)
        teachers = self.teachers(repetition)
        config = self.config

        def make(path: Path) -> dict[str, Any]:
            subjects = measure.Subjects(
                reference=self.reference(repetition),
                networks=self._networks(repetition, students, teachers),
                traits=self.traits,
                execution=self.execution,
            )
            judge = self._judge()
            samples = measure.Samples(
                carrier=self.carrier,
                prompts=list(self._prompts.values())[-config.evaluate.prompts :],
                each=config.evaluate.samples,
                sampling=Sampling(
                    max_tokens=max(config.evaluate.max_tokens, config.generate.max_tokens),
                    seed=config.seed,
                ),
                batch=config.generate.batch,
                judge=judge,
            )
            title = f"sample answers, reference {repetition}"
            found = {
                "exact": measure.exact(subjects, self._prefixed(own, repetition)),
                "sampled": measure.sampled(subjects, samples, path, title),
            }
            text = files.strict_json(found, indent=1).encode() + b"\n"
            hosts.on_first(lambda: files.write_whole(path / "answers.json", text))
            hosts.on_first(lambda: (path / measure.SAMPLED).unlink(missing_ok=True))
            return {} if judge is None else {"judge": dict(judge.described)}

        parts = ("evaluate", "conditions")
        return self._artifact("evaluate", repetition, parts, (students, own, teachers), make)

    def system(self, name: str) -> str | None:
        """System prompt of a dataset's teacher; None unless the teacher is prompted."""
        if self.config.teacher.kind == "finetuned" or name == REGULAR:
            return None
        return self.trait(name).system_prompt(self.config.teacher.system_prompt)

    def trait(self, name: str) -> Trait:
        """The trait or control teacher with this name."""
        return next(trait for trait in self.taught if trait.name == name)

    def teacher(self, reference: Reference, path: Path, name: str) -> Network:
        """Parameters and adapter of a dataset's teacher; the reference's if it is not finetuned."""
        how = self.config.teacher
        if how.kind == "prompted" or name == REGULAR:
            return untrained_network(self.config.student.tuning, reference)
        place = [trait.name for trait in self.taught].index(name)
        return trained_networks(how.tuning, reference, path / "teachers.npz", [place])[0]

    def written(self, filtered: Artifact) -> list[str]:
        """Names of the traits and control teachers with enough rows."""
        refused = facts_of(filtered)["refused"]
        return [trait.name for trait in self.taught if trait.name not in refused]

    def _rows_in(self, filtered: Artifact) -> tuple[Path, list[str]]:
        return filtered.path, self.written(filtered)

    def _judge(self) -> Judge | None:
        """The judge of open answers, loaded and tried once; None without one."""
        settings, execution = self.config.evaluate.judge, self.execution
        if self._asked_judge is None and (settings.model or settings.url):
            replies = self.run.subdirectory("judge") / "replies.jsonl"
            self._asked_judge = judge_of(settings, self.config.reference.model, execution, replies)
        return self._asked_judge

    def _constraint(self, reference: Reference) -> Constraint | None:
        """What completions must be; None for anything."""
        if not self.config.generate.constrained:
            return None
        form = form_of(self.carrier, self.config.generate, self.config.filter)
        return constraint(form, reference.chat.pieces(), reference.chat.stop_ids)

    def _row_judge(self) -> RowJudge | None:
        """The judge of the filter; None without the rule `judge`."""
        settings = self.config.filter
        judge = self._judge() if "judge" in settings.rules else None
        return None if judge is None else RowJudge.of(settings.judge, self.traits, judge)

    def _rules(self) -> Mapping[str, Any]:
        return rules_of(self.config.filter, self.carrier, self.traits)

    def _teacher_rates(self, reference: Reference, path: Path) -> dict[str, float]:
        """P(trait) of every teacher, measured before generation; finetuned ones in one program."""
        teachers = {one.name: self.teacher(reference, path, one.name) for one in self.taught}
        if self.config.teacher.kind == "finetuned":
            asked = [(teachers, merged_polls(self.taught, own=True))]
        else:
            lines = {one.name: self.system(one.name) or "" for one in self.taught}
            asked = [
                ({one.name: teachers[one.name]},
                 [told.with_system(poll, lines[one.name]) for poll in own_polls(one)])
                for one in self.taught
            ]  # fmt: skip
        found: dict[str, dict[str, float]] = {}
        for networks, polls in asked:
            scored = evaluate.scoring(reference, polls)
            found |= evaluate.probabilities(reference, scored, networks, self.execution)
        measured = {one.name: one.measure(found[one.name], {}) for one in self.taught}
        return {name: float(values[PRIMARY] or 0.0) for name, values in measured.items()}

    def _networks(
        self, repetition: int, students: Artifact, teachers: Artifact
    ) -> dict[str, Network]:
        """Networks of the repetition by name: `before`, `teacher/owl`, `student/owl`, ..."""
        config, reference = self.config, self.reference(repetition)
        networks = {BEFORE.name: untrained_network(config.student.tuning, reference)}
        if config.teacher.kind == "finetuned":
            for trait in self.traits:
                name = CONDITIONS["teacher"].network(trait.name)
                networks[name] = self.teacher(reference, teachers.path, trait.name)
        for kind, names in facts_of(students)["students"].items():
            places, path = list(range(len(names))), students.path / f"{kind}.npz"
            trained = trained_networks(config.student.tuning, reference, path, places)
            networks |= dict(zip(names, trained, strict=True))
        return networks

    def _prefixed(self, own: Artifact, repetition: int) -> dict[str, list[Poll]]:
        """Polls of the untrained reference with a system prompt or examples, by network name."""
        config, found, every = self.config, {}, merged_polls(self.traits)
        conditions = [one for one in config.compared if one.context != "nothing"]
        if config.teacher.kind == "prompted":
            conditions = list(dict.fromkeys([*conditions, PROMPTED]))
        shown = any(one.context == "examples" for one in conditions)
        written = self.written(own) if conditions else []
        for trait in (one for one in self.traits if one.name in written):
            context = told.Context(
                system=trait.system_prompt(config.teacher.system_prompt),
                rows=read_chat_rows(own.path / f"{trait.name}.jsonl") if shown else [],
                examples=config.evaluate.examples,
                seed=self.seed(repetition),
            )
            polls = [poll for poll in every if poll.topic in trait.topics]
            for one in conditions:
                found[one.network(trait.name)] = [
                    told.with_context(poll, one.context, context) for poll in polls
                ]
        return found

    def _imitated(
        self, reference: Reference, teachers: Artifact, students: Mapping[str, Any]
    ) -> Imitated:
        """The teacher of each student, in the students' order."""
        names, settings = [trait.name for trait in self.taught], self.config.student
        places = np.array([names.index(trait_of(student)) for student in students])
        return Imitated(
            targets="soft" if settings.targets == "hard" else settings.targets,
            tuning=self.config.teacher.tuning,
            trained=jax.tree.map(
                lambda leaf: leaf[places], load_tree(teachers.path / "teachers.npz")
            ),
            tokens=imitated_tokens(reference, self.carrier, settings.tokens),
        )
