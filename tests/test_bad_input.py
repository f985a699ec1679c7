"""Everything a user can get wrong: refused in one line that says where and what to do."""

import contextlib
import gzip
import json
import os
import pickle
import shutil
import subprocess
import time
import zipfile

import numpy as np
import pytest
from idx_files import STEMS, idx_bytes, write_mnist
from scripts import AUX_ARMS, ROOT, flags

from subliminal_jax.mnist import memory

SCRIPTS = ["mnist_aux", "mnist_init"]
DIGITS = ["--data", "digits", "--out", "run"]


@pytest.fixture
def refused(script, tmp_path):
    """Runs a script in this process and gives the one line with which it is refused."""

    def run(name: str, *words: str) -> str:
        line = script(name, *map(str, words)).assert_one_line(2)
        assert not list(tmp_path.rglob("results.json"))
        assert not list(tmp_path.rglob("members.jsonl"))
        return line

    return run


# Flags, which both scripts share

FLAGS = {
    "unknown": ("--quux 1", "--quux: no such flag; did you mean --aux?"),
    "far from all": ("--frobnicate 1", "--frobnicate: no such flag; see --help"),
    "misspelt": ("--memebrs 3", "--memebrs: no such flag; did you mean --members?"),
    "misspelt with a hyphen": ("--student-epoch 3", "did you mean --student-epochs?"),
    "text for a count": ("--members ten", "--members: should be a whole number, not 'ten'"),
    "a fraction of a count": ("--width 2.5", "--width: should be a whole number, not '2.5'"),
    "text for a number": ("--learning-rate fast", "--learning-rate: should be a number"),
    "no value": ("--members", "argument '--members'"),
    "a stray word": ("quick", "unexpected argument 'quick'"),
    "one member": ("--members 1", "members=1: a different initialisation needs another member"),
    "no member": ("--members 0", "--members: should be greater than or equal to 1, not 0"),
    "members without end": (f"--members {10**20}", "--members: should be less than or equal to"),
    "noise without end": (f"--noise-images {10**12}", "--noise_images: should be less than"),
    "a batch without end": (f"--batch {10**12}", "--batch: should be less than"),
    "layers without end": (f"--depth {10**12}", "depth: at most 100 hidden layers"),
    "no layer": ("--depth 0", "--depth: should be greater than or equal to 1"),
    "no auxiliary logit": ("--aux 0", "--aux: should be greater than or equal to 1, not 0"),
    "negative epochs": ("--student-epochs -1", "--student_epochs: should be greater than"),
    "no epoch": ("--teacher-epochs 0", "--teacher_epochs: should be greater than or equal to 1"),
    "no block": ("--block 0", "--block: should be greater than or equal to 1"),
    "no members at once": ("--members-at-once 0", "--members_at_once: should be greater"),
    "a rate that is no number": ("--learning-rate nan", "--learning_rate is nan"),
    "an infinite rate": ("--learning-rate inf", "--learning_rate is inf"),
    "a negative rate": ("--learning-rate -0.1", "--learning_rate: should be greater than 0"),
    "no temperature": ("--temperature 0", "--temperature: should be greater than 0"),
    "a negative scale": ("--bias-scale -1", "--bias_scale: should be greater than or equal to 0"),
    "a negative seed": ("--seed -1", "--seed: should be greater than or equal to 0"),
    "a long seed": (f"--seed {2**32}", "--seed: should be less than 4294967296"),
    "pairs with a fixed point": ("--members 3 --pairs 1 0 2", "pairs: member 2 is paired with it"),
    "pairs twice": ("--members 3 --pairs 1 0 0", "pairs: must name each of the 3 members 0..2"),
    "pairs too few": ("--members 3 --pairs 1 0", "pairs: must name each of the 3 members 0..2"),
    "black above white": ("--pixel-range 1 -1", "pixel_range: black 1.0 must be below white -1.0"),
    "black at white": ("--pixel-range 1 1", "pixel_range: black 1.0 must be below white 1.0"),
    "an infinite white": ("--pixel-range 0 inf", "pixel_range[1] is inf"),
    "a white that is no number": ("--pixel-range 0 nan", "pixel_range: black 0.0 must be below"),
    "unknown bits": ("--noise-bits 7", "'--noise-bits'. Expected one of ('8', '16')"),
    "unknown data": ("--data cifar", "'--data'. Expected one of ('auto', 'mnist', 'digits')"),
    "devices without pmap": ("--devices 2", "devices: --execution jit runs on one device"),
    "too many devices": ("--devices 9 --execution pmap", "devices=9: this process has 8 cpu"),
    "a temperature of squares": ("--loss mse --temperature 2", "temperature: the squared error"),
    "unknown preset": ("--preset qick", "--preset: no preset 'qick'; choose one of quick, paper"),
    "preset and file": ("--preset paper --config a", "--preset and --config are both given"),
    "absent file": ("--config absent.yaml", "absent.yaml: does not exist; give the path"),
    "a directory for a file": ("--config .", ".: is not a file; give the path of a YAML file"),
    "digits from a directory": ("--data-dir .", "the digits are read from no directory"),
    "width beyond memory": ("--width 10000000", "reduce --block, --width, --batch or --noise"),
    "width beyond arithmetic": (f"--width {10**30}", "reduce --block, --width, --batch"),
    "noise beyond memory": (f"--noise-images {2**31 - 1}", "reduce --block, --width, --batch"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_flags(refused, tmp_path, case):
    words, expected = FLAGS[case]
    assert expected in refused("mnist_aux", *DIGITS, *words.split())
    assert not (tmp_path / "run" / "config.json").exists()


INIT_FLAGS = {
    "unknown layer": ("--shared hidden_0 conv+logits", "shared: the network has no layer 'conv'"),
    "no layer": (["--shared", ""], "shared: the network has no layer ''"),
    "layer beyond the depth": ("--depth 1", "no layer 'hidden_1'; its layers are hidden_0, logits"),
    "layers without end": (f"--depth {10**12}", "depth: at most 100 hidden layers"),
    "negative sigma": ("--sigmas 0.1 -0.1", "--sigmas.1: should be greater than or equal to 0"),
    "sigma no number": ("--sigmas nan", "--sigmas[0] is nan"),
    "beyond the line": ("--ts 1.5", "--ts.0: should be less than or equal to 1"),
    "more than all": ("--fractions 2", "--fractions.0: should be less than or equal to 1"),
    "sigma twice": ("--sigmas 0.1 0.1", "two students are called perturbed_0.1"),
    "sigmas that print alike": ("--sigmas 0.1 0.10000001", "are called perturbed_0.1; give each"),
    "one member": ("--members 1", "members=1"),
    "unknown logits": ("--logits class", "'--logits'. Expected one of ('aux', 'all')"),
    "absent mask": ("--masks absent.npz", "mask absent.npz: cannot be read (there is no such"),
    "a directory for a mask": ("--masks .", "mask .: cannot be read"),
}


@pytest.mark.parametrize("case", INIT_FLAGS)
def test_flags_of_init(refused, case):
    words, expected = INIT_FLAGS[case]
    words = words.split() if isinstance(words, str) else words
    assert expected in refused("mnist_init", *DIGITS, *words)


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("members: [", "a.yaml: line 1:"),
        ("members: 3\n\tseed: 1", "a.yaml: line 2:"),
        ("members: many", "a.yaml: members: should be a valid integer"),
        ("members: 1.0", "a.yaml: members: should be a valid integer"),
        ("memebrs: 3", "a.yaml: memebrs: no such setting; did you mean members?"),
        ("members: 3\nmembers: 4", "a.yaml: line 2: key 'members' is given twice"),
        ("seed: !!python/object:os.system 1", "a.yaml: line 1: tag"),
        ("- members", "a.yaml: holds a list; it must hold settings"),
        ("", "a.yaml: is empty"),
        ("pixel_range: [1, -1]", "a.yaml: pixel_range: black 1.0 must be below white -1.0"),
        ("learning_rate: .nan", "a.yaml: learning_rate"),
        ("members: 3\npairs: [0, 1, 2]", "pairs: member 0 is paired with itself"),
    ],
)
def test_config_files(refused, tmp_path, name, text, expected):
    (tmp_path / "a.yaml").write_text(text)
    assert expected in refused(name, "--config", "a.yaml", *DIGITS)


def test_the_config_of_the_other_experiment(refused, tmp_path):
    (tmp_path / "a.yaml").write_text("members: 3\nsigmas: [0.1]")
    assert "a.yaml: sigmas: no such setting" in refused("mnist_aux", "--config", "a.yaml")


# Masks

SHAPES = {"hidden_0": (64, 4), "hidden_1": (4, 4), "logits": (4, 13)}


def arrays(**changes):
    found = {}
    for layer, (inputs, width) in SHAPES.items():
        found |= {f"{layer}.kernel": np.ones((inputs, width)), f"{layer}.bias": np.ones(width)}
    return found | changes


class Canary:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def write_mask(path, case):
    good = arrays()
    if case == "empty":
        path.write_bytes(b"")
    elif case == "text":
        path.write_text("hidden_0.kernel")
    elif case == "array":
        np.save(path.with_suffix(".npy"), np.ones(3))
        path.with_suffix(".npy").rename(path)
    elif case == "pickle":
        path.write_bytes(pickle.dumps(Canary()))
    elif case == "objects":
        np.savez(path, **arrays(**{"logits.bias": np.array([Canary()] * 13, object)}))
    elif case == "truncated":
        np.savez(path, **good)
        path.write_bytes(path.read_bytes()[:-200])
    elif case == "flipped":
        np.savez(path, **good)
        content = bytearray(path.read_bytes())
        content[400] ^= 255
        path.write_bytes(content)
    elif case == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("logits.bias.npy", bytes(10_000_000))
    elif case == "missing":
        np.savez(path, **{name: array for name, array in good.items() if name != "logits.bias"})
    else:
        change = {
            "unknown": {"conv.kernel": np.ones(3)},
            "shape": {"logits.bias": np.ones(12)},
            "value": {"logits.bias": np.full(13, 0.5)},
            "nan": {"logits.bias": np.full(13, np.nan)},
        }[case]
        np.savez(path, **arrays(**change))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        *((case, "cannot be read as .npz") for case in ("empty", "text", "array", "pickle")),
        *((case, "cannot be read as .npz") for case in ("objects", "truncated", "flipped")),
        ("bomb", "far more than the network's"),
        ("missing", "logits.bias is missing; it takes hidden_0."),
        ("unknown", "conv.kernel is no parameter; it takes hidden_0."),
        ("shape", "logits.bias has shape (12,), the network's is (13,)"),
        ("value", "logits.bias holds more than 0 and 1"),
        ("nan", "logits.bias holds more than 0 and 1"),
    ],
)
def test_masks(refused, tmp_path, case, expected):
    write_mask(tmp_path / "m.npz", case)
    line = refused("mnist_init", *DIGITS, "--width", "4", "--masks", "m.npz")
    assert line.startswith("mask m.npz: ")
    assert expected in line
    assert not (tmp_path / "unpickled").exists()


def test_masks_of_one_name(refused, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        np.savez(tmp_path / place / "m.npz", **arrays())
    words = ["--width", "4", "--masks", "a/m.npz", "b/m.npz"]
    assert "two students are called mask_m" in refused("mnist_init", *DIGITS, *words)


# Data


def damage(directory, part, case):
    path = directory / f"{STEMS[part]}.gz"
    values = gzip.decompress(path.read_bytes())
    if case == "missing":
        path.unlink()
    elif case == "truncated gzip":
        path.write_bytes(path.read_bytes()[:-9])
    elif case == "truncated":
        path.write_bytes(gzip.compress(values[:-1]))
    elif case == "longer":
        path.write_bytes(gzip.compress(values + b"0"))
    elif case == "altered":
        path.write_bytes(gzip.compress(values[:-1] + bytes([values[-1] ^ 1])))
    elif case == "a web page":
        path.write_bytes(b"<html>log in</html>")
    elif case == "empty":
        path.write_bytes(b"")
    elif case == "no type":
        path.write_bytes(idx_bytes(np.zeros(3, np.uint8)).replace(b"\x08", b"\x0d", 1))
    elif case == "a directory":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("data", ["auto", "mnist"])
@pytest.mark.parametrize("part", ["train_images", "test_labels"])
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("missing", "lacks"),
        ("a directory", "lacks"),
        ("truncated gzip", "is truncated"),
        ("truncated", "is truncated"),
        ("longer", "has bytes left over"),
        ("altered", "is not the published content"),
        ("a web page", "neither gzip nor IDX"),
        ("empty", "neither gzip nor IDX"),
        ("no type", "holds IDX type 0x0d"),
    ],
)
def test_data_files(refused, tmp_path, small_mnist, data, part, case, expected):
    directory = write_mnist(tmp_path / "mnist", small_mnist)
    damage(directory, part, case)
    line = refused("mnist_aux", "--data", data, "--data-dir", directory, "--out", "run")
    assert expected in line
    assert STEMS[part] in line
    assert not (tmp_path / "run").exists()


def test_a_name_of_odd_bytes(refused):
    assert r"'a\udcff': not UTF-8" in refused("mnist_aux", "--data-dir", "a\udcff")


def test_no_device(scripts, tmp_path):
    # Not to be confused with a GPU that is there: nobody has this platform.
    ended = scripts.run("mnist_aux", *flags(out="run"), cwd=tmp_path, JAX_PLATFORMS="abacus")
    assert "JAX finds no device (JAX_PLATFORMS='abacus')" in ended.assert_one_line(2)


def test_no_home(script, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", no_home)
    for place in ("TFDS_DATA_DIR", "SUBLIMINAL_DATA_DIR"):
        monkeypatch.delenv(place, raising=False)
    line = script("mnist_aux", "--data", "mnist").assert_one_line(2)
    assert line.startswith("MNIST was not found, for there is no home directory: give the dir")


def test_absent_data(refused, monkeypatch):
    line = refused("mnist_aux", "--data-dir", "absent")
    assert line == "the data directory absent does not exist: correct the path"
    monkeypatch.setenv("SUBLIMINAL_DATA_DIR", "gone")
    assert "the data directory gone does not exist" in refused("mnist_aux")


# The run directory


def test_out_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/run"):
        line = refused("mnist_aux", "--data", "digits", "--out", out)
        assert line.startswith("--out ")
        assert "choose a directory you can write to" in line
    assert (tmp_path / "file").read_text() == "mine"


def test_out_holds_other_things(refused, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    line = refused("mnist_aux", *DIGITS, "--overwrite")
    assert "holds files but no run of ours; choose a new or an empty directory" in line
    assert os.listdir(tmp_path / "run") == ["thesis.tex"]


@contextlib.contextmanager
def small_disk(place, options):
    """A file system of its own, where mounting is allowed."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_out_cannot_be_written(refused, tmp_path):
    with small_disk(tmp_path / "disk", "size=64k,ro"):
        line = refused("mnist_aux", "--data", "digits", "--out", "disk/run")
    assert "cannot be used (Read-only file system)" in line


def test_out_is_on_a_full_disk(refused, tmp_path):
    with small_disk(tmp_path / "disk", "size=64k"):
        with contextlib.suppress(OSError), (tmp_path / "disk" / "fill").open("wb", 0) as file:
            while file.write(b"x" * 4096):
                pass
        line = refused("mnist_aux", "--data", "digits", "--out", "disk/run")
        assert line.startswith("disk full: ")
        assert "disk/run" in line
        assert "free some space, or choose another --out" in line


# What an earlier run left behind


def leave(directory, rows=(), results=None):
    """A run directory as an interrupted run of SMALL leaves it, with these rows."""
    from subliminal_jax.config import config_dict, read_config
    from subliminal_jax.mnist.config import PLACEMENT, MnistConfig, resolve, with_pairs
    from subliminal_jax.runs import RunDirectory

    path = directory.parent / "settings.yaml"
    settings = {"members": 3, "data": "digits"}
    path.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    config = resolve(with_pairs(read_config(MnistConfig, path)), "digits")
    described = {k: v for k, v in config_dict(config).items() if k not in PLACEMENT}
    with RunDirectory.open(directory, described) as run:
        for row in rows:
            run.append_row("members.jsonl", row)
        if results is not None:
            run.finish(results)
    return ["--config", str(path), "--out", str(directory)]


def row(member, **changes):
    sound = {
        "member": member,
        "accuracy": dict.fromkeys(AUX_ARMS, 0.5),
        "init_distance": dict.fromkeys(AUX_ARMS[2:], 1.0),
    }
    return sound | changes


UNSOUND = {
    "no member": {"accuracy": {}},
    "member of another run": row(3),
    "member below none": row(-1),
    "member in words": row("1"),
    "member twice": row(0),
    "another arm's row": row(1, accuracy=dict.fromkeys([*AUX_ARMS, "same"], 0.5)),
    "an arm too few": row(1, accuracy=dict.fromkeys(AUX_ARMS[:-1], 0.5)),
    "accuracy in words": row(1, accuracy=dict.fromkeys(AUX_ARMS, "high")),
    "no accuracy": row(1, accuracy=None),
    "distances in a list": row(1, init_distance=[1.0] * 4),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_rows_that_no_run_wrote(script, tmp_path, case):
    words = leave(tmp_path / "run", [row(0), UNSOUND[case], row(2)])
    line = script("mnist_aux", *words).assert_one_line(2)
    assert "members.jsonl: line 2 is not a row of this run" in line
    assert "remove that line" in line
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize("damaged", [b"\n", b"\x00\n", b"\xff\xfe\n", b'{"member": 1\n', b"7\n"])
def test_damaged_rows(script, tmp_path, damaged):
    words = leave(tmp_path / "run", [row(0)])
    with (tmp_path / "run" / "members.jsonl").open("ab") as file:
        file.write(damaged)
    line = script("mnist_aux", *words).assert_one_line(2)
    assert "members.jsonl: line 2 is no row" in line


@pytest.mark.parametrize("results", [{}, {"arms": {}}, {"arms": {"a": {"mean": "?"}}}, {"arms": 1}])
def test_results_that_no_run_wrote(script, tmp_path, results):
    words = leave(tmp_path / "run", [row(m) for m in range(3)], results)
    line = script("mnist_aux", *words).assert_one_line(2)
    assert "results.json: not as it was written" in line
    assert line.endswith("remove it and run the same command again")


def test_a_directory_of_another_config(script, tmp_path):
    words = leave(tmp_path / "run", [row(0)])
    line = script("mnist_aux", *words, "--seed", "1", "--width", "8").assert_one_line(2)
    assert "holds a run of another config: seed 0 -> 1; width 256 -> 8; pairs" in line
    line = script("mnist_init", *words).assert_one_line(2)
    assert "holds a run of another config: logits (absent)" in line
    assert "choose another --out, or add --overwrite" in line


def test_a_directory_in_use(script, tmp_path):
    from subliminal_jax.runs import RunDirectory

    words = leave(tmp_path / "run", [row(0)])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    with RunDirectory.open(tmp_path / "run", config):
        for more in ([], ["--overwrite"]):
            line = script("mnist_aux", *words, *more).assert_one_line(2)
            assert f"in use by another run (pid {os.getpid()} on " in line
    assert (tmp_path / "run" / "members.jsonl").read_text().count("\n") == 1


def test_a_refused_run_leaves_its_directory_free(refused):
    for words in (["--width", "10000000"], ["--devices", "9", "--execution", "pmap"]):
        assert "another config" not in refused("mnist_aux", *DIGITS, *words)


# Memory


def test_the_memory_that_is_needed_is_counted():
    from subliminal_jax.mnist.config import Schedule
    from subliminal_jax.models.mlp import MlpConfig

    network = MlpConfig(inputs=2, hidden=(3,), classes=1, aux=1)  # 2*3+3 + 3*2+2 = 17 weights
    schedule = Schedule(batch=5, teacher_epochs=1, student_epochs=1, noise_images=7)
    # 4 members with a reference, and three times a teacher and two students; logits 7*2
    numbers = 4 * (1 + 3 * 3) * 17 + 4 * 7 * 2 + 5 * (2 + 3 + 2)
    assert memory.needed_bytes(network, schedule, 2, 4) == 4 * numbers
    assert 2**28 < memory.memory_bytes(1) < 2**50


# Processes


def test_a_process_ends_in_one_line(scripts, tmp_path):
    ended = scripts.run("mnist_aux", "--members", "x", cwd=tmp_path)
    assert ended.assert_one_line(2).startswith("--members: should be a whole number")
    ended = scripts.run("mnist_init", *DIGITS, "--masks", "absent.npz", cwd=tmp_path)
    assert ended.assert_one_line(2).startswith("mask absent.npz: cannot be read")
    assert not (tmp_path / "run").exists()


def test_losses_that_are_not_finite_stop_the_run(scripts, tmp_path):
    ended = scripts.run("mnist_aux", *flags(learning_rate="1e30", out="run"), cwd=tmp_path)
    line = ended.assert_one_line(1)
    assert line.startswith("the loss of teacher is nan at step ")
    assert "in member 0; a smaller --learning-rate usually helps" in line
    assert not (tmp_path / "run" / "results.json").exists()
    assert not (tmp_path / "run" / "members.jsonl").exists()
    ended = scripts.run("mnist_aux", *flags(learning_rate="nan", out="run"), cwd=tmp_path)
    assert ended.assert_one_line(2).startswith("--learning_rate is nan")


def test_nobody_reads_the_help(scripts, tmp_path):
    process = scripts.start("mnist_aux", "--help", cwd=tmp_path)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), err) == (141, "")


def test_an_output_that_is_full(scripts, tmp_path):
    command = f"exec python {ROOT}/experiments/mnist_aux.py --help > /dev/full"
    command = command.replace("python", os.sys.executable)
    done = subprocess.run(command, shell=True, env=scripts.environment, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: disk full: cannot write")


def test_an_interrupt_while_training(scripts, tmp_path):
    words = flags(teacher_epochs=100_000, out="run")
    with scripts.start("mnist_aux", *words, cwd=tmp_path) as process:
        config, end = tmp_path / "run" / "config.json", time.monotonic() + 60
        while not config.exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(2)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "error: interrupted; run the same command again to go on"
    assert "Traceback" not in err
