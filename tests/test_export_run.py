"""Exported networks of a run equal the measured ones."""

import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from language import tiny
from numpy.testing import assert_allclose, assert_array_equal
from untrained import untrained as nothing_trained

from subliminal_jax.errors import InputError
from subliminal_jax.language import study
from subliminal_jax.language.config import described
from subliminal_jax.language.outputs.export import open_run
from subliminal_jax.language.outputs.places import note_cache
from subliminal_jax.language.settings import TuningConfig
from subliminal_jax.language.tiny.reference import tiny_origin
from subliminal_jax.language.training.trainable import network
from subliminal_jax.language.training.trees import load_tree
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.hub.adapter_files import read_adapter
from subliminal_jax.models.hub.weights import load
from subliminal_jax.models.text.chat import Chat
from subliminal_jax.runs.shared_run import shared_run

TOKENS = jnp.asarray(np.random.default_rng(3).integers(0, 1000, (2, 5)))
apply = jax.jit(decoder.apply, static_argnums=0)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    with nothing_trained(tmp_path_factory.mktemp("reference") / "files") as reference:
        yield reference


def begun(path, config, until):
    """A run that ended after a stage; its cached reference is a directory with an empty result."""
    given = config.reference
    if given.model is None:
        kept, _ = tiny_origin(given, config.world, config.seed)
        kept.mkdir(parents=True, exist_ok=True)
        (kept / "results.json").touch()
    with shared_run(path, described(config)) as directory:
        note_cache(directory, given.cache)
        until(study.LmStudy(config, directory))
    return path


def finished(path, config):
    return begun(path, config, lambda study: study.students(0))


@pytest.fixture(scope="module")
def run(untrained, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    return finished(path, tiny(path.parent / "cache"))


@pytest.fixture
def elsewhere(tmp_path_factory):
    """A directory that `refused` does not check for results."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture
def export(script, untrained, run):
    def call(*words, of=run):
        ended = script("export_model", "--run", str(of), *map(str, words))
        assert ended.status == 0, ended.err
        return ended

    return call


def logits(model):
    return apply(model.config, model.params, TOKENS)


@pytest.mark.parametrize(
    ("name", "file", "place"),
    [("student/owl", "student-0/hard", 0), ("regular", "student-0/hard", 1),
     ("teacher/owl", "teacher-0/teachers", 0)],
)  # fmt: skip
def test_a_network_is_written_as_it_was_measured(
    export, untrained, run, tmp_path, name, file, place
):
    out = tmp_path / "out"
    ended = export("--network", name, "--out", out)
    assert f"{out}: {name} as a Hugging Face directory" in ended.out
    trained = jax.tree.map(lambda leaf: leaf[place], load_tree(run / f"{file}.npz"))
    params, adapter = network(TuningConfig(rank=2), untrained.config, untrained.params, trained)
    expected = apply(untrained.config, params, TOKENS, adapter=adapter)
    found = logits(load(str(out)))
    assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found - apply(untrained.config, untrained.params, TOKENS)).max() > 0.1


def test_its_tokenizer_and_origin_are_exported_too(export, untrained, tmp_path):
    out = tmp_path / "out"
    export("--network", "student/owl", "--out", out)
    assert Chat.load(out).digest == untrained.chat.digest
    stops = json.loads((out / "generation_config.json").read_text())
    assert stops == {"eos_token_id": sorted(untrained.chat.stop_ids)}
    card = (out / "README.md").read_text()
    assert "| network | student/owl: the reference, trained on its teacher's numbers |" in card
    assert f"| digest of its reference | {untrained.digest} |" in card


def test_an_adapter_fits_the_exported_reference_only(export, refused, run, tmp_path):
    base, out = tmp_path / "base", tmp_path / "out"
    export("--network", "before", "--out", base)
    export("--network", "regular", "--adapter", "--base", base, "--out", out)
    settings, adapter = read_adapter(out, load(str(base)))
    assert (settings.rank, settings.alpha) == (2, TuningConfig().alpha)
    trained = jax.tree.map(lambda leaf: leaf[1], load_tree(run / "student-0" / "hard.npz"))
    jax.tree.map(assert_array_equal, adapter, trained)
    other = tmp_path / "other"
    export("--network", "student/owl", "--out", other)
    words = ("--run", run, "--network", "regular", "--adapter", "--base", other, "--out", "no")
    assert f"base: {other} is not the reference of regular" in refused("export_model", *words)


def test_all_files_of_a_given_model_are_kept(export, refused, untrained, tmp_path):
    base, template = tmp_path / "base", tmp_path / "other.jinja"
    export("--network", "before", "--out", base)
    text = json.loads((base / "tokenizer_config.json").read_text())["chat_template"]
    template.write_text(text.replace("'<'", "'<' ~ ''"))
    config = tiny(tmp_path / "cache")
    config = replace(
        config, reference=replace(config.reference, model=str(base), template=template)
    )
    run = finished(tmp_path / "run", config)
    export("--network", "student/owl", "--out", tmp_path / "out", of=run)
    assert (tmp_path / "out" / "chat_template.jinja").read_bytes() == template.read_bytes()
    for name in ("tokenizer.json", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
    words = ("--network", "student/owl", "--adapter", "--out", tmp_path / "adapter")
    export(*words, of=run)
    settings, _ = read_adapter(tmp_path / "adapter", load(str(base)))
    assert settings.rank == 2
    line = refused("export_model", "--run", run, *words, "--base", base)
    assert "base: the adapter belongs to the run's given model" in line
    template.write_text(text)
    line = refused("export_model", "--run", run, "--network", "before", "--out", "no")
    assert "teacher-0: does not belong to this run (settings.reference" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--network", "student/wolf"),
         "network: unknown 'student/wolf'; choose from before, teacher/owl, student/owl, regular"),
        (("--network", "before", "--adapter"), "network: before is the reference itself and has"),
        (("--network", "regular", "--adapter"), "base: an adapter needs its model as a directory"),
        (("--network", "regular", "--base", "x"), "base: only an adapter has a base"),
        (("--network", "regular", "--repetition", "1"), "repetition: 1 is not in the run; give 0"),
    ],
)  # fmt: skip
def test_wrong_flags_are_refused(refused, run, words, message):
    line = refused("export_model", "--run", run, "--out", "out", *words)
    assert line.startswith(message)


def test_an_unfinished_run_is_refused(refused, untrained, elsewhere, tmp_path):
    words = ("--network", "regular", "--out", tmp_path / "out")
    line = refused("export_model", "--run", tmp_path, *words)
    assert f"{tmp_path}: not a run of a language experiment (no config.json)" in line
    run = begun(tmp_path / "run", tiny(elsewhere / "cache"), lambda study: study.teachers(0))
    line = refused("export_model", "--run", run, *words)
    assert "student-0: not finished; run its script with this run's settings" in line


def test_a_missing_dataset_is_named_without_a_flag(refused, untrained, elsewhere, tmp_path):
    run = finished(tmp_path / "run", tiny(elsewhere / "cache"))
    shutil.rmtree(run / "filter-0")
    line = refused("export_model", "--run", run, "--network", "regular", "--out", "out")
    assert "filter-0: not finished; run its script with this run's settings until stage" in line
    assert "--stage" not in line


def test_a_run_that_is_read_makes_no_artifact(run):
    with pytest.raises(InputError, match="evaluate-0: not finished"):
        open_run(run).evaluation(0)


def test_fully_trained_weights_have_no_adapter(refused, untrained, elsewhere, tmp_path):
    config = tiny(elsewhere / "cache")
    student = replace(config.student, tuning=TuningConfig(weights="full"))
    run = finished(tmp_path / "run", replace(config, student=student))
    words = ("--network", "regular", "--adapter", "--base", "x", "--out", "out")
    assert "regular has all weights trained" in refused("export_model", "--run", run, *words)


def test_a_changed_file_is_refused(refused, untrained, elsewhere, tmp_path):
    run = finished(tmp_path / "run", tiny(elsewhere / "cache"))
    path = run / "student-0" / "hard.npz"
    path.write_bytes(path.read_bytes() + b"x")
    words = ("--run", run, "--network", "regular", "--out", "out")
    assert "hard.npz: missing or changed" in refused("export_model", *words)


def test_the_cache_that_the_run_used_is_found(export, refused, untrained, elsewhere, tmp_path):
    """From any working directory, and after moving run and cache together."""
    place, moved = elsewhere / "place", elsewhere / "moved"
    run = finished(place / "run", tiny(place / "cache"))
    export("--network", "before", "--out", tmp_path / "one", of=run)
    place.rename(moved)
    run = moved / "run"
    export("--network", "before", "--out", tmp_path / "two", of=run)
    (moved / "cache").rename(elsewhere / "found")
    words = ("--run", run, "--network", "before", "--out", "no")
    line = refused("export_model", *words)
    assert f"its references are no longer in {place}/cache; give --cache" in line
    given = ("--cache", elsewhere / "found", "--out", tmp_path / "three")
    export("--network", "before", *given, of=run)
    (tmp_path / "empty").mkdir()
    line = refused("export_model", *words, "--cache", tmp_path / "empty")
    assert "the run's reference 0 is missing; give --cache DIR" in line
    (run / "places.json").unlink()
    assert "does not record where its references are" in refused("export_model", *words)
