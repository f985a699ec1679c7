"""Resumed stages and reloaded models are used if they belong to the run, and refused otherwise."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from language import tiny
from quick import random_params
from students import make_reference
from untrained import random_adapters

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.language import references, study
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.config import described
from subliminal_jax.language.evaluation import measure
from subliminal_jax.language.reference import given_reference
from subliminal_jax.language.settings import ReferenceConfig
from subliminal_jax.language.study import LmStudy
from subliminal_jax.language.tiny.corpus import World, texts
from subliminal_jax.language.tiny.tokenizer import build_tokenizer, tokenizer_files
from subliminal_jax.language.training.devices import execution_of
from subliminal_jax.language.training.trees import load_tree, tree_bytes
from subliminal_jax.models.decoder.config import Compute, DecoderConfig
from subliminal_jax.models.export import write_model
from subliminal_jax.runs.sealed import sealed_row
from subliminal_jax.runs.shared_run import shared_run


@pytest.fixture
def teaching(tmp_path, monkeypatch):
    """A study with random teachers; a list records the origin of each training."""
    reference, trained = make_reference(tmp_path / "words"), []

    def teachers(settings, reference, traits, seed, execution, saving):
        trained.append(saving.origin)
        return random_adapters(reference, 1, seed=len(trained))

    monkeypatch.setattr(references, "tiny_reference", lambda *args: reference)
    monkeypatch.setattr(study, "finetune_teachers", teachers)
    config = tiny(tmp_path / "cache")
    with shared_run(tmp_path / "run", described(config)) as run:
        yield LmStudy(config, run), trained


def stopped(*args):
    raise KeyboardInterrupt


def stop_after_training(made, monkeypatch):
    """Interrupts the teacher stage after training; returns the path of the trained teachers."""
    monkeypatch.setattr(LmStudy, "_teacher_rates", stopped)
    with pytest.raises(KeyboardInterrupt):
        made.teachers(0)
    monkeypatch.setattr(LmStudy, "_teacher_rates", lambda *args: {"owl": 0.9})
    return made.run.path / "teacher-0" / "teachers.npz"


def test_teachers_of_an_interrupted_stage_are_reused(teaching, monkeypatch):
    made, trained = teaching
    path = stop_after_training(made, monkeypatch)
    before = path.read_bytes()
    artifact = made.teachers(0)
    assert len(trained) == 1
    assert path.read_bytes() == before
    assert made.teachers(0) == artifact


def test_replaced_teachers_are_refused(teaching, monkeypatch):
    made, trained = teaching
    path = stop_after_training(made, monkeypatch)
    others = jax.tree.map(lambda leaf: leaf + 1, load_tree(path))
    path.write_bytes(tree_bytes(others))
    with pytest.raises(InputError, match=r"teachers\.npz: not written by this stage.*; remove"):
        made.teachers(0)
    path.unlink()
    made.teachers(0)
    assert len(trained) == 2


def test_checkpoints_record_the_stage_and_its_file(teaching):
    made, trained = teaching
    path = made.run.subdirectory("teacher-0")
    files.write_whole(path / "begun.json", b"{}")
    with pytest.raises(InputError, match=r"begun\.json: changed since"):
        made.teachers(0)
    (path / "begun.json").unlink()
    made._teacher_rates = lambda *args: {"owl": 0.9}
    made.teachers(0)
    assert trained[0]["file"] == "teachers.npz"
    assert trained[0]["settings"]["reference"] == "digest"


def row_of(name, counts, made_from="here"):
    return sealed_row({"of": name, "counts": counts}, made_from, measure.SAMPLED)


def counted(tmp_path, *rows):
    path = tmp_path / measure.SAMPLED
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return measure._counted(path, "here")


def test_counts_of_an_interrupted_evaluation_are_reused(tmp_path):
    rows = [row_of(name, {"of": 3}) for name in ("a:owl", "b:owl")]
    assert counted(tmp_path, *rows) == {"a:owl": {"of": 3}, "b:owl": {"of": 3}}
    assert measure._counted(tmp_path / "none.jsonl", "here") == {}


@pytest.mark.parametrize(
    "row",
    [
        {"of": "a:owl", "counts": {"of": 3}},
        row_of("a:owl", {"of": 3}) | {"counts": {"of": 4}},
        row_of("a:owl", {"of": 3}) | {"of": "b:owl"},
        row_of("a:owl", {"of": 3}) | {"more": 1},
        row_of("a:owl", {"of": 3}, made_from="elsewhere"),
        sealed_row({"of": "a:owl"}, "here", measure.SAMPLED),
        sealed_row({"of": "a:owl", "counts": {"of": 3}}, "here", "another.jsonl"),
    ],
)
def test_counts_of_other_networks_are_refused_by_line(tmp_path, row):
    good = row_of("b:owl", {"of": 3})
    with pytest.raises(InputError, match=r"sampled\.jsonl: line 2: belongs to another run, or was"):
        counted(tmp_path, good, row)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A small Llama as files."""
    place = tmp_path_factory.mktemp("models") / "llama"
    tokenizer = build_tokenizer(texts(World(carrier=Numbers(NumberPrompts(wording="short")))))
    config = DecoderConfig(
        vocab=tokenizer.get_vocab_size(), width=8, layers=1, heads=2, kv_heads=2, head_dim=4,
        mlp_width=8, context=64,
    )  # fmt: skip
    write_model(place, config, random_params(config, scale=0.3), lineage={})
    for name, text in tokenizer_files(tokenizer, config.context).items():
        (place / name).write_text(text)
    return place


def other_weights(place):
    (path,) = place.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x80  # the sign of the last number
    path.write_bytes(data)


def other_config(place):
    stated = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(stated | {"rms_norm_eps": 0.1}))


def other_tokenizer(place):
    stated = json.loads((place / "tokenizer.json").read_text())
    ids = stated["model"]["vocab"]
    ids["1"], ids["2"] = ids["2"], ids["1"]
    (place / "tokenizer.json").write_text(json.dumps(stated))


@pytest.mark.parametrize(
    ("change", "part"),
    [(other_weights, "weights"), (other_config, "config"), (other_tokenizer, "chat")],
)
def test_a_given_model_is_identified_by_its_content(directory, tmp_path, change, part):
    """If a file is replaced between two stages, the second one is refused."""
    place = tmp_path / "model"
    place.mkdir()
    for path in directory.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    settings = ReferenceConfig(model=str(place), dtype="float32")
    config = replace(tiny(tmp_path / "cache"), reference=settings)

    def load():
        return given_reference(str(place), settings, execution_of(config.mesh, None, 1), Compute())

    with shared_run(tmp_path / "run", described(config)) as run:
        first, again = load(), load()
        assert first.digest == again.digest
        assert np.all(first.params["embedding"] == again.params["embedding"])
        made = LmStudy(config, run)._stages.artifact(
            "teacher", 0, ("teacher",), (), lambda path: {}
        )
        assert (
            LmStudy(config, run)._stages.artifact("teacher", 0, ("teacher",), (), stopped) == made
        )
        change(place)
        other = load()
        assert other.digest != first.digest
        assert [name for name in first.parts if first.parts[name] != other.parts[name]] == [part]
        with pytest.raises(
            InputError, match=rf"does not belong to this run \(settings.reference.{part} "
        ):
            LmStudy(config, run)._stages.artifact("teacher", 0, ("teacher",), (), stopped)
