"""An artifact is used only if all of it belongs: settings, inputs, files; else it is refused."""

import json

import pytest

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.pipeline import artifacts
from subliminal_jax.pipeline.artifacts import BEGUN, MANIFEST, Recipe
from subliminal_jax.runs import RunDirectory

FIRST = Recipe("filter-0", {"rows": 3, "rules": ["numbers"]})


@pytest.fixture
def run(tmp_path):
    with RunDirectory.open(tmp_path / "run", {"seed": 1}) as directory:
        yield directory


def make(run, recipe, text="x"):
    path = artifacts.begin(run, recipe)
    (path / "rows.jsonl").write_text(text)
    return artifacts.commit(run, recipe, {"kept": 3})


def test_an_artifact_is_found_again(run):
    assert artifacts.find(run, FIRST) is None
    made = make(run, FIRST)
    assert artifacts.find(run, FIRST) == made
    assert artifacts.facts_of(made) == {"kept": 3}
    manifest = json.loads((made.path / MANIFEST).read_text())
    assert manifest["settings"] == dict(FIRST.settings)
    assert set(manifest["files"]) == {"rows.jsonl"}
    assert "python" in manifest["environment"]
    assert not (made.path / BEGUN).exists()


def test_its_digest_is_of_settings_inputs_and_files(run):
    made = make(run, FIRST)
    second = make(run, Recipe("student-0", {}, (made,)))
    names = ["a", "b", "c"]
    others = [
        make(run, Recipe(names[0], {"rows": 4})),
        make(run, Recipe(names[1], dict(FIRST.settings)), "y"),
        make(run, Recipe(names[2], dict(FIRST.settings), (second,))),
    ]
    digests = {made.digest, *(one.digest for one in others)}
    assert len(digests) == 4
    assert make(run, Recipe("d", dict(FIRST.settings))).digest == made.digest


def test_one_of_other_settings_is_refused_by_field(run):
    make(run, FIRST)
    with pytest.raises(InputError, match=r"filter-0: does not belong.*settings.rows 3 -> 4"):
        artifacts.find(run, Recipe("filter-0", {"rows": 4, "rules": ["numbers"]}))


def test_one_of_other_inputs_is_refused(run):
    old = make(run, Recipe("numbers-0", {}))
    make(run, Recipe("filter-0", {}, (old,)))
    new = make(run, Recipe("numbers-0", {}), "changed")
    with pytest.raises(InputError, match=r"does not belong to this run \(inputs.numbers-0"):
        artifacts.find(run, Recipe("filter-0", {}, (new,)))


@pytest.mark.parametrize("change", ["edit", "remove"])
def test_a_changed_file_is_refused_by_name(run, change):
    made = make(run, FIRST)
    path = made.path / "rows.jsonl"
    path.unlink() if change == "remove" else path.write_text("z")
    with pytest.raises(InputError, match=r"rows\.jsonl: missing or changed"):
        artifacts.find(run, FIRST)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_manifest_is_refused(run, text):
    made = make(run, FIRST)
    (made.path / MANIFEST).write_text(text)
    with pytest.raises(InputError, match="filter-0"):
        artifacts.find(run, FIRST)


def test_a_stopped_stage_goes_on_and_a_foreign_one_does_not(run):
    path = artifacts.begin(run, FIRST)
    files.append_rows(path / "rows.jsonl", [{"id": "a"}, {"id": "b"}])
    assert artifacts.find(run, FIRST) is None
    assert files.read_rows(artifacts.begin(run, FIRST) / "rows.jsonl") == [{"id": "a"}, {"id": "b"}]
    with pytest.raises(InputError, match="does not belong"):
        artifacts.begin(run, Recipe("filter-0", {"rows": 9}))
