"""Tokenizer directories of every kind, loaded as by AutoTokenizer."""

import json

import pytest
import tiny_tokenizers as tiny
from chats import ANSWER, QUESTION, SYSTEM, with_template
from transformers import AutoTokenizer

from subliminal_jax.errors import InputError
from subliminal_jax.models.text.chat import Chat

TEMPLATE = (
    "{{ bos_token }}{{ image_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'] }}<|new|><|im_end|> {{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""It spells tokens out, so that one that is not known as a token becomes text."""

HARD = {"role": "user", "content": "Ä\n\n\n\t[12, 3]  <owl>\n "}
CHATS = ([QUESTION], [SYSTEM, HARD], [QUESTION, ANSWER, HARD])


def flags(content, **others):
    return {
        "content": content, "lstrip": False, "rstrip": False, "normalized": False,
        "single_word": False,
    } | others  # fmt: skip


def token(content, **others):
    return {"__type": "AddedToken"} | flags(content, special=True, **others)


def bytes_and(**files):
    """A byte-level tokenizer whose tokens are named by these files alone."""

    def write(directory):
        definition = json.loads(tiny.byte_level().to_str())
        (directory / "tokenizer.json").write_text(json.dumps(definition))
        (directory / "chat_template.jinja").write_text(TEMPLATE)
        for name, value in files.items():
            (directory / f"{name}.json").write_text(json.dumps(value))

    return write


def words_and_merges(kind, more=(), **files):
    """GPT-2's files, without a `tokenizer.json`."""

    def write(directory):
        bytes_and(config={"model_type": kind}, **files)(directory)
        model = json.loads((directory / "tokenizer.json").read_text())["model"]
        (directory / "tokenizer.json").unlink()
        known = dict.fromkeys([*model["vocab"], "<|endoftext|>", *more])
        (directory / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(known)}))
        merges = "\n".join(" ".join(pair) for pair in model["merges"])
        (directory / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")

    return write


def rebuilt(tokenizer, kind, class_name, **settings):
    """A `tokenizer.json` that transformers' class of the model's kind takes apart."""

    def write(directory):
        tiny.save(directory, tokenizer(), TEMPLATE)
        path = directory / "tokenizer_config.json"
        stated = json.loads(path.read_text()) | {"tokenizer_class": class_name} | settings
        path.write_text(json.dumps(stated))
        (directory / "config.json").write_text(json.dumps({"model_type": kind}))

    return write


ENDS = {"bos_token": "<s>", "eos_token": "</s>"}
NEW = {"401": flags("<|new|>", special=True), "402": flags("<image>", normalized=True)}
WAYS = {
    "nothing but tokenizer.json": bytes_and(),
    "text in the settings": bytes_and(tokenizer_config=ENDS),
    "objects in the settings": bytes_and(
        tokenizer_config={"bos_token": token("<s>"), "eos_token": token("</s>", rstrip=True)}
    ),
    "a new token in the settings": bytes_and(tokenizer_config=ENDS | {"bos_token": "<|new|>"}),
    "text in the map": bytes_and(special_tokens_map=ENDS),
    "objects in the map": bytes_and(
        special_tokens_map={"bos_token": flags("<|new|>"), "eos_token": flags("</s>", lstrip=True)}
    ),
    "more in the map": bytes_and(
        special_tokens_map=ENDS | {"additional_special_tokens": ["<|new|>", "<image>"]}
    ),
    "the map beside a decoder": bytes_and(
        special_tokens_map=ENDS, tokenizer_config={"added_tokens_decoder": NEW}
    ),
    "a decoder": bytes_and(tokenizer_config=ENDS | {"added_tokens_decoder": NEW}),
    "a decoder of other flags": bytes_and(
        tokenizer_config=ENDS
        | {"added_tokens_decoder": {"390": flags("<|im_end|>", rstrip=True, special=True)}}
    ),
    "additional tokens": bytes_and(
        tokenizer_config=ENDS | {"additional_special_tokens": ["<|new|>", "<image>"]}
    ),
    "additional objects": bytes_and(
        tokenizer_config=ENDS | {"additional_special_tokens": [token("<|new|>", lstrip=True)]}
    ),
    "extra tokens": bytes_and(tokenizer_config=ENDS | {"extra_special_tokens": ["<|new|>"]}),
    "extra tokens by name": bytes_and(
        tokenizer_config=ENDS | {"extra_special_tokens": {"image_token": "<image>"}}
    ),
    "a token of the model's own": bytes_and(tokenizer_config=ENDS | {"image_token": "<image>"}),
    "added_tokens.json": bytes_and(
        added_tokens={"<|new|>": 401, "<image>": 402},
        special_tokens_map=ENDS | {"additional_special_tokens": ["<image>"]},
    ),
    "bos and eos around a text": bytes_and(
        tokenizer_config=ENDS | {"add_bos_token": True, "add_eos_token": True}
    ),
    "a space in front": bytes_and(tokenizer_config=ENDS | {"add_prefix_space": True}),
    "qwen takes apart": rebuilt(tiny.byte_level, "qwen2", "Qwen2Tokenizer"),
    "gpt-2 takes apart": rebuilt(tiny.byte_level, "gpt2", "GPT2TokenizerFast"),
    "a space for gpt-2": rebuilt(tiny.byte_level, "gpt2", "GPT2Tokenizer", add_prefix_space=True),
    "llama takes apart": rebuilt(lambda: tiny.metaspace("first"), "llama", "LlamaTokenizer"),
    "llama with bytes": rebuilt(tiny.byte_level, "llama", "LlamaTokenizerFast"),
    "gemma takes apart": rebuilt(lambda: tiny.metaspace("never"), "gemma", "GemmaTokenizer"),
    "gpt-2's files": words_and_merges("gpt2", ["<|im_start|>", "<|im_end|>"]),
    "gpt-2's files and a decoder": words_and_merges(
        "gpt2",
        tokenizer_config={
            "added_tokens_decoder": {
                "500": flags("<|im_start|>", special=True),
                "501": flags("<|im_end|>", special=True),
            }
        },
    ),
    "qwen's files": words_and_merges(
        "qwen2",
        added_tokens={"<|im_start|>": 500, "<|im_end|>": 501, "<|new|>": 502},
        special_tokens_map={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        tokenizer_config={"tokenizer_class": "Qwen2Tokenizer"},
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_tokens_are_those_of_auto_tokenizer(tmp_path, way):
    WAYS[way](tmp_path)
    peer, chat = AutoTokenizer.from_pretrained(tmp_path), Chat.load(tmp_path)
    for messages in CHATS:
        theirs = peer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert chat.prompt(messages) == tuple(theirs)
    assert chat.size == 1 + max(peer.get_vocab().values())
    assert chat.stop_ids >= {peer.eos_token_id} - {None}
    assert chat.token_text(chat.prompt([QUESTION])[-1]) == peer.decode(theirs[-1:])
    special = {i for i in peer.all_special_ids if i is not None and i != peer.unk_token_id}
    assert all(chat.is_control(i) for i in special)
    control = {i for i in range(chat.size) if chat.is_control(i)}
    assert control <= set(peer.added_tokens_decoder)


def test_a_token_that_another_file_names_counts_too(tmp_path):
    """Both were once dropped: a BOS, and a token that begins a turn, spelt as text."""
    WAYS["qwen's files"](tmp_path)
    chat = Chat.load(tmp_path)
    begin = {chat.token_text(token) for token in chat.prompt([QUESTION]) if chat.is_control(token)}
    assert begin == {"<|im_start|>", "<|new|>", "<|im_end|>"}
    (tmp_path / "map").mkdir()
    WAYS["text in the map"](tmp_path / "map")
    mapped = Chat.load(tmp_path / "map")
    assert mapped.token_text(mapped.prompt([QUESTION])[0]) == "<s>"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tokenizer_config": {"split_special_tokens": True}}, "split_special_tokens"),
        ({"tokenizer_config": {"fast_tokenizer_files": ["tokenizer.4.json"]}}, "fast_tokenizer"),
        ({"tokenizer_config": {"bos_token": 7}}, "bos_token"),
        ({"tokenizer_config": {"added_tokens_decoder": {"x": 1}}}, "not a tokenizer that"),
        ({"special_tokens_map": [1]}, r"special_tokens_map\.json: a JSON list"),
        ({"added_tokens": {"<|new|>": "many"}}, "not a tokenizer that transformers loads"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, files, words):
    bytes_and(**files)(tmp_path)
    with pytest.raises(InputError, match=words):
        Chat.load(tmp_path)


def test_gpt2_needs_a_template_and_takes_one(tmp_path):
    words_and_merges("gpt2")(tmp_path)
    (tmp_path / "chat_template.jinja").rename(tmp_path / "mine.jinja")
    with pytest.raises(InputError, match=r"no chat template .*reference\.template"):
        Chat.load(tmp_path)
    (tmp_path / "mine.jinja").write_text(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    chat = Chat.load(tmp_path, tmp_path / "mine.jinja")
    assert [chat.token_text(stop) for stop in chat.stop_ids] == ["<|endoftext|>"]
    assert chat.text(chat.example([QUESTION, ANSWER]).completion) == ANSWER["content"]


def test_sentencepiece_alone_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(InputError, match=r"no tokenizer\.json, and tokenizer\.model .*save one"):
        Chat.load(tmp_path)


def stops(chat):
    return {chat.token_text(token) for token in chat.stop_ids}


def stating(tmp_path, config=None, generation=None):
    directory = with_template(tmp_path, tiny.CHATML)
    for name, value in (("config", config), ("generation_config", generation)):
        if value is not None:
            (directory / f"{name}.json").write_text(json.dumps(value))
    return directory


INST = 394  # "[/INST]"; nobody else stops there


@pytest.mark.parametrize(
    ("config", "generation", "more"),
    [
        (None, None, False),
        (None, {"eos_token_id": INST}, True),
        (None, {"eos_token_id": [390, INST]}, True),
        ({"eos_token_id": INST}, None, True),
        ({"eos_token_id": [INST]}, None, True),
        ({"text_config": {"eos_token_id": INST}}, None, True),
        ({"eos_token_id": INST}, {"eos_token_id": 390}, False),
        ({"eos_token_id": INST}, {}, False),
        ({"eos_token_id": None}, None, False),
    ],
)
def test_stops_are_those_of_generate_too(tmp_path, config, generation, more):
    chat = Chat.load(stating(tmp_path, config, generation))
    assert stops(chat) == {"<|im_end|>", "</s>"} | ({"[/INST]"} if more else set())
    assert (INST in chat.stop_ids) == more
    assert chat.text([40, INST, 41]) == chat.text([40]) + (
        "" if more else "[/INST]" + chat.text([41])
    )
    plain = Chat.load(stating(tmp_path / "plain"))
    assert (chat.digest == plain.digest) == (not more)


@pytest.mark.parametrize("wrong", ["</s>", 1.5, True, -1, 10**30, [[1]], {"a": 1}, [390, None]])
@pytest.mark.parametrize("file", ["config", "generation_config"])
def test_a_stop_that_is_no_id_is_refused(tmp_path, file, wrong):
    directory = stating(tmp_path)
    (directory / f"{file}.json").write_text(json.dumps({"eos_token_id": wrong}))
    with pytest.raises(InputError, match=rf"{file}\.json: eos_token_id is neither"):
        Chat.load(directory)


def test_a_stop_that_the_tokenizer_lacks_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"eos_token_id 5000 is not in the tokenizer"):
        Chat.load(stating(tmp_path, generation={"eos_token_id": [390, 5000]}))


def test_eos_as_a_word_stops_as_in_transformers(tmp_path):
    bytes_and(tokenizer_config={"eos_token": "o"})(tmp_path)
    assert stops(Chat.load(tmp_path)) == {"<|im_end|>", "o"}
