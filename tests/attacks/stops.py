"""Stop tokens: all those that template, tokenizer and `generation_config.json` name."""

from collections.abc import Callable
from functools import partial

from attacks.attack import Attack, Ended
from attacks.configs import LM
from attacks.edits import ABSENT, KINDS, base, edited, other_kind, replaced

attack = partial(Attack, "stops", main="chat", words=("{here}/model",))
FILE = "generation_config.json"
OWN = {390, 392}
"""The stop tokens of the sound directory's template and tokenizer."""


def stops(*more: int) -> Callable[[Ended], str]:
    """The check that these tokens are stop tokens too, and no others."""

    def check(ended: Ended) -> str:
        found = set(ended.found["stops"])
        return "" if found == OWN | set(more) else f"{sorted(found)} end an answer"

    return check


VALUES = {
    "text": "392", "negative": -1, "huge": 2**40, "beyond": 5000, "fraction": 392.5,
    "true": True, "list-of-text": ["</s>"], "list-of-null": [None], "nested": [[392]],
    "object": {"id": 392},
}  # fmt: skip
FILES = {
    "empty": b"", "list": b"[]", "not-json": b"{", "deep": b"[" * 200_000, "utf-16": b"\xff\xfe{",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n",
    "large": lambda: b'{"x": "' + b"x" * (64 << 20) + b'"}',
}  # fmt: skip

ATTACKS = [
    attack("several", set_up=edited(FILE, eos_token_id=[391, 392, 390]), wanted="right",
           check=stops(391), quick=True),
    attack("one", set_up=edited(FILE, eos_token_id=393), wanted="right", check=stops(393)),
    attack("same", set_up=edited(FILE, eos_token_id=392), wanted="right", check=stops()),
    attack("null", set_up=edited(FILE, eos_token_id=None), wanted="right", check=stops()),
    attack("absent", set_up=edited(FILE, eos_token_id=ABSENT), wanted="right", check=stops()),
    attack("empty-list", set_up=edited(FILE, eos_token_id=[]), wanted="right", check=stops()),
    attack("missing", set_up=replaced(FILE, None), wanted="right", check=stops()),
    attack("ordinary-word", set_up=edited(FILE, eos_token_id=[392, 64]), wanted="either",
           check=stops(64)),
    attack("of-config-alone", wanted="either", set_up=lambda here, shared: (
        replaced(FILE, None)(here, shared), edited("config.json", eos_token_id=[392, 394])(
            here, shared))),
    *(attack(f"value-{name}", set_up=edited(FILE, eos_token_id=value),
             wanted="either" if name == "beyond" else "refused", check=stops())
      for name, value in VALUES.items()),
    *(attack(f"file-{name}", set_up=replaced(FILE, data)) for name, data in FILES.items()),
    *(attack(f"file-{kind.replace(' ', '-')}", set_up=lambda here, shared, kind=kind: other_kind(
        base(here, shared) / FILE, kind)) for kind in KINDS if kind != "dangling link"),
    attack("other-settings", wanted="right", check=stops(), set_up=edited(
        FILE, temperature=0.1, top_p=0.2, repetition_penalty=9.0, max_length=1)),
    attack("whole-command-text", set_up=edited(FILE, eos_token_id="many"), main="lm_numbers",
           words=LM),
]  # fmt: skip
