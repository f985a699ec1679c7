"""The command line: types, sizes, odd characters, and contradictory flags."""

from functools import partial

from attacks.attack import Attack
from attacks.shared import DIGITS

attack = partial(Attack, "flags", main="lm_numbers")
LONG = "9" * 5000
NUMBERS = {
    "text": "many", "empty": "", "nan": "nan", "infinite": "inf", "negative": "-1", "zero": "0",
    "fraction": "1.5", "exponent": "1e3", "huge": "9" * 30, "thousands": LONG, "hex": "0x10",
    "spaces": " 7 x", "arabic-digits-text": "\u0664x", "control": "\x1b[31m7", "null": "null",
    "list": "[1]", "underscore": "_1",
}  # fmt: skip
MNIST = {
    "width-huge": ("--width", "2147483647"),
    "depth-huge": ("--depth", "100000"),
    "aux-huge": ("--aux", "2000000000"),
    "members-huge": ("--members", "2000000000"),
    "noise-huge": ("--noise-images", "2000000000", "--members", "2"),
    "batch-huge": ("--batch", "2147483647"),
    "epochs-huge": ("--teacher-epochs", "2147483647"),
    "one-member": ("--members", "1"),
    "pairs-fixed": ("--members", "2", "--pairs", "0", "1"),
    "pairs-beyond": ("--members", "2", "--pairs", "5", "7"),
    "pairs-text": ("--members", "2", "--pairs", "a", "b"),
    "range-empty": ("--pixel-range", "1", "1"),
    "range-nan": ("--pixel-range", "nan", "1"),
    "range-infinite": ("--pixel-range", "-inf", "inf"),
    "rate-nan": ("--learning-rate", "nan"),
    "rate-negative": ("--learning-rate", "-1"),
    "scale-infinite": ("--weight-scale", "inf"),
    "temperature-zero": ("--temperature", "0"),
    "devices-without-pmap": ("--devices", "2"),
    "devices-too-many": ("--execution", "pmap", "--devices", "64"),
    "data-unknown": ("--data", "fashion"),
    "data-dir-missing": ("--data", "mnist", "--data-dir", "nowhere"),
}
ENDLESS = ("epochs-huge", "noise-huge", "members-huge")
"""Valid values that only take too long."""
LM = {
    "nothing-known": ("--no-such-flag",),
    "near-miss": ("--refernces", "2"),
    "no-value": ("--references",),
    "value-twice": ("--references", "2", "3"),
    "loose-word": ("hello",),
    "dash": ("-",),
    "assignment": ("--references=many",),
    "preset-unknown": ("--preset", "huge"),
    "preset-and-config": ("--preset", "tiny", "--config", "x.yaml"),
    "stage-unknown": ("--stage", "begin"),
    "show-batch-of-nothing-model": ("--show-batch", "--reference.model", "nowhere/"),
    "model-empty": ("--reference.model", "", "--stage", "reference", "--out", "run"),
    "model-control": ("--reference.model", "a\x07b", "--stage", "reference", "--out", "run"),
    "model-newline": ("--reference.model", "a\nerror: b", "--stage", "reference", "--out", "run"),
    "bfloat16-of-tiny": ("--reference.dtype", "bfloat16", "--plan"),
    "heads-indivisible": ("--reference.heads", "3", "--plan"),
    "cudnn": ("--attention", "cudnn", "--plan"),
    "mesh-too-large": ("--mesh.data", "64", "--stage", "reference", "--out", "run"),
    "mesh-beyond": ("--mesh.data", "2147483647", "--mesh.fsdp", "2147483647", "--stage",
                    "reference", "--out", "run"),
    "traits-none": ("--traits", "--plan"),
    "many-words": ("--traits", *["owl"] * 5000, "--plan"),
}  # fmt: skip

ATTACKS = [
    *(attack(f"references-{name}", words=("--references", value, "--plan"),
             quick=name in ("nan", "control")) for name, value in NUMBERS.items()
      if name != "underscore"),
    *(attack(f"rate-{name}", words=("--student.learning-rate", value, "--plan"))
      for name, value in NUMBERS.items() if name not in ("fraction", "exponent", "huge")),
    *(attack(f"lm-{name}", words=words, quick=name == "model-newline")
      for name, words in LM.items()),
    *(attack(f"mnist-{name}", main="mnist_aux", words=("--data", "digits", "--out", "run", *words),
             statuses=(1, 2)) for name, words in MNIST.items() if name not in ENDLESS),
    *(attack(f"out-{name}", main="mnist_aux", words=(*DIGITS, "--out", out), wanted=wanted,
             quick=name == "long")
      for name, out, wanted in (
          ("empty", "", "either"), ("newline", "a\nb", "either"), ("long", "o" * 5000, "refused"),
          ("part-long", "o" * 300 + "/x", "refused"), ("control", "a\x1b[31m", "either"))),
    attack("export-nothing", main="export_model"),
    attack("export-of-nothing", main="export_model", words=(
        "--run", "nowhere", "--network", "before", "--out", "out")),
    attack("export-of-itself", main="export_model", words=(
        "--run", ".", "--network", "before", "--out", ".")),
    attack("sweep-nonsense", main="mnist_sweep", words=("--data", "digits", "--sweep", "x=1")),
    attack("sweep-empty", main="mnist_sweep", words=("--data", "digits", "--sweep", "aux=")),
    attack("sweep-nan", main="mnist_sweep", words=(
        "--data", "digits", "--sweep", "learning_rate=nan")),
    attack("sweep-huge", main="mnist_sweep", words=(
        "--data", "digits", "--sweep", "width=2147483647", "--out", "run"), statuses=(1, 2)),
    attack("audit-of-nothing", main="leak_audit", words=("--runs", "nowhere")),
    attack("audit-of-a-file", main="leak_audit", words=("--runs", "/etc/passwd")),
    attack("theorem-nan", main="theorem", words=("--eps", "nan")),
    attack("doctor-nonsense", main="doctor", words=("cure",), wanted="either"),
    attack("help", words=("--help",), wanted="right",
           check=lambda ended: "" if "--references" in ended.out else "no help"),
    attack("print-config", main="mnist_aux", words=("--print-config", *DIGITS), wanted="right",
           check=lambda ended: "" if "width: 8" in ended.out else ended.out[:200]),
]  # fmt: skip
