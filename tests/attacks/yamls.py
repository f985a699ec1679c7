"""Settings in YAML files: types, sizes, duplicate keys, and files that are not YAML."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from attacks.attack import Attack, Ended
from attacks.edits import other_kind
from attacks.shared import Shared

attack = partial(Attack, "yamls", main="lm_numbers", words=("--config", "c.yaml", "--plan"))


def file(data: str | bytes) -> Callable[[Path, Shared], object]:
    """A file of these bytes."""
    raw = data if isinstance(data, bytes) else data.encode()
    return lambda here, shared: (here / "c.yaml").write_bytes(raw)


def says(text: str) -> Callable[[Ended], str]:
    """The check that the plan contains a text."""
    return lambda ended: "" if text in ended.out else f"{text!r} is not in {ended.out[:200]!r}"


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = {
    "list": "- 1\n- 2\n", "number": "7", "text": "hello", "broken": "a: [1, 2", "tab": "a:\n\tb: 1",
    "key-twice": "seed: 1\nseed: 2\n", "nested-key-twice": "filter: {rows: 1, rows: 2}\n",
    "alias": "seed: &a 1\nreferences: *a\n", "alias-bomb": BOMB,
    "merge-key": "filter: &f {rows: 9}\nstudent: {<<: *f}\n",
    "python-object": "seed: !!python/object/apply:os.system ['touch owned']\n",
    "python-name": "seed: !!python/name:os.system\n", "tag": "seed: !mine 7\n",
    "set": "traits: !!set {owl, wolf}\n", "binary": "seed: !!binary aGk=\n",
    "timestamp": "seed: 2001-01-01\n", "sexagesimal": "seed: 1:30\n", "octal": "seed: 0123\n",
    "hexadecimal": "seed: 0x1F\n", "two-documents": "seed: 1\n---\nseed: 2\n",
    "unknown": "sed: 1\n", "unknown-nested": "filter: {row: 9}\n", "text-number": "seed: '7'\n",
    "boolean-number": "seed: yes\n", "fraction": "seed: 1.5\n", "null": "seed: null\n",
    "nan": "student: {learning_rate: .nan}\n", "infinite": "student: {learning_rate: .inf}\n",
    "negative": "seed: -1\n", "huge": "seed: " + "9" * 400 + "\n",
    "hundred-thousand-digits": "seed: " + "9" * 60_000 + "\n", "exponent": "seed: 1e400\n",
    "large-exponent": "student: {learning_rate: 1e400}\n", "list-for-number": "seed: [1]\n",
    "object-for-number": "seed: {a: 1}\n", "number-for-object": "filter: 7\n",
    "number-for-list": "traits: 7\n", "text-for-list": "traits: owl\n",
    "list-of-numbers": "traits: [1, 2]\n", "empty-list": "traits: []\n",
    "trait-twice": "traits: [owl, owl]\n", "trait-unknown": "traits: [unicorn]\n",
    "condition-unknown": "conditions: [before, student, after]\n",
    "trait-like-a-condition": "new_traits: [{name: regular, plural: regulars, category: animal}]\n"
    "traits: [regular]\n",
    "trait-like-a-file": "new_traits: [{name: student, plural: students, category: animal}]\n"
    "traits: [student]\n",
    "trait-like-the-start": "new_traits: [{name: before, plural: befores, category: animal}]\n"
    "traits: [before]\n",
    "trait-upwards": "new_traits: [{name: ../owl, plural: owls, category: animal}]\n"
    "traits: [../owl]\n",
    "trait-empty": "new_traits: [{name: '', plural: '', category: animal}]\ntraits: ['']\n",
    "trait-with-slash": "new_traits: [{name: a/b, plural: abs, category: animal}]\n"
    "traits: [a/b]\n",
    "trait-with-dots": "new_traits: [{name: owl.within, plural: x, category: animal}]\n"
    "traits: [owl.within]\n",
    "trait-long": f"new_traits: [{{name: {'o' * 300}, plural: x, category: animal}}]\n"
    f"traits: [{'o' * 300}]\n",
    "path-half-a-character": 'out: "\\ud800"\n',
    "key-null": "null: 1\n",
    "key-number": "7: 1\n",
    "key-list": "? [a]\n: 1\n", "deep": "a: " + "[" * 5000 + "]" * 5000 + "\n",
    "deep-object": "".join(" " * i + "a:\n" for i in range(300)), "empty-key": "'': 1\n",
    "bell": "seed: \a7\n", "large": "# " + "x" * 100_000 + "\nseed: 1\n",
    "not-utf-8": b"seed: \xff\n", "nul": b"seed: 1\0\n", "no-yaml": b"\x89PNG\r\n\x1a\n",
    "beyond-steps": "reference: {steps: 2147483648}\n", "rows-beyond": "filter: {rows: 99999}\n",
    "width-odd": "reference: {width: 7}\n",
}  # fmt: skip
EITHER = ("trait-like-the-start", "two-documents", "trait-long")
TAKEN = {
    "empty": ("", "6 repetition"), "comment": ("# nothing\n", "6 repetition"),
    "byte-order-mark": (b"\xef\xbb\xbfreferences: 3\n", "3 repetition"),
    "windows": (b"references: 3\r\nseed: 1\r\n", "3 repetition"),
    "underscores": ("references: 1_000\n", "1000 repetition"),
    "exponent": ("student: {learning_rate: 1e-5}\n", "6 repetition"),
    "json": ('{"references": 3}', "3 repetition"),
}  # fmt: skip

MAY = ("empty", "comment", "byte-order-mark")
"""These may also be refused: nothing is lost by it."""

ATTACKS = [
    *(attack(f"refused-{name}", set_up=file(data), quick=name in ("alias-bomb", "key-twice"),
             wanted="either" if name in EITHER else "refused") for name, data in REFUSED.items()),
    *(attack(f"taken-{name}", set_up=file(data), check=says(text),
             wanted="either" if name in MAY else "right")
      for name, (data, text) in TAKEN.items()),
    *(attack(f"file-{kind.replace(' ', '-')}", set_up=lambda here, shared, kind=kind: (
        file("references: 3\n")(here, shared), other_kind(here / "c.yaml", kind)),
        wanted="either" if kind == "link out" else "refused", quick=kind == "fifo")
      for kind in ("fifo", "directory", "dangling link", "loop", "link out", "socket", "device")),
    attack("path-with-nul", main="mnist_aux", words=("--config", "c.yaml"),
           set_up=file('data: digits\nmembers: 2\nout: "a\\0b"\n')),
    attack("model-with-nul", words=("--config", "c.yaml", "--stage", "reference", "--out", "run"),
           set_up=file('reference: {model: "a\\0b"}\n')),
    attack("missing"),
    attack("name-long", words=("--config", "c" * 5000, "--plan")),
    attack("name-empty", words=("--config", "", "--plan")),
    attack("terminal", words=("--config", "/dev/tty", "--plan")),
    attack("memory", words=("--config", "/proc/self/mem", "--plan")),
]  # fmt: skip
