"""Flags and config files that are refused, in one line that says where and what to do."""

import pytest

SCRIPTS = ["mnist_aux", "mnist_init"]
DIGITS = ["--data", "digits", "--out", "run"]


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
    "one member": ("--members 1", "members=1: a cross-model student needs another member's"),
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
    "digits from a directory": ("--data-dir .", "the digits are not read from a directory"),
    "width beyond memory": ("--width 10000000", "reduce --block, --width, --batch or --noise"),
    "width beyond memory, untimed": (
        "--width 10000000 --precision auto",
        "reduce --block, --width, --batch or --noise",
    ),
    "too many devices, untimed": (
        "--devices 9 --execution pmap --precision auto",
        "devices=9: this process has 8 cpu",
    ),
    "width beyond arithmetic": (f"--width {10**30}", "--width: should be less than 2147483648"),
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
