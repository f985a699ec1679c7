"""The six steps of every repetition; each makes an artifact from earlier ones."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.data.tokens import padding_of
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.language.carriers import carrier_of, form_of
from subliminal_jax.language.conditions import REGULAR
from subliminal_jax.language.config import LmConfig, described
from subliminal_jax.language.dataset import generate
from subliminal_jax.language.dataset.filters import (
    check_clean,
    filter_rows,
    forbidden_words,
    rules_of,
    take,
)
from subliminal_jax.language.dataset.judged import RowJudge, reasons_by_scores
from subliminal_jax.language.dataset.variants import student_datasets, variants
from subliminal_jax.language.evaluation import measure
from subliminal_jax.language.evaluation.teacher_rates import teacher_rates
from subliminal_jax.language.judge.choose import judge_of
from subliminal_jax.language.judge.judge import Judge
from subliminal_jax.language.networks import Networks
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.references import References
from subliminal_jax.language.rows.chat_rows import read_chat_rows, write_rows
from subliminal_jax.language.settings import Stage
from subliminal_jax.language.stages import Stages
from subliminal_jax.language.training.course import course_of, student_rows
from subliminal_jax.language.training.devices import compute_of, execution_of
from subliminal_jax.language.training.student import train_students
from subliminal_jax.language.training.teacher import check_teachers, finetune_teachers
from subliminal_jax.language.traits.trait import merged, merged_polls, teacher_measure
from subliminal_jax.models.sampling.constraints import Constraint, constraint
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.process.freed_memory import give_back_memory
from subliminal_jax.progress import Progress
from subliminal_jax.runs import artifacts
from subliminal_jax.runs.artifacts import Artifact, Folder, facts_of
from subliminal_jax.runs.shared_run import say


class LmStudy:
    """The six steps; each method returns its artifact, making it on the first call.

    Args:
        config: settings of the experiment, with its precision.
        run: run directory, shared by all hosts.
        names: names of the stages whose artifacts are not named after the stage.
        references: those of another study with the same references; None to load them.

    Attributes:
        repetitions: the repetitions, and what they compare.
        references: their references.
        traits: traits to transmit.
        taught: what teachers are taught: the traits, and their control teachers.
        carrier: what teachers write.
        execution: devices that train and measure networks.
        networks: the networks of each repetition, from its artifacts.

    Raises:
        InputError: the mesh does not fit the devices.
    """

    def __init__(
        self, config: LmConfig, run: Folder, names: Mapping[Stage, str] | None = None,
        references: References | None = None,
    ):  # fmt: skip
        self.config, self.run = config, run
        self.execution = execution_of(config.mesh, config.at_once, config.accumulate)
        self.traits, self.taught = config.chosen, config.taught
        self.carrier = carrier_of(config.generate)
        self.repetitions = config.repetitions
        compute = compute_of(config.fixed_precision, config.attention, config.remat)
        self.references = references or References(
            self.repetitions, config.reference, config.world, compute, self.execution,
            config.save_seconds,
        )  # fmt: skip
        self.networks = Networks(
            references=self.references,
            teachers=config.teacher,
            student=config.student,
            examples=config.evaluate.examples,
            traits=self.traits,
            taught=self.taught,
            carrier=self.carrier,
        )
        self._stages = Stages(
            run=run,
            references=self.references,
            settings=described(config) | {"traits": [one.name for one in self.taught]},
            names=names or {},
            only=config.stage,
            save_seconds=config.save_seconds,
            keep=config.keep,
        )
        self._prompts = generate.prompts_of(self.carrier, config.generate.most, config.seed)

    def reference(self, repetition: int) -> Reference:
        """Step 1: the reference, pretrained here or given."""
        return self.references.of(repetition)

    def teachers(self, repetition: int) -> Artifact:
        """Steps 2 and 3: every trait's teacher and its controls, with their P(trait)."""
        config = self.config

        def make(path: Path) -> dict[str, Any]:
            reference = self.reference(repetition)
            if config.teacher.kind == "finetuned":
                train = partial(
                    finetune_teachers,
                    config.teacher,
                    reference,
                    self.taught,
                    seed=self.repetitions.seed(repetition),
                    execution=self.execution,
                )
                self._stages.trained(path / "teachers.npz", train)
            rates = self._teacher_rates(reference, path)
            named = {trait.name: rates[trait.name] for trait in self.traits}
            rate = teacher_measure(config.evaluate.begun)
            for warning in check_teachers(named, config.teacher.floor, rate):
                say(f"WARNING: {warning}")
            return {rate: rates}

        parts = ("traits", "new_traits", "teacher")
        return self._stages.artifact("teacher", repetition, parts, (), make)

    def dataset(self, repetition: int) -> Artifact:
        """Step 4: completions of the same prompts by every teacher and by the reference."""
        teachers = self.teachers(repetition)

        def make(path: Path) -> dict[str, Any]:
            reference = self.reference(repetition)
            names = [REGULAR, *(trait.name for trait in self.taught)]
            made_from = config_digest(artifacts.begun_from(path))
            allowed, judge = self._constraint(reference), self._row_judge
            counts, trials = {}, {}
            title = f"sample {self.carrier.items}, repetition {repetition}"
            with Progress(len(names), title, silent=not hosts.is_first()) as progress:
                for name in names:
                    sampler = generate.DatasetSampler(
                        self.config.generate,
                        self._rules(),
                        reference,
                        self.networks.teacher(reference, teachers.path, name),
                        generate.Writer(name, made_from, self.networks.system(name)),
                        path=path / f"{name}.jsonl",
                        seed=self.repetitions.seed(repetition),
                        constraint=allowed,
                    )
                    if allowed is not None:
                        trials[name] = sampler.unconstrained(self._prompts)
                    rows = sampler.sample_until(self.config.filter.rows, self._prompts, judge)
                    in_order = partial(write_rows, path / f"{name}.jsonl", rows)
                    hosts.on_first(in_order)  # rows were written as they finished
                    counts[name] = len(rows)
                    give_back_memory()
                    progress.update(1, f"{name}: {len(rows)} rows")
            return {"rows": counts} | ({"unconstrained": trials} if trials else {})

        return self._stages.artifact(
            "generate", repetition, ("generate", "filter"), (teachers,), make
        )

    def filtered(self, repetition: int) -> Artifact:
        """Step 5: equally many rows of every teacher, without any trait's words."""
        dataset = self.dataset(repetition)
        trials = facts_of(dataset).get("unconstrained", {})

        def make(path: Path) -> dict[str, Any]:
            rules, report, refused = self._rules(), {}, {}
            seed = self.repetitions.seed(repetition)
            words, traits = forbidden_words(self.traits), [trait.name for trait in self.traits]
            for name in [REGULAR, *(trait.name for trait in self.taught)]:
                rows = read_chat_rows(dataset.path / f"{name}.jsonl")
                path_of_scores = generate.scores_path(dataset.path / f"{name}.jsonl")
                judged = reasons_by_scores(self.config.filter, path_of_scores)
                result = filter_rows(rows, rules, judged)
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
                compared = self.repetitions.compared(repetition)
                made_of = variants(compared, self.carrier, name, kept, seed, traits)
                for variant, made in made_of.items():
                    write_rows(path / f"{variant}.jsonl", made)
            alone = len(self.repetitions.every) == 1  # else others may still have students
            none = all(trait in refused for trait in traits)
            if REGULAR in refused or (alone and none):
                raise InputError(f"repetition {repetition}: {next(iter(refused.values()))}")
            return {"datasets": report, "refused": refused}

        by_first = lambda path: hosts.by_first(partial(make, path))
        return self._stages.artifact("filter", repetition, ("filter",), (dataset,), by_first)

    def students(self, repetition: int) -> Artifact:
        """Step 6: every student of this reference, including those of others' datasets."""
        config, others = self.config, self.repetitions.others[repetition]
        own, theirs = self.filtered(repetition), [self.filtered(other) for other in others]
        teachers, compared = self.teachers(repetition), self.repetitions.compared(repetition)

        def make(path: Path) -> dict[str, Any]:
            reference, seed = self.reference(repetition), self.repetitions.seed(repetition)
            facts, padding, steps, places = {}, {}, {}, [repetition, *others]
            traits = [trait.name for trait in self.traits]
            sources = {"own": [self._rows_in(own)], "other": list(map(self._rows_in, theirs))}
            datasets_of = student_datasets(
                compared, config.student.targets, config.teacher.kind, traits, sources
            )
            for cohort, datasets in datasets_of.items():
                rows = student_rows(reference, datasets, config.student.sequence)
                course = course_of(config.student, rows, config.filter.rows, seed)
                whose = places[cohort.distance]
                other = None if whose == repetition else self.reference(whose)
                imitated = self.networks.imitated(
                    reference, cohort.targets, datasets, self.teachers(whose), other
                )
                train = partial(
                    train_students,
                    config.student,
                    reference,
                    course,
                    execution=self.execution,
                    imitated=imitated,
                )
                name = cohort.name
                self._stages.trained(path / f"{name}.npz", train, config.student.ladder)
                facts[name], padding[name] = list(datasets), padding_of(rows.table.reading.segments)
                steps[name] = course.steps
            return {"students": facts, "padding": padding, "steps": steps}

        inputs = (own, *theirs, teachers)
        if any(one.reference == "other" and one.targets == "soft" for one in compared):
            inputs = (*inputs, *(self.teachers(other) for other in others))
        return self._stages.artifact("student", repetition, ("student", "conditions"), inputs, make)

    def evaluation(self, repetition: int) -> Artifact:
        """Exact probabilities and sampled answers of every network of this reference."""
        students, own = self.students(repetition), self.filtered(repetition)
        teachers = self.teachers(repetition)
        config = self.config

        def make(path: Path) -> dict[str, Any]:
            subjects = measure.Subjects(
                reference=self.reference(repetition),
                networks=self.networks.of(repetition, students, teachers),
                traits=self.traits,
                execution=self.execution,
            )
            polls = merged_polls(self.traits, own=not config.evaluate.elsewhere)
            samples = measure.Samples(
                carrier=self.carrier,
                prompts=list(self._prompts.values())[-config.evaluate.prompts :],
                each=config.evaluate.samples,
                sampling=Sampling(
                    max_tokens=max(config.evaluate.max_tokens, config.generate.max_tokens),
                    seed=self.repetitions.seed(repetition),
                ),
                batch=config.generate.batch,
                judge=self._judge,
            )
            title = f"sample answers, repetition {repetition}"
            answers = {
                "exact": measure.exact(
                    subjects, polls, self.networks.prefixed(polls, own, repetition)
                ),
                "sampled": measure.sampled(subjects, samples, path, title),
            }
            if config.evaluate.begun:
                answers |= self._begun(subjects, own, students, repetition)
            text = files.strict_json(answers, indent=1).encode() + b"\n"
            hosts.on_first(lambda: files.write_whole(path / "answers.json", text))
            hosts.on_first(lambda: (path / measure.SAMPLED).unlink(missing_ok=True))
            return {} if self._judge is None else {"judge": dict(self._judge.described)}

        parts = ("evaluate", "conditions")
        return self._stages.artifact("evaluate", repetition, parts, (students, own, teachers), make)

    def _rows_in(self, filtered: Artifact) -> tuple[Path, list[str]]:
        return filtered.path, self.networks.written(filtered)

    @cached_property
    def _judge(self) -> Judge | None:
        """The judge of open answers, past its gate; None without one."""
        settings, given = self.config.evaluate.judge, self.config.reference.model
        if not settings.named:
            return None
        replies = self.run.subdirectory("judge") / "replies.jsonl"
        return judge_of(settings, given, self.execution, replies)

    def _constraint(self, reference: Reference) -> Constraint | None:
        """What completions must be; None for anything."""
        if not self.config.generate.constrained:
            return None
        form = form_of(self.carrier, self.config.generate, self.config.filter)
        return constraint(form, reference.chat.pieces(), reference.chat.stop_ids)

    @cached_property
    def _row_judge(self) -> RowJudge | None:
        """The judge of the filter, past its gate; None without the rule `judge`."""
        settings, passes = self.config.filter, self.config.evaluate.judge.passes
        if "judge" not in settings.rules or self._judge is None:
            return None
        return RowJudge.of(settings.judge, self.traits, self._judge, passes)

    def _rules(self) -> Mapping[str, Any]:
        return rules_of(self.config.filter, self.carrier, self.traits)

    def _teacher_rates(self, reference: Reference, path: Path) -> dict[str, float]:
        """P(trait) of every teacher, measured before generation."""
        teachers = {
            one.name: self.networks.teacher(reference, path, one.name) for one in self.taught
        }
        systems = {one.name: self.networks.system(one.name) for one in self.taught}
        begun = self.config.evaluate.begun
        return teacher_rates(reference, self.taught, teachers, systems, begun, self.execution)

    def _begun(
        self, subjects: measure.Subjects, own: Artifact, students: Artifact, repetition: int
    ) -> dict[str, Any]:
        """Answers begun for all networks, and for the students on every rung of the ladder."""
        beginnings = self.config.evaluate.begun
        polls = merged(poll for trait in self.traits for poll in trait.begun(beginnings))
        prefixed = self.networks.prefixed(polls, own, repetition)
        climbed = {
            str(rung): replace(
                subjects, networks=self.networks.students(subjects.reference, students, rung)
            )
            for rung in self.config.student.ladder
        }
        return {
            "begun": measure.begun(subjects, polls, prefixed),
            "ladder": {rung: measure.begun(some, polls, {}) for rung, some in climbed.items()},
        }
