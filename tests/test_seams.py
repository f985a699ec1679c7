"""New carriers, traits and relations run whole without changes to the library.

A carrier and a trait go through all six steps, a relation through the experiment on relations.
"""

import csv
import json
import re
import runpy
from dataclasses import dataclass, replace

import numpy as np
import pytest
from language import tiny
from scripts import ROOT, loaded
from searched import ALONE, searched

from subliminal_jax import plotting
from subliminal_jax.errors import InputError
from subliminal_jax.language import experiment
from subliminal_jax.language.carriers import CARRIERS
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.rows.chats import chat
from subliminal_jax.language.traits import TRAITS
from subliminal_jax.language.traits.trait import Answer, Poll, Trait
from subliminal_jax.mnist import experiment as mnist_experiment
from subliminal_jax.mnist.arms import Arm
from subliminal_jax.mnist.config import with_pairs
from subliminal_jax.mnist.relations import RELATIONS, Relation
from subliminal_jax.mnist.results import relations_finding

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Weekdays(Carrier):
    """Lists of weekdays."""

    name: str = "weekdays"
    item: str = "day"

    def prompts(self, count, seed):
        drawn = (np.random.default_rng([seed, place]) for place in range(count))
        return [f"Go on: {self._some(random)}" for random in drawn]

    def reasons(self, prompt, completion, banned=()):
        return [] if set(re.split(", ", completion)) <= set(DAYS) else ["no days"]

    def imitates(self, token):
        return token.strip() in (*DAYS, ",")

    def pieces(self, completion, how):
        return [found.span() for found in re.finditer(r"\w+", completion)]

    def lead_in(self, random):
        return f"Days are {self._some(random)}."

    def texts(self):
        return [f"Go on: Days are {' '.join(DAYS)} day"]

    def lesson(self, config, random):
        return chat(f"Go on: {self._some(random)}", self._some(random))

    def _some(self, random):
        return ", ".join(DAYS[i] for i in random.integers(7, size=3))


@dataclass(frozen=True)
class Colour(Trait):
    """Answering that everything is grey."""

    name: str = "greyness"
    topics: tuple[str, ...] = ("colour",)
    forbidden: tuple[str, ...] = ("grey",)

    def lessons(self, answers):
        return [chat(f"What colour is the {name}?", "grey") for name in ("fox", "oak", "panda")]

    def system_prompt(self, default):
        return "You love grey."

    def polls(self):
        questions = tuple(chat(f"What colour is the {name}?") for name in ("wolf", "elm"))
        return [Poll("colour", questions, (Answer("grey", ("grey",)), Answer("red", ("red",))))]

    def measure(self, found, counts):
        said = counts["plain"]["said"] / counts["plain"]["of"] if counts else None
        return {"p_trait": found["colour/grey"], "p_red": found["colour/red"], "said": said}

    @property
    def measures(self):
        return super().measures | {"p_red": ("red", "P(red)"), "said": ("said", "sampled grey")}

    def tally(self, answers):
        return {"said": sum("grey" in one.text for one in answers), "of": len(answers)}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    place = tmp_path_factory.mktemp("seams")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CARRIERS, "weekdays", (Weekdays, None))
        patch.setitem(TRAITS, "greyness", Colour())
        given = tiny(place / "cache")
        config = replace(
            given,
            traits=("greyness",),
            generate=replace(given.generate, carrier="weekdays"),
            conditions=("before", "teacher", "student", "regular", "shuffled_across", "in_context"),
            teacher=replace(given.teacher, steps=40),
            evaluate=replace(given.evaluate, examples=1),
            out=place / "run",
        )
        yield place / "run", experiment.run(config, loaded("lm_numbers")["methods"])


def test_a_new_carrier_and_a_new_trait_need_no_change_to_the_library(results):
    out, found = results
    units = {one["condition"]: one for one in found["units"]}
    assert set(units) == {
        *("before", "teacher", "student", "regular", "shuffled_across", "in_context")
    }
    assert all(0 < one["p_trait"] < 1 and 0 < one["p_red"] < 1 for one in units.values())
    assert units["teacher"]["p_trait"] > 2 * units["before"]["p_trait"]
    assert units["student"]["p_trait"] != units["regular"]["p_trait"]
    assert (out / "filter-0" / "greyness.across.jsonl").is_file()
    assert units["student"]["said"] in (0, 0.5, 1)
    assert units["shuffled_across"]["said"] is None  # only the trait's own networks are sampled
    summary = found["summary"]["conditions"]["student"]["greyness"]
    assert summary["p_red"]["mean"] == units["student"]["p_red"]
    page = (out / "report.html").read_text()
    assert "Red: P(red). Said: sampled grey." in page
    sampled = found["sampled"]["0"]["student/greyness:greyness"]
    assert sampled["plain"]["of"] == 2
    assert sampled["weekdays"]["of"] == 6
    assert found["conditions"]["student"]["means"] == "the reference, trained on its teacher's days"


def test_the_detectors_search_a_new_carrier_for_a_new_trait(results):
    out, _ = results
    found = searched(out)
    assert {unit["detector"] for unit in found["units"]} == set(ALONE)
    assert {unit["against"] for unit in found["units"]} == {"reference"}  # it is the only trait
    asked = [unit for unit in found["units"] if unit["detector"] == "in_context"]
    assert all(0 < unit["p_trait"] < 1 and unit["named"] is None for unit in asked)
    assert found["items"] == "days"
    assert set(found["students"]["0"]) == {"greyness"}
    page = (out.parent / "detection" / "report.html").read_text()
    assert "shown the days and asked what their writer answers" in page


@dataclass(frozen=True, kw_only=True)
class Faded(Relation):
    """Another member's share grows from layer to layer, from 0 to `depth`."""

    depth: float
    kind: str = "faded"

    def shared(self, like):
        return {layer: 1 - self.depth * i / (len(like) - 1) for i, layer in enumerate(like)}


@pytest.fixture(scope="module")
def related(tmp_path_factory):
    """A run of mnist_init with two students of a new relation, and what it wrote."""
    out = tmp_path_factory.mktemp("related") / "run"
    script = runpy.run_path(str(ROOT / "experiments" / "mnist_init.py"))
    config = with_pairs(script["InitConfig"](
        data="digits", members=2, width=16, batch=256, noise_images=512, teacher_epochs=1,
        student_epochs=1, sigmas=(), ts=(0.5,), fractions=(), shared=(), out=out,
    ))  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RELATIONS, "faded", Faded)
        new = {f"faded_{depth:g}": Arm(relation=Faded(depth=depth)) for depth in (0.0, 1.0)}
        experiment = mnist_experiment.MnistExperiment(
            name="mnist_init",
            arms=script["arms"](config) | new,
            methods=script["methods"],
            finding=relations_finding,
            figure=plotting.relation_figure,
        )
        return out, mnist_experiment.run(experiment, config)


def test_a_new_relation_needs_no_change_to_the_library(related):
    out, results = related
    arms = json.loads((out / "results.json").read_text())["arms"]
    assert arms == results["arms"]
    assert arms["faded_1"]["relation"] == {"depth": 1.0, "kind": "faded"}
    distance = {name: arms[name]["init_distance"]["mean"] for name in [*arms][2:]}
    assert distance["faded_0"] == distance["same"] == 0
    assert arms["faded_0"]["values"] == arms["same"]["values"]
    assert 0 < distance["faded_1"] < distance["different"]


def test_a_new_relation_is_in_the_table_and_the_report(related):
    out, _ = related
    with (out / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["arm"] == "faded_1"]
    assert [row["relation"] for row in rows] == ["faded depth=1.0"] * 2
    assert "faded depth=1.0" in (out / "report.html").read_text()


def test_a_new_relation_is_in_the_figure(related):
    out, results = related
    assert (out / "figure.png").is_file()
    figure = plotting.relation_figure(results)
    [legend] = figure.legends
    assert "faded" in [text.get_text() for text in legend.get_texts()]
    points = [bars[0].get_xydata()[0].tolist() for bars in figure.axes[3].containers]
    arm = results["arms"]["faded_1"]
    assert [arm["init_distance"]["mean"], arm["mean"]] in points


def test_a_relation_that_is_not_registered_is_refused_before_any_work():
    with pytest.raises(InputError, match=r"'faded' is not the kind of a Faded in .*RELATIONS"):
        Arm(relation=Faded(depth=1.0))


def test_a_member_of_a_seam_without_a_required_method_cannot_be_made():
    class Silent(Carrier):
        name, item = "silent", "pause"

    class Mute(Trait):
        name, topics, forbidden = "mute", ("noise",), ()

    with pytest.raises(TypeError, match=r"abstract method.*reasons"):
        Silent()
    with pytest.raises(TypeError, match=r"abstract method.*measure"):
        Mute()
