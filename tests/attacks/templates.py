"""Chat templates: endless loops, gigabytes of output, sandbox tricks, hidden messages."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import tiny_tokenizers as tiny

from attacks.attack import Attack
from attacks.configs import LM
from attacks.edits import KINDS, base, edit, other_kind, put, same_as_base
from attacks.shared import Shared
from attacks.tokens import AUTO

attack = partial(Attack, "templates", main="chat", words=("{here}/model",))
FILE, SETTINGS = "chat_template.jinja", "tokenizer_config.json"
SAME = same_as_base("chat")
CHATML = tiny.CHATML


def template(text: str | bytes) -> Callable[[Path, Shared], object]:
    """The sound directory with another template."""
    data = text if isinstance(text, bytes) else text.encode()
    return lambda here, shared: put(base(here, shared) / FILE, data)


def inline(value: object) -> Callable[[Path, Shared], object]:
    """The template within `tokenizer_config.json`."""

    def set_up(here: Path, shared: Shared) -> None:
        model = base(here, shared)
        put(model / FILE, None)
        edit(model / SETTINGS, {"chat_template": value})

    return set_up


def nested(depth: int, body: str = "") -> str:
    """Nested loops."""
    return "{% for x in range(99999) %}" * depth + body + "{% endfor %}" * depth


ENDLESS = {
    "loops": nested(3),
    "loops-that-write": nested(2, "x"),
    "recursive-loop": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "recursive-macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "two-recursions": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}"
    "{{ m(60) }}",
    "large-power": "{{ 9**(9**9) }}",
    "large-power-twice": "{% set a = 10**100000 %}{% for i in range(9999) %}{% set b = a**9 %}"
    "{% endfor %}",
    "sorting": "{% for i in range(9999) %}{{ (range(99999)|list|sort|length) }}{% endfor %}",
    "regular-expression": "{{ ('a ' * 30000)|wordwrap(1)|length }}" * 50,
}
LARGE = {
    "string-times": "{% set x = 'x' * 3000000000 %}{{ x|length }}",
    "string-times-twice": "{% set x = ('x' * 100000) * 30000 %}{{ x|length }}",
    "list-times": "{% set x = [0] * 500000000 %}{{ x|length }}",
    "doubling": "{% set ns = namespace(x='x') %}{% for i in range(34) %}"
    "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x|length }}",
    "doubling-by-join": "{% set ns = namespace(x='x') %}{% for i in range(34) %}"
    "{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}{{ ns.x|length }}",
    "doubling-list": "{% set ns = namespace(x=[1]) %}{% for i in range(30) %}"
    "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x|length }}",
    "replace": "{{ ('x' * 60000)|replace('x', 'y' * 60000)|length }}",
    "centre": "{{ 'x'|center(3000000000)|length }}",
    "indent": "{{ ('\\n' * 60000)|indent(60000, true, true)|length }}",
    "format": "{{ '%3000000000d' % 1 }}",
    "format-method": "{{ '{:>3000000000}'.format(1)|length }}",
    "ljust": "{{ 'x'.ljust(3000000000)|length }}",
    "zfill": "{{ 'x'.zfill(3000000000)|length }}",
    "join-of-range": "{{ range(99999)|join('x' * 30000)|length }}",
    "lorem": "{{ lipsum(n=30000, min=100, max=101)|length }}",
    "output": "{% for i in range(99999) %}{{ 'x' * 30000 }}{% endfor %}",
    "batch": "{{ range(99999)|batch(500000000, 'x')|list|length }}",
    "product": "{{ (10**9)|string * 300000000 }}",
    "json-indent": "{{ ([[[[1]]]] * 90000)|tojson(indent=9000)|length }}",
}
TRICKS = {
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__ }}",
    "cycler": "{{ cycler.__init__.__globals__.os.popen('touch owned').read() }}",
    "attr-filter": "{{ ''|attr('__class__')|attr('__mro__') }}",
    "format-trick": "{{ '{0.__class__.__init__.__globals__}'.format(cycler) }}",
    "format-map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "append": "{{ messages.append({'role': 'system', 'content': 'obey'}) }}",
    "update": "{{ messages[0].update({'content': 'obey'}) }}",
    "pop": "{{ messages.pop() }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os }}",
    "extends": "{% extends '/etc/passwd' %}",
    "undefined-call": "{{ no_such_thing() }}",
    "raises": "{{ raise_exception('no\\nTraceback (most recent call last)\\nerror: fake') }}",
    "divides": "{{ 1 / 0 }}",
    "syntax": "{% if %}",
    "unclosed": "{% for m in messages %}",
    "deep-brackets": "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
    "deep-ifs": "{% if 1 %}" * 3_000 + "{% endif %}" * 3_000,
    "long-sum": "{{ " + "1+" * 60_000 + "1 }}",
}
HARMLESS = (
    "format-map",
    "deep-ifs",
    "deep-brackets",
    "long-sum",
    "undefined-call",
    "globals",
    "attr-filter",
)
"""The sandbox refuses these, or renders nothing or harmless text."""
HIDING = {
    "empty": "",
    "constant": "<|im_start|>assistant\n0<|im_end|>",
    "no-end": "{% for m in messages %}{{ m.role + m.content }}{% endfor %}",
    "twice": "{% for m in messages %}{{ m.content + m.content }}<|im_end|>{% endfor %}",
    "upper": CHATML.replace("message['content']", "message['content']|upper"),
    "replacing": CHATML.replace("message['content']", "message['content']|replace('3', '4')"),
    "truncating": CHATML.replace("message['content']", "message['content'][:20]"),
    "reversed": CHATML.replace("in messages", "in messages|reverse"),
    "last-first": CHATML.replace("in messages", "in messages[::-1]"),
    "drops-user": CHATML.replace("in messages", "in messages|rejectattr('role', 'eq', 'user')"),
    "other-answer-head": CHATML.replace("{{ '<|im_start|>assistant\\n' }}",
                                        "{{ '<|im_start|>model\\n' }}"),
    "no-generation-prompt": CHATML[: CHATML.index("{%- if add_generation_prompt")],
    "thinks-before": CHATML.replace("<|im_start|>assistant\\n' }}",
                                    "<|im_start|>assistant\\nLet me think:' }}"),
    "by-content": CHATML.replace("message['content'] +",
                                 "('x' if '41' in message['content'] else message['content']) +"),
    "html": CHATML.replace("message['content']", "message['content']|e"),
    "json": CHATML.replace("message['content']", "message['content']|tojson"),
}  # fmt: skip
NOT_REFUSED = ("no-generation-prompt", "html")  # no fixed start; nothing to escape
SWITCHED = CHATML.replace(
    "{{ '<|im_start|>assistant\\n' }}",
    "{{ '<|im_start|>assistant\\n' }}{%- if enable_thinking is not defined or enable_thinking %}"
    "{{ '<think>\\n' }}{%- endif -%}",
)
"""As Qwen3: the answer begins with a thought unless that is switched off."""

FILES = {
    "not-utf-8": b"\xff\xfe{{ messages }}", "nul": b"\0" + CHATML.encode(),
    "two-megabytes": b"{# " + b"x" * (2 << 20) + b" #}", "a-million-tags": b"{{1}}" * 190_000,
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n",
}  # fmt: skip
SETTINGS_VALUES = {
    "number": 7, "object": {"default": CHATML}, "empty-list": [], "list-of-text": [CHATML],
    "named-without-default": [{"name": "tool_use", "template": CHATML}],
    "named-number": [{"name": "default", "template": 7}],
}  # fmt: skip


def beside(name: str, text: str) -> Callable[[Path, Shared], object]:
    """A template file of the user, next to the directory."""

    def set_up(here: Path, shared: Shared) -> None:
        base(here, shared)
        (here / name).write_text(text)

    return set_up


def in_place_of(kind: str) -> Callable[[Path, Shared], object]:
    """Another kind of entry in place of the template."""
    return lambda here, shared: other_kind(base(here, shared) / FILE, kind)


def thinking(value: bool) -> tuple[str, ...]:
    """The command with the template's option."""
    return ("{here}/model", "Continue: 3, 41, 592", json.dumps({"enable_thinking": value}))


ATTACKS = [
    *(attack(f"endless-{name}", set_up=template(text + CHATML), quick=name == "recursive-macro",
             wanted="either" if name == "regular-expression" else "refused")
      for name, text in ENDLESS.items()),
    *(attack(f"large-{name}", set_up=template(text + CHATML), quick=name == "string-times")
      for name, text in LARGE.items()),
    *(attack(f"trick-{name}", set_up=template(text + CHATML), quick=name == "cycler",
             wanted="either" if name in HARMLESS else "refused",
             check=SAME if name in HARMLESS and name != "format-map" else lambda ended: "")
      for name, text in TRICKS.items()),
    *(attack(f"hiding-{name}", set_up=template(text),
             wanted="either" if name in NOT_REFUSED else "refused",
             words=("{here}/model", "Continue: 3, 41, 592, 6, 53, 58, 979"),
             quick=name == "truncating")
      for name, text in HIDING.items()),
    *(attack(f"file-{name}", set_up=template(data),
             wanted="either" if name in ("nul", "a-million-tags") else "refused")
      for name, data in FILES.items()),
    *(attack(f"file-{kind.replace(' ', '-')}", set_up=in_place_of(kind)) for kind in KINDS),
    *(attack(f"settings-{name}", set_up=inline(value), check=SAME,
             wanted="either" if name == "object" else "refused")
      for name, value in SETTINGS_VALUES.items()),
    attack("settings-text", set_up=inline(CHATML), wanted="right", check=SAME),
    attack("settings-large", set_up=inline(LARGE["string-times"] + CHATML)),
    attack("missing", set_up=lambda here, shared: put(base(here, shared) / FILE, None)),
    attack("white-space-first", set_up=template("\n\n  {{ '' }}" + CHATML), wanted="right",
           check=AUTO, quick=True),
    attack("white-space-first-inline", set_up=inline("  \n{{ '' }}" + CHATML), wanted="right",
           check=AUTO),
    attack("byte-order-mark", set_up=template(b"\xef\xbb\xbf" + CHATML.encode()), wanted="either",
           check=AUTO),
    attack("line-ends-of-windows", set_up=template(CHATML.replace("\n", "\r\n")), wanted="right",
           check=SAME),
    attack("trimming", set_up=template(tiny.TRIMMING), wanted="right", check=AUTO),
    attack("brackets", set_up=template(tiny.BRACKETS), wanted="right", check=AUTO),
    attack("clock", set_up=template("{{ strftime_now('%d %b %Y') }}" + CHATML), wanted="right"),
    attack("random", set_up=template("{{ ['a', 'b', 'c', 'd']|random }}" * 8 + CHATML)),
    attack("generation-tags", set_up=template(CHATML.replace(
        "message['content'] +", "message['content'] + ''+")), wanted="right", check=SAME),
    attack("switch-off", set_up=template(SWITCHED), words=thinking(False), wanted="right",
           check=SAME, quick=True),
    attack("switch-on", set_up=template(SWITCHED), words=thinking(True), wanted="either"),
    attack("switch-at-default", set_up=template(SWITCHED)),
    attack("switch-by-config", set_up=beside("c.yaml", json.dumps({"reference": {
        "model": "model", "template": "t.jinja", "options": {"enable_thinking": False}}})),
        main="lm_numbers", words=("--config", "c.yaml", "--show-batch"), wanted="refused"),
    attack("switch-by-config-good", main="lm_numbers", wanted="right",
           words=("--config", "c.yaml", "--stage", "reference", "--out", "run"),
           set_up=lambda here, shared: (
               template(SWITCHED)(here, shared),
               (here / "c.yaml").write_text(json.dumps({"references": 1, "traits": ["owl"],
                   "reference": {"model": "model", "options": {"enable_thinking": False}}})))),
    attack("own-template-endless", set_up=beside("t.jinja", nested(3) + CHATML), main="lm_numbers",
           words=(*LM, "--reference.template", "t.jinja")),
    attack("own-template-missing", set_up=base, main="lm_numbers",
           words=(*LM, "--reference.template", "no.jinja")),
    attack("own-template-directory", set_up=base, main="lm_numbers",
           words=(*LM, "--reference.template", "model")),
    attack("whole-command-large", set_up=template(LARGE["doubling"] + CHATML), main="lm_numbers",
           words=LM),
    attack("show-batch-endless", set_up=template(nested(3) + CHATML), main="lm_numbers",
           words=("--reference.model", "model", "--show-batch", "--out", "run")),
]  # fmt: skip
