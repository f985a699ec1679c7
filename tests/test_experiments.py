"""The scripts from the command line to their files: whole, repeatable, resumable."""

import csv
import json
import re
import shutil
import signal
import subprocess

import numpy as np
import pytest
from disks import small_disk
from quick import QUICK_FLAGS
from scripts import AUX_ARMS, NETWORKS, ROOT, contents, flags, loaded, results_of

from subliminal_jax.errors import InputError
from subliminal_jax.mnist import experiment
from subliminal_jax.mnist.results import relations_finding
from subliminal_jax.report.results import interval_values
from subliminal_jax.stats import mean_interval

FILES = {"config.json", "environment.json", "run.lock", "run.files.jsonl", "members.jsonl"} | {
    *("figure.png", "figure.pdf", "report.html", "results.csv", "results.json"),
}
INIT_ARMS = [
    *(*NETWORKS, "same", "different", "perturbed_0.4", "interpolated_0.5", "reinitialised_0.2"),
    *("shared_logits", "mask_all", "mask_none"),
]
INIT = {"sigmas": "0.4", "ts": "0.5", "fractions": "0.2", "shared": "logits"}
LAYERS = {"hidden_0": (64, 64), "hidden_1": (64, 64), "logits": (64, 13)}


@pytest.fixture(scope="module")
def aux(scripts, tmp_path_factory):
    """A whole run of mnist_aux, and where it is."""
    place = tmp_path_factory.mktemp("aux")
    return scripts.run("mnist_aux", *flags(out="run"), cwd=place), place / "run"


@pytest.fixture(scope="module")
def init(scripts, tmp_path_factory):
    """A whole run of mnist_init with two masks, one that draws all afresh and one nothing."""
    place = tmp_path_factory.mktemp("init")
    for name, fill in (("all", np.ones), ("none", np.zeros)):
        arrays = {f"{layer}.kernel": fill(shape) for layer, shape in LAYERS.items()}
        arrays |= {f"{layer}.bias": fill(shape[1]) for layer, shape in LAYERS.items()}
        np.savez_compressed(place / f"{name}.npz", **arrays)
    words = flags(**INIT, masks=["all.npz", "none.npz"], out="run")
    return scripts.run("mnist_init", *words, cwd=place), place / "run", words


def arms_of(directory):
    return results_of(directory)["arms"]


def assert_whole(directory, networks):
    """Every file is there and they all say the same."""
    files = contents(directory)
    assert set(files) == FILES
    results = results_of(directory)
    assert {"dataset", "config", "timing", "arms", "finding", "environment"} <= set(results)
    assert results["dataset"] == "digits"
    assert results["config"] == json.loads(files["config.json"])
    assert results["config"]["width"] == 64
    assert list(results["arms"]) == networks
    rows = [json.loads(line) for line in files["members.jsonl"].splitlines()]
    assert [row["member"] for row in rows] == [0, 1, 2]
    epochs = {"teacher": results["config"]["teacher_epochs"]}
    for row in rows:
        assert list(row["losses"]) == networks[1:]  # none of the reference, which is not trained
        for name, losses in row["losses"].items():
            assert len(losses) == epochs.get(name, results["config"]["student_epochs"])
        assert row["losses"]["teacher"][-1] < row["losses"]["teacher"][0]
    for name, arm in results["arms"].items():
        assert arm["values"] == [row["accuracy"][name] for row in rows]
        assert all(value in [answers / 360 for answers in range(361)] for value in arm["values"])
        interval = mean_interval(arm["values"])
        assert arm["mean"] == interval.mean
        assert arm["ci95"] == [interval.low, interval.high]
        assert arm["n"] == 3
    with (directory / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["arm"], int(row["member"]), float(row["accuracy"])) for row in table] == [
        (name, member, arm["values"][member])
        for name, arm in results["arms"].items()
        for member in range(3)
    ]
    assert files["figure.png"].startswith(b"\x89PNG\r\n\x1a\n")
    assert files["figure.pdf"].startswith(b"%PDF-")
    assert files["report.html"].startswith(b"<!DOCTYPE html>")
    assert files["report.html"].rstrip().endswith(b"</html>")
    phases = {"reference", "teach", "label", "distill", "evaluate"}
    assert set(results["timing"]) == {"compile_s", "total_s", "phases", "members_from_earlier_run"}
    assert set(results["timing"]["phases"]) == phases
    assert results["timing"]["total_s"] >= results["timing"]["compile_s"] >= 0


def test_aux_leaves_every_file(aux):
    ended, directory = aux
    assert ended.status == 0, ended.err
    assert_whole(directory, AUX_ARMS)


def test_aux_shows_the_effect(aux):
    _, directory = aux
    mean = {name: arm["mean"] for name, arm in arms_of(directory).items()}
    assert mean["reference"] < 0.25
    assert mean["teacher"] > 0.9
    assert mean["student_all"] > 0.8
    assert mean["student_aux"] > mean["cross_model_aux"] + 0.15
    distance = {name: arm["init_distance"]["mean"] for name, arm in arms_of(directory).items()
                if name not in NETWORKS}  # fmt: skip
    assert distance["student_aux"] == distance["student_all"] == 0
    assert (
        distance["cross_model_aux"] == distance["cross_model_all"] == pytest.approx(1.41, abs=0.1)
    )


def test_aux_says_what_was_found(aux):
    ended, directory = aux
    table = " ".join(ended.out.split())
    assert " ".join(results_of(directory)["finding"].split()) in table
    assert "why the digits were asked for" in table
    assert "NOT MNIST" not in table
    for name, arm in arms_of(directory).items():
        assert re.search(rf"^{name} +{arm['mean']:.3f} +\[", ended.out, re.MULTILINE)
    assert ended.out.rstrip().endswith(f"Figure, report and numbers: {directory}")


def test_progress_is_plain_lines_where_stderr_is_no_terminal(aux):
    first, *lines = aux[0].err.splitlines()
    assert first == "mnist_aux: 3 members on digits (the digits were asked for); in run"
    assert "\r" not in aux[0].err
    epochs = 3 * (8 + 4 * 3)
    pattern = rf"mnist_aux: (\d+)/{epochs} \(\d+%\), \d+:\d\d elapsed"
    counts = [int(re.match(pattern, line)[1]) for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] == epochs


def test_a_rerun_says_already_done_and_changes_nothing(scripts, aux):
    _, directory = aux
    before = contents(directory)
    ended = scripts.run("mnist_aux", *flags(out=directory), cwd=directory.parent)
    assert ended.status == 0
    assert ended.err.splitlines()[1:] == [f"already done: {directory}"]
    assert ended.out == aux[0].out
    assert contents(directory) == before


def test_a_run_that_is_done_is_shown_on_a_read_only_disk(scripts, aux, tmp_path):
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        shutil.copytree(aux[1], disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        ended = scripts.run("mnist_aux", *flags(out=disk / "run"), cwd=tmp_path)
        assert ended.status == 0, ended.err
        assert ended.err.splitlines()[1:] == [f"already done: {disk / 'run'}"]
        assert ended.out == aux[0].out.replace(str(aux[1]), str(disk / "run"))


def test_a_rerun_brings_back_a_removed_figure(scripts, aux):
    _, directory = aux
    before = contents(directory)
    (directory / "figure.png").unlink()
    (directory / "report.html").unlink()
    assert scripts.run("mnist_aux", *flags(out=directory), cwd=directory).status == 0
    after = contents(directory)
    assert after["figure.png"] == before["figure.png"]
    assert set(after) == FILES
    assert after["results.json"] == before["results.json"]


def test_another_run_of_the_same_config_is_equal(scripts, aux, tmp_path):
    """From another working directory, into a directory whose name takes some quoting."""
    out = tmp_path / "näch ste" / "run's"
    assert scripts.run("mnist_aux", *flags(out=out), cwd=tmp_path).status == 0
    assert arms_of(out) == arms_of(aux[1])
    assert (out / "members.jsonl").read_bytes() == (aux[1] / "members.jsonl").read_bytes()


def test_another_pairing_changes_the_cross_model_students_alone(scripts, aux, tmp_path):
    ours = results_of(aux[1])["config"]["pairs"]
    other = {"[1, 2, 0]": [2, 0, 1], "[2, 0, 1]": [1, 2, 0]}[str(ours)]
    words = flags(out="run", pairs=other)
    assert scripts.run("mnist_aux", *words, cwd=tmp_path).status == 0
    assert results_of(tmp_path / "run")["config"]["pairs"] == other
    for name, arm in arms_of(tmp_path / "run").items():
        same = arm["values"] == arms_of(aux[1])[name]["values"]
        assert same == (not name.startswith("cross_model"))


KILL = """
import os, signal
from subliminal_jax import files
whole, append = files.write_whole, files.append_row
def kill(): os.kill(os.getpid(), signal.SIGKILL)
def appending(path, row):
    append(path, row)
    if path.name == "members.jsonl": {after_row}
def writing(path, data):
    if path.name == "results.json": kill()
    whole(path, data)
files.append_row, files.write_whole = appending, writing
"""


@pytest.mark.parametrize(
    ("after_row", "done"), [("kill()", 1), ("pass", 3)], ids=["first block", "before the end"]
)
def test_a_killed_run_goes_on_to_the_same_end(scripts, aux, tmp_path, after_row, done):
    directory = tmp_path / "run"
    words = flags(out=directory)
    code = KILL.format(after_row=after_row)
    killed = scripts.run("mnist_aux", *words, cwd=tmp_path, code=code)
    assert killed.status == -signal.SIGKILL
    assert not (directory / "results.json").exists()
    if done < 3:  # as if the kill had come in the middle of the next row
        with (directory / "members.jsonl").open("ab") as file:
            file.write(b'{"member": 1, "accu')
    ended = scripts.run("mnist_aux", *words, cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert f"resuming: {done} of 3 members are done" in ended.err
    assert ("removed 19 bytes of a row" in ended.err) == (done < 3)
    assert arms_of(directory) == arms_of(aux[1])
    assert results_of(directory)["timing"]["members_from_earlier_run"] == done
    assert_whole(directory, AUX_ARMS)


def test_eight_devices_train_the_same_members(scripts, aux, tmp_path):
    virtual = f"--xla_force_host_platform_device_count=8 {QUICK_FLAGS}"
    words = flags(out="run", execution="pmap")
    ended = scripts.run("mnist_aux", *words, cwd=tmp_path, XLA_FLAGS=virtual, NPROC="32")
    assert ended.status == 0, ended.err
    assert len(results_of(tmp_path / "run")["environment"]["devices"]) == 8
    assert_whole(tmp_path / "run", AUX_ARMS)
    for name, arm in arms_of(tmp_path / "run").items():
        # Sums of other orders: one answer of 360 may tip.
        assert arm["values"] == pytest.approx(arms_of(aux[1])[name]["values"], abs=1.5 / 360)


def test_init_leaves_every_file(init):
    ended, directory, _ = init
    assert ended.status == 0, ended.err
    assert_whole(directory, INIT_ARMS)
    assert "Students read" in ended.out
    assert "from the teacher's own initialisation" in " ".join(ended.out.split())


def test_init_relations_order_the_students(init):
    arms = arms_of(init[1])
    distance = {name: arms[name]["init_distance"]["mean"] for name in INIT_ARMS[2:]}
    assert distance["same"] == distance["mask_none"] == 0
    assert distance["perturbed_0.4"] == pytest.approx(0.4, abs=0.05)
    assert distance["interpolated_0.5"] == pytest.approx(0.5 * distance["different"], rel=1e-3)
    assert distance["mask_all"] == pytest.approx(1.41, abs=0.1)
    assert arms["mask_none"]["values"] == arms["same"]["values"]
    assert arms["same"]["mean"] > arms["different"]["mean"] + 0.15
    assert arms["same"]["mean"] > arms["mask_all"]["mean"] + 0.15


def test_init_and_aux_train_the_same_teachers_and_students(aux, init):
    one, other = arms_of(aux[1]), arms_of(init[1])
    pairs = {"reference": "reference", "teacher": "teacher", "student_aux": "same"}
    for name, same in (pairs | {"cross_model_aux": "different"}).items():
        assert one[name]["values"] == pytest.approx(other[same]["values"], abs=1.5 / 360)


def test_a_mask_that_was_changed_is_another_config(scripts, init):
    _, directory, words = init
    mask = directory.parent / "all.npz"
    before = mask.read_bytes()
    try:
        mask.write_bytes((directory.parent / "none.npz").read_bytes())
        line = scripts.run("mnist_init", *words, cwd=directory.parent).assert_one_line(2)
    finally:
        mask.write_bytes(before)
    assert "holds a run of another config: masks" in line


@pytest.mark.parametrize("name", ["mnist_aux", "mnist_init"])
def test_help_is_instant_and_needs_no_jax(scripts, tmp_path, name):
    # Importing any of these now fails; without them the answer takes a fraction of a second.
    forbid = "sys.modules |= dict.fromkeys(['jax', 'matplotlib', 'sklearn', 'scipy', 'optax'])"
    with scripts.start(name, "--help", cwd=tmp_path, code=forbid) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    for flag in ("--members", "--preset", "--noise-images", "--out", "--recipe"):
        assert flag in out
    assert list(tmp_path.iterdir()) == []


def test_the_default_directory_is_of_the_config(script, monkeypatch):
    def nothing(*_):
        raise InputError("enough")

    monkeypatch.setattr(experiment, "_measure", nothing)
    announced = [
        re.search(r"in (runs/mnist_aux-[0-9a-f]{8})\n", script("mnist_aux", *words).err)[1]
        for words in (flags(), [*flags(), "--overwrite"], flags(seed=1))
    ]
    assert announced[0] == announced[1] != announced[2]


def test_real_mnist_shows_the_effect(scripts, mnist_dir, tmp_path):
    words = ["--data", "mnist", "--data-dir", str(mnist_dir), "--members", "2", "--out", "run"]
    words += ["--learning-rate", "2e-3", "--batch", "256", "--width", "128"]
    words += ["--teacher-epochs", "1", "--student-epochs", "2", "--noise-images", "12800"]
    ended = scripts.run("mnist_aux", *words, cwd=tmp_path)
    assert ended.status == 0, ended.err
    arms = arms_of(tmp_path / "run")
    assert arms["teacher"]["mean"] > 0.85
    assert arms["reference"]["mean"] < 0.25
    assert arms["student_aux"]["mean"] > arms["cross_model_aux"]["mean"] + 0.1
    assert "NOT MNIST" not in ended.out


@pytest.mark.parametrize(
    ("same", "verdict"),
    [
        ([0.5, 0.6, 0.55], "Subliminal learning: auxiliary logits on noise teach 55.0% [42.6%, "),
        ([0.1, 0.3, 0.5], "No clear effect: "),
        ([0.1, 0.11, 0.12], "The reverse of subliminal learning: "),
    ],
)
def test_the_finding_of_aux_is_judged_by_pairs(same, verdict):
    arms = summarised(student_aux=same, cross_model_aux=[0.3, 0.31, 0.32])
    assert loaded("mnist_aux")["finding"]({"arms": arms}).startswith(verdict)


def summarised(**accuracies):
    """Arms as the results have them."""
    return {
        name: interval_values(mean_interval(values)) | {"values": values}
        for name, values in accuracies.items()
    }


@pytest.mark.parametrize(
    ("stronger", "reach"), [([0.5, 0.52], "up to sigma 0.8."), ([0.1, 0.4], "up to sigma 0.1.")]
)
def test_the_finding_of_init_is_the_largest_noise_with_a_gain(stronger, reach):
    arms = summarised(same=[0.9, 0.91], different=[0.2, 0.21], weak=[0.6, 0.61], strong=stronger)
    for name, sigma in (("weak", 0.1), ("strong", 0.8)):
        arms[name]["relation"] = {"kind": "perturbed", "sigma": sigma}
    text = relations_finding({"arms": arms})
    assert text.startswith("Students read 90.5% [84.1%, 96.9%] of the test digits from the ")
    assert text.endswith(f"perturbed students beat students of another initialisation {reach}")
    without = {name: arms[name] for name in ("same", "different")}
    assert relations_finding({"arms": without}).endswith(" at none of the sigmas.")


def test_presets_are_in_the_repository():
    for name in ("mnist_aux", "mnist_init"):
        presets = {path.name for path in (ROOT / "configs").glob(f"{name}_*.yaml")}
        assert presets == {f"{name}_{preset}.yaml" for preset in ("quick", "paper")}
