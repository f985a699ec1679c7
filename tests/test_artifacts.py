"""Artifacts with other settings or inputs, or with changed files, are refused by name."""

import json
import os

import pytest

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.runs import artifacts
from subliminal_jax.runs.artifacts import BEGUN, MANIFEST, SEAL, Recipe
from subliminal_jax.runs.run_directory import RunDirectory

FIRST = Recipe("filter-0", {"rows": 3, "rules": ["numbers"]})


@pytest.fixture
def run(tmp_path):
    with RunDirectory.open(tmp_path / "run", {"seed": 1}) as directory:
        yield directory


def make(run, recipe, text="x", kept=3):
    path = artifacts.begin(run, recipe)
    (path / "rows.jsonl").write_text(text)
    return artifacts.commit(run, recipe, {"kept": kept})


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


def test_its_digest_is_of_settings_inputs_files_and_facts(run):
    made = make(run, FIRST)
    second = make(run, Recipe("student-0", {}, (made,)))
    names = ["a", "b", "c", "e"]
    others = [
        make(run, Recipe(names[0], {"rows": 4})),
        make(run, Recipe(names[1], dict(FIRST.settings)), "y"),
        make(run, Recipe(names[2], dict(FIRST.settings), (second,))),
        make(run, Recipe(names[3], dict(FIRST.settings)), kept=4),
    ]
    digests = {made.digest, *(one.digest for one in others)}
    assert len(digests) == 5
    assert make(run, Recipe("d", dict(FIRST.settings))).digest == made.digest


def test_an_artifact_with_other_settings_is_refused_by_field(run):
    make(run, FIRST)
    with pytest.raises(InputError, match=r"filter-0: does not belong.*settings.rows 3 -> 4"):
        artifacts.find(run, Recipe("filter-0", {"rows": 4, "rules": ["numbers"]}))


def test_an_artifact_from_other_inputs_is_refused(run):
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


def rewrite(path, change):
    """Edits the object in a file."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


CHANGES = [
    lambda manifest: manifest["facts"].update(kept=4),
    lambda manifest: manifest["files"].clear(),
    lambda manifest: manifest["settings"].update(rows=4),
    lambda manifest: manifest["inputs"].update({"numbers-0": "0" * 64}),
    lambda manifest: manifest["environment"].update(python="2.7"),
    lambda manifest: manifest.update(name="filter-1"),
    lambda manifest: manifest.update(more=1),
    lambda manifest: manifest.pop("facts"),
    lambda manifest: manifest.pop(SEAL),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_with_any_field_edited_is_refused(run, change):
    made = make(run, FIRST)
    rewrite(made.path / MANIFEST, change)
    refused = pytest.raises(InputError, match=r"filter-0/manifest\.json: changed since")
    with refused:
        artifacts.find(run, FIRST)
    with refused:
        artifacts.facts_of(made)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'{"facts": 1e999}', b"[" * 100_000])
def test_a_corrupt_manifest_is_refused(run, content):
    made = make(run, FIRST)
    (made.path / MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match=r"filter-0/manifest\.json: (damaged|changed since)"):
        artifacts.find(run, FIRST)
    (made.path / MANIFEST).unlink()
    os.mkfifo(made.path / MANIFEST)
    with pytest.raises(InputError, match=r"filter-0/manifest\.json: is not a file"):
        artifacts.find(run, FIRST)


def test_facts_of_a_replaced_manifest_are_refused(run):
    """Even if the new manifest is valid in itself."""
    made = make(run, FIRST)
    text = (made.path / MANIFEST).read_text()
    make(run, FIRST, kept=4)
    with pytest.raises(InputError, match="json: changed since it was written"):
        artifacts.facts_of(made)
    (made.path / MANIFEST).write_text(text)
    assert artifacts.facts_of(made) == {"kept": 3}
    (made.path / MANIFEST).unlink()
    with pytest.raises(InputError, match="json: changed since it was written"):
        artifacts.facts_of(made)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_manifest_is_refused(run, text):
    made = make(run, FIRST)
    (made.path / MANIFEST).write_text(text)
    with pytest.raises(InputError, match="filter-0"):
        artifacts.find(run, FIRST)


def test_an_interrupted_stage_resumes_only_with_its_own_recipe(run):
    path = artifacts.begin(run, FIRST)
    files.append_rows(path / "rows.jsonl", [{"id": "a"}, {"id": "b"}])
    assert artifacts.find(run, FIRST) is None
    assert files.read_rows(artifacts.begin(run, FIRST) / "rows.jsonl") == [{"id": "a"}, {"id": "b"}]
    with pytest.raises(InputError, match="does not belong"):
        artifacts.begin(run, Recipe("filter-0", {"rows": 9}))


@pytest.mark.parametrize("change", [*CHANGES[2:4], CHANGES[6], CHANGES[8]])
def test_an_edited_begun_file_is_refused(run, change):
    path = artifacts.begin(run, FIRST)
    rewrite(path / BEGUN, change)
    with pytest.raises(InputError, match=r"filter-0/begun\.json: changed since"):
        artifacts.begin(run, FIRST)


def test_a_part_is_recognised_by_its_bytes(run):
    path = artifacts.begin(run, FIRST) / "hard.npz"
    assert not artifacts.has_part(path)
    artifacts.write_part(path, b"x")
    assert artifacts.has_part(path)
    artifacts.begin(run, FIRST)
    assert artifacts.has_part(path)
    assert artifacts.begun_from(path.parent) == FIRST.origin
    path.unlink()
    assert not artifacts.has_part(path)
    artifacts.write_part(path, b"y")
    assert artifacts.has_part(path)
    artifacts.write_part(path.with_name("soft.npz"), b"z")
    assert artifacts.has_part(path)
    artifacts.commit(run, FIRST)
    assert artifacts.find(run, FIRST) is not None


@pytest.mark.parametrize("known", [True, False])
def test_a_part_that_the_stage_did_not_write_is_refused_by_name(run, known):
    path = artifacts.begin(run, FIRST) / "hard.npz"
    if known:
        artifacts.write_part(path, b"x")
    path.write_bytes(b"of another run")
    with pytest.raises(InputError, match=r"hard\.npz: not written by this stage.*remove the"):
        artifacts.has_part(path)
