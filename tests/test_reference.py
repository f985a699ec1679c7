"""The cache of tiny references: each is pretrained once, by one process, and checked on use."""

import json
import os
import shutil
import subprocess
import threading
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from disks import small_disk

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.settings import ReferenceConfig
from subliminal_jax.language.tiny import reference
from subliminal_jax.language.tiny.corpus import World
from subliminal_jax.language.tiny.reference import tiny_origin, tiny_reference
from subliminal_jax.language.world import CorpusConfig
from subliminal_jax.models.decoder import decoder
from subliminal_jax.runs import shared_run
from subliminal_jax.runs.run_directory import RunDirectory

PROMPTS = World(carrier=Numbers(NumberPrompts(wording="short", law="mixed")))
NAMES = {"params.npz", "tokenizer.json", "tokenizer_config.json"}


def small(cache):
    return ReferenceConfig(
        width=8, layers=1, heads=2, mlp_width=8, steps=4, batch=2, cache=cache,
        corpus=CorpusConfig(chats=40),
    )  # fmt: skip


def get(cache):
    return tiny_reference(small(cache), PROMPTS, 5)


def untrained(given, config, table, seed, saving):
    """Replaces pretraining; leaves a checkpoint, as an interrupted one would."""
    saving.directory.joinpath("00000002").mkdir(exist_ok=True)
    return jax.tree.map(np.asarray, decoder.init(config, jax.random.key(seed)))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache with an untrained reference."""
    place = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "pretrain", untrained)
        return place, get(place)


@pytest.fixture
def cache(kept, tmp_path, monkeypatch):
    """A copy of that cache; pretraining again would fail."""
    monkeypatch.setattr(reference, "pretrain", None)
    shutil.copytree(kept[0], tmp_path / "cache")
    return tmp_path / "cache"


def directory_of(cache):
    (found,) = cache.iterdir()
    return found


def test_each_precision_has_a_directory_and_says_which(tmp_path):
    origins = [tiny_origin(small(tmp_path), PROMPTS, 5, one) for one in ("float32", "bfloat16")]
    assert len({path for path, _ in origins}) == 2
    assert [made_from["precision"] for _, made_from in origins] == ["float32", "bfloat16"]


def test_a_reference_is_pretrained_once(tmp_path):
    made, again = get(tmp_path), get(tmp_path)
    assert made.digest == again.digest
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), made.params, again.params))


def test_a_cached_reference_is_used(kept, cache):
    assert get(cache).digest == kept[1].digest
    assert set(os.listdir(directory_of(cache))) > NAMES
    assert "checkpoints" not in os.listdir(directory_of(cache))


def exchange_two_ids(data):
    tokenizer = json.loads(data)
    vocabulary = tokenizer["model"]["vocab"]
    *_, one, two = vocabulary
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    return json.dumps(tokenizer).encode()


CHANGES = {
    "params.npz": lambda data: data[:-1] + b"x",
    "tokenizer.json": exchange_two_ids,
    "tokenizer_config.json": lambda data: data + b"\n",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_was_changed_is_refused(cache, name):
    path = directory_of(cache) / name
    path.write_bytes(CHANGES[name](path.read_bytes()))
    with pytest.raises(InputError, match=f"{name}: missing or changed .* remove {path.parent}"):
        get(cache)
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: missing or changed since"):
        get(cache)


def test_a_file_that_was_added_is_refused(cache):
    (directory_of(cache) / "chat_template.jinja").write_text("x")
    with pytest.raises(InputError, match=r"chat_template\.jinja: not a file of this reference"):
        get(cache)


def test_results_that_were_changed_are_refused(cache):
    path = directory_of(cache) / "results.json"
    path.write_text(path.read_text().replace("params.npz", "other.npz"))
    with pytest.raises(InputError, match=r"results\.json: changed .* remove that directory"):
        get(cache)


def test_checkpoints_left_by_a_late_kill_are_removed(cache):
    (directory_of(cache) / "checkpoints").mkdir()
    get(cache)
    assert not (directory_of(cache) / "checkpoints").exists()


def test_a_reference_in_use_or_on_a_read_only_disk_is_read(kept, cache, tmp_path):
    path = directory_of(cache)
    (path / "checkpoints").mkdir()
    with RunDirectory.open(path, json.loads((path / "config.json").read_text())) as run:
        run.write_text("more", "held")  # as by a process that cleans up after finishing
        (path / "more").unlink()
        assert get(cache).digest == kept[1].digest
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        shutil.copytree(cache, disk / "cache")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert get(disk / "cache").digest == kept[1].digest
        with pytest.raises(InputError, match=r"--reference\.cache .*Read-only file system"):
            tiny_reference(small(disk / "cache"), PROMPTS, 6)


def test_of_two_processes_one_pretrains_and_one_waits(kept, tmp_path, monkeypatch, capsys):
    trained, begun, waited, found = [], threading.Event(), threading.Event(), []

    def pretrain(*arguments):
        trained.append(arguments)
        begun.set()
        assert waited.wait(600)
        return untrained(*arguments)

    monkeypatch.setattr(reference, "pretrain", pretrain)
    monkeypatch.setattr(
        shared_run, "time", SimpleNamespace(sleep=lambda _: (waited.set(), other.join()))
    )
    other = threading.Thread(target=lambda: found.append(get(tmp_path)))
    other.start()
    assert begun.wait(600)
    assert get(tmp_path).digest == found[0].digest == kept[1].digest
    assert len(trained) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"waiting for another run (pid {os.getpid()} on ")
    assert line.endswith(f"which makes the reference of seed 5 in {directory_of(tmp_path)}")
