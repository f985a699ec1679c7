"""The detectors of every repetition; an interrupted run resumes behind the last finished one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from subliminal_jax import files
from subliminal_jax.audit.config import DetectionConfig
from subliminal_jax.audit.detectors import DETECTORS, FEWEST
from subliminal_jax.audit.judging import ngrams, readers, rowwise
from subliminal_jax.audit.judging.asking import Reader, longest_that_fits
from subliminal_jax.audit.judging.bags import Bag, PairedRows, bags_of, check_enough, paired
from subliminal_jax.audit.judging.verdicts import auc
from subliminal_jax.errors import InputError
from subliminal_jax.language.conditions import REGULAR, STUDENT
from subliminal_jax.language.rows.chat_rows import read_chat_rows
from subliminal_jax.language.study import LmStudy
from subliminal_jax.language.traits.trait import PRIMARY, Poll, Trait, merged_polls
from subliminal_jax.runs import runner
from subliminal_jax.runs.artifacts import MANIFEST, Artifact
from subliminal_jax.runs.shared_run import SharedRun, say

DETECTED = "detected.jsonl"
"""Units of each finished detector, a row for each repetition and detector."""
MOST = "most"
"""Name of the size with as many rows as fit into the model's context."""
Rows = dict[str, list[dict[str, Any]]]
Unit = dict[str, Any]
PairScores = tuple[np.ndarray, np.ndarray]


class Detection:
    """The detectors of every repetition of a study.

    Args:
        config: settings of the detectors.
        study: the run whose datasets are searched.
        directory: run directory of the detection.

    Raises:
        InputError: the directory has rows of other datasets.
    """

    def __init__(self, config: DetectionConfig, study: LmStudy, directory: SharedRun):
        self.config, self.study, self._directory = config, study, directory
        self._done = runner.earlier_rows(directory, DETECTED, self._key)
        self._filtered: dict[int, Artifact] = {}

    def datasets(self, repetition: int) -> Rows:
        """The filtered rows of the reference and of every teacher with enough of them, by name.

        Raises:
            InputError: no teacher has enough rows, or a detector lacks other traits.
        """
        if repetition not in self._filtered:
            self._filtered[repetition] = self.study.filtered(repetition)
        written = self.study.networks.written(self._filtered[repetition])
        names = [trait.name for trait in self.study.traits if trait.name in written]
        needing = [name for name in self.config.detect.detectors if DETECTORS[name].needs_others]
        if not names or (needing and len(names) < 2):
            what = f"the detector {needing[0]} needs two" if names else "at least one is needed"
            raise InputError(
                f"repetition {repetition}: {len(names)} of {len(self.study.traits)} teachers have "
                f"{self.config.filter.rows} filtered rows, and {what}; raise generate.most, or "
                "lower filter.rows"
            )
        path = self._filtered[repetition].path
        return {name: read_chat_rows(path / f"{name}.jsonl") for name in (REGULAR, *names)}

    def in_context(self, repetition: int) -> None:
        """The reference has the rows in its context and is asked the trait's questions."""
        self._once(repetition, "in_context", self._read)

    def prompted(self, repetition: int) -> None:
        """The reference is shown completions and asked what their writer would answer."""
        self._once(repetition, "prompted", self._read)

    def pairs(self, repetition: int) -> None:
        """The reference is shown completions of two teachers and asked which has the trait."""
        self._once(repetition, "pairs", self._read)

    def likelihood(self, repetition: int) -> None:
        """The reference scores the rows with and without the trait as its system prompt."""
        self._once(repetition, "likelihood", self._score)

    def ngrams_transfer(self, repetition: int) -> None:
        """An n-gram classifier learns from the other traits' teachers."""
        self._once(repetition, "ngrams_transfer", self._score)

    def ngrams(self, repetition: int) -> None:
        """An n-gram classifier learns from rows of the same teacher."""
        self._once(repetition, "ngrams", self._score)

    @property
    def units(self) -> list[Unit]:
        """All units so far, in the order of repetitions and detectors."""
        order = sorted(self._done, key=lambda key: (key[0], list(DETECTORS).index(key[1])))
        return [unit for key in order for unit in self._done[key]["units"]]

    def students(self, repetition: int) -> dict[str, float]:
        """P(trait) of every trait's student; empty if the run has measured none."""
        path = self.study.run.path / f"evaluate-{repetition}"
        if not (path / MANIFEST).is_file():
            return {}
        answers = self.study.evaluation(repetition).path / "answers.json"
        exact = files.parse_json(answers.read_bytes())["exact"]
        return {
            trait.name: float(trait.measure(exact[network], {})[PRIMARY] or 0.0)
            for trait in self.study.traits
            if (network := STUDENT.network(trait.name)) in exact
        }

    def _key(self, row: Mapping[str, Any]) -> tuple[int, str] | None:
        """Repetition and detector of a row; None if it is not a row of this run."""
        match row:
            case {"repetition": int(place), "detector": str(name), "units": list(), "data": str()}:
                known = place in self.study.repetitions.every
                known &= name in self.config.detect.detectors
                return (place, name) if known else None
        return None

    def _once(
        self, repetition: int, name: str, detect: Callable[[int, str, Rows], list[Unit]]
    ) -> None:
        """Runs a detector that was chosen, unless its units are there."""
        if name not in self.config.detect.detectors:
            return
        data = self.datasets(repetition)
        digest = self._filtered[repetition].digest
        earlier = self._done.get((repetition, name))
        if earlier is not None and earlier["data"] != digest:
            raise InputError(
                f"{self._directory.path / DETECTED}: {name} of repetition {repetition} judged "
                "other datasets; add --overwrite"
            )
        if earlier is not None:
            return
        row = {"repetition": repetition, "detector": name, "data": digest}
        made = row | {"units": detect(repetition, name, data)}
        self._directory.append_row(DETECTED, made)
        self._done[repetition, name] = made
        say(f"repetition {repetition}: {DETECTORS[name].label}: done")

    def _tasks(self, name: str, data: Rows) -> list[tuple[Trait, str, str, PairedRows]]:
        """The comparisons of each trait: with the reference's rows, and with another teacher's.

        Returns:
            Trait, `reference` or `other`, name of the other dataset, and the paired rows.
        """
        tasks = []
        for trait in map(self.study.networks.trait, list(data)[1:]):
            names = [one.name for one in self._alike(trait, data)]
            against = {"reference": REGULAR}
            if len(names) > 1 and not DETECTORS[name].needs_others:
                against["other"] = names[(names.index(trait.name) + 1) % len(names)]
            for kind, other in against.items():
                pairs = paired(data[trait.name], data[other])
                check_enough(pairs, 1, f"{trait.name} and {other}")
                tasks.append((trait, kind, other, pairs))
        return tasks

    def _alike(self, trait: Trait, data: Rows) -> list[Trait]:
        """The traits with data on the same topics, in order."""
        every = map(self.study.networks.trait, list(data)[1:])
        return [one for one in every if one.topics == trait.topics]

    def _polls(self, alike: Sequence[Trait]) -> list[Poll]:
        """The first questions about the topics of some traits, with all their answers."""
        return [
            replace(poll, questions=poll.questions[: self.config.detect.questions])
            for poll in merged_polls(alike, own=True)
        ]

    def _read(self, repetition: int, name: str, data: Rows) -> list[Unit]:
        """Units of a detector that asks the reference."""
        units, (which, pair) = [], self.config.questions
        reader = Reader(self.study.reference(repetition))
        for trait, kind, other, pairs in self._tasks(name, data):
            alike = self._alike(trait, data)
            subject = readers.Inquiry(
                reader=reader,
                trait=trait,
                alike=alike,
                polls=self._polls(alike),
                lessons=trait.lessons(self.config.teacher.answers),
                which=which,
                pair=pair,
                items=self.study.carrier.items,
            )
            seed = self.study.repetitions.seed(repetition)
            bags = partial(bags_of, pairs, most=self.config.detect.bags, seed=seed)
            for label, size in self._sizes(subject, name, pairs, bags):
                judged = readers.judge(subject, name, bags(size))
                beside = {key: value for key, value in judged.items() if key != "verdict"}
                units.append(
                    self._unit(repetition, name, trait, kind)
                    | {"told_from": other, "size": label, "rows": size, "alike": len(alike)}
                    | readers.verdict_values(judged["verdict"])
                    | beside
                )
        return units

    def _sizes(
        self,
        subject: readers.Inquiry,
        name: str,
        pairs: PairedRows,
        bags: Callable[[int], list[tuple[Bag, Bag]]],
    ) -> list[tuple[str, int]]:
        """Names and numbers of rows shown together, up to as many as the context holds."""
        settings = self.config.detect
        limit = min(settings.most or len(pairs), len(pairs) // FEWEST)
        most = longest_that_fits(readers.room(subject, name, bags), limit)
        if most == 0:
            raise InputError(
                f"the model's context of {subject.reader.context} tokens does not hold one row of "
                f"{subject.trait.name} with the question of the detector {name}; shorten "
                "detect.which, detect.pair or the carrier's completions, or leave the detector out"
            )
        return [*((str(size), size) for size in settings.sizes if size < most), (MOST, most)]

    def _score(self, repetition: int, name: str, data: Rows) -> list[Unit]:
        """Units of a detector that scores single rows."""
        settings, units = self.config.detect, []
        for trait, kind, other, pairs in self._tasks(name, data):
            pairs = pairs[: settings.rows]
            scores, folds = self._row_scores(repetition, name, trait, data, pairs)
            for size in settings.sizes:
                check_enough(pairs, size, f"{trait.name} and {other}")
                verdict = auc(*rowwise.bag_scores(scores, folds, size))
                units.append(
                    self._unit(repetition, name, trait, kind)
                    | {"told_from": other, "size": str(size), "rows": size}
                    | readers.verdict_values(verdict)
                )
        return units

    def _row_scores(
        self, repetition: int, name: str, trait: Trait, data: Rows, pairs: PairedRows
    ) -> tuple[PairScores, np.ndarray]:
        """Scores of both rows of each pair, and the part of the prompts that each pair is in."""
        folds, seed = self.config.detect.folds, self.study.repetitions.seed(repetition)
        if name == "likelihood":
            reader = Reader(self.study.reference(repetition))
            system = trait.system_prompt(self.config.teacher.system_prompt)
            return rowwise.likelihood_gains(reader, system, pairs), np.zeros(len(pairs), int)
        train = ([one for one, _ in pairs], [two for _, two in pairs])
        if name == "ngrams_transfer":
            most, others = self.config.detect.rows, [n for n in list(data)[1:] if n != trait.name]
            positive = [row for one in others for row in data[one][:most]]
            train = (positive, data[REGULAR][:most])
        scores = ngrams.held_out_scores(train, pairs, folds, seed)
        return scores, ngrams.folds_of([one for one, _ in pairs], folds, seed)

    def _unit(self, repetition: int, name: str, trait: Trait, kind: str) -> Unit:
        return {
            "reference": self.study.repetitions.seed(repetition),
            "trait": trait.name,
            "detector": name,
            "against": kind,
            "measure": DETECTORS[name].measure,
        }
