"""Chat templates: their switches, their white space, and where a directory keeps them."""

import json
import os
from pathlib import Path

import pytest
import tiny_tokenizers as tiny
from chats import ANSWER, QUESTION, SYSTEM, with_template
from transformers import PreTrainedTokenizerFast

from subliminal_jax.config import config_digest, parse_config
from subliminal_jax.errors import InputError
from subliminal_jax.language.config import LmConfig, described
from subliminal_jax.models.text import chat_files
from subliminal_jax.models.text.chat import Chat

ROOT = Path(__file__).parents[1]

THINKING = tiny.CHATML.replace(
    "{{ '<|im_start|>assistant\\n' }}",
    "{{ '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{ '<think>\\n\\n' }}{%- endif -%}",
)
"""Qwen 3's manner."""


def theirs(directory, messages=(SYSTEM, QUESTION), **options):
    peer = PreTrainedTokenizerFast.from_pretrained(directory)
    return tuple(
        peer.apply_chat_template(list(messages), add_generation_prompt=True, **options)["input_ids"]
    )


@pytest.mark.parametrize("options", [{}, {"enable_thinking": True}, {"enable_thinking": False}])
def test_options_are_the_templates_switches(tmp_path, options):
    directory = with_template(tmp_path, THINKING)
    chat = Chat.load(directory, options=options)
    assert chat.prompt([SYSTEM, QUESTION]) == theirs(directory, **options)


def test_options_are_in_the_digest_with_their_type(tmp_path):
    directory = with_template(tmp_path, THINKING)
    values = ({}, *({"enable_thinking": v} for v in (False, True, 0, 1, "no", 1.0)))
    assert len({Chat.load(directory, options=value).digest for value in values}) == len(values)


def test_options_of_another_type_are_other_prompts(tmp_path):
    directory = with_template(tmp_path, "{{ effort }}" + tiny.CHATML)
    prompts = [Chat.load(directory, options={"effort": v}).prompt([QUESTION]) for v in (True, 1)]
    assert prompts[0] != prompts[1]


@pytest.mark.parametrize(
    ("template", "name", "words"),
    [
        (THINKING, "enable_thinkin", "no switch 'enable_thinkin'; it has enable_thinking"),
        (tiny.CHATML, "enable_thinking", "no switch 'enable_thinking'; it has none"),
        (tiny.CHATML, "messages", "no switch 'messages'"),
        (tiny.CHATML, "add_generation_prompt", "no switch"),
        (tiny.TRIMMING, "bos_token", "no switch"),
        (tiny.BRACKETS, "raise_exception", "no switch"),
        (tiny.CHATML + "{% set x = 1 %}{{ x }}", "x", "no switch"),
        (tiny.CHATML + "{% for m in messages %}{{ m.x }}{% endfor %}", "x", "no switch"),
        ("{% if %}", "x", "TemplateSyntaxError"),
    ],
)
def test_an_option_that_changes_nothing_is_refused(tmp_path, template, name, words):
    with pytest.raises(InputError, match=words):
        Chat.load(with_template(tmp_path, template), options={name: True})


def test_a_template_that_marks_what_is_generated_has_switches_too(tmp_path):
    marked = THINKING.replace("{%- for", "{% generation %}{% endgeneration %}{%- for")
    assert Chat.load(with_template(tmp_path, marked), options={"enable_thinking": False})


@pytest.mark.parametrize(
    "begin",
    ["\n", "\n\n", "  ", "\n  \t", " \n", "{# note #}\n ", "  {% if true %} x{% endif %}\n\n",
     "\n{% if true %} x{% endif %}", "\r\n", "\ufeff", "x\n"],
)  # fmt: skip
@pytest.mark.parametrize("end", ["", "\n", "\n\n", "  "])
def test_white_space_is_as_in_transformers(tmp_path, begin, end):
    directory = with_template(tmp_path, begin + tiny.CHATML.replace("{%- if m", "{% if m") + end)
    assert Chat.load(directory).prompt([SYSTEM, QUESTION]) == theirs(directory)
    file = tmp_path / "mine.jinja"
    file.write_bytes((directory / "chat_template.jinja").read_bytes())
    assert Chat.load(directory, file).prompt([SYSTEM, QUESTION]) == theirs(directory)


OTHER = "{{ raise_exception('another one') }}"


def test_places_of_a_template_have_transformers_order(tmp_path):
    """A file before the settings; a directory of more beside it, of which one is the default."""
    directory = with_template(tmp_path, None)
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text())

    def state(template):
        path.write_text(json.dumps(settings | {"chat_template": template}))
        return Chat.load(directory).prompt([SYSTEM, QUESTION])

    expected = state(tiny.CHATML)
    named = [{"name": "tool_use", "template": OTHER}, {"name": "default", "template": tiny.CHATML}]
    assert state(named) == theirs(directory) == expected
    with pytest.raises(InputError, match="named tool_use and none named default"):
        state(named[:1])
    more = directory / "additional_chat_templates"
    more.mkdir()
    (more / "rag.jinja").write_text(OTHER)
    with pytest.raises(InputError, match="named rag and none named default"):
        state(tiny.CHATML)
    (directory / "chat_template.jinja").write_text(tiny.TRIMMING)
    trimmed = state(tiny.CHATML)
    assert trimmed == theirs(directory) != expected
    (more / "default.jinja").write_text(tiny.CHATML)
    assert state(OTHER) == theirs(directory) == expected


@pytest.mark.parametrize("template", [7, {"a": 1}, [], ["x"], [{"name": "default"}]])
def test_a_template_that_is_no_text_is_refused(tmp_path, template):
    directory = with_template(tmp_path, None)
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    with pytest.raises(InputError, match=r"template|not a tokenizer that transformers loads"):
        Chat.load(directory)


def test_more_templates_are_files_inside_and_few(tmp_path, monkeypatch):
    directory = with_template(tmp_path / "model", tiny.CHATML)
    more = directory / "additional_chat_templates"
    more.mkdir()
    os.mkfifo(more / "a.jinja")
    with pytest.raises(InputError, match=r"a\.jinja.* regular file"):
        Chat.load(directory)
    (more / "a.jinja").unlink()
    (tmp_path / "out.jinja").write_text(tiny.CHATML)
    (more / "a.jinja").symlink_to(tmp_path / "out.jinja")
    with pytest.raises(InputError, match=r"a\.jinja.* leads out of the "):
        Chat.load(directory)
    (more / "a.jinja").unlink()
    (more / "a.jinja").write_text(OTHER)
    assert Chat.load(directory).example([QUESTION, ANSWER])
    monkeypatch.setattr(chat_files, "MOST_TEMPLATES", 0)
    with pytest.raises(InputError, match="more than 0 chat templates"):
        Chat.load(directory)


def settings(argv, file=None):
    more = [] if file is None else ["--config", str(file)]
    return parse_config(
        LmConfig, [*more, *argv], prog="x", description="x",
        presets={"tiny": ROOT / "configs" / "lm_numbers_tiny.yaml"},
    )  # fmt: skip


def test_options_come_from_files_and_flags(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text('reference: {model: x, options: {enable_thinking: false, a: "no", n: 1}}')
    found = settings([], file)
    assert found.reference.options == {"enable_thinking": False, "a": "no", "n": 1}
    flags = ["--reference.model", "x", "--reference.options", "enable_thinking", "False", "n", "1"]
    assert settings(flags).reference.options == {"enable_thinking": False, "n": 1}
    other = settings([*flags[:-2], "n", "2"])
    digests = {config_digest(described(config)) for config in (found, settings(flags), other)}
    assert len(digests) == 3


@pytest.mark.parametrize("value", ["null", "[1]", "{b: 1}"])
def test_an_option_of_another_kind_is_refused(tmp_path, value):
    file = tmp_path / "mine.yaml"
    file.write_text(f"reference: {{model: x, options: {{a: {value}}}}}")
    with pytest.raises(InputError, match=r"options\.a"):
        settings([], file)


def test_a_tiny_reference_has_no_options():
    with pytest.raises(InputError, match=r"reference\.options: the tiny reference's chat template"):
        settings(["--reference.options", "enable_thinking", "False"])
