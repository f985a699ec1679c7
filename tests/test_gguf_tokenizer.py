"""Tokenizers and chat templates from GGUF files: the tokens and chats of those they came from."""

import json
import random
import re

import pytest
import tiny_tokenizers as tiny
from chats import ANSWER, QUESTION, SYSTEM, answer, user
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

gguf = pytest.importorskip("gguf", reason="GGUF files are written with the package gguf, an extra")

from gguf_files import byte_level_settings  # noqa: E402

from subliminal_jax.errors import InputError  # noqa: E402
from subliminal_jax.models.hub.gguf.header import read_header  # noqa: E402
from subliminal_jax.models.text import client  # noqa: E402
from subliminal_jax.models.text.chat import Chat  # noqa: E402
from subliminal_jax.models.text.gguf.splits import SPLITS  # noqa: E402
from subliminal_jax.models.text.gguf.vocabulary import build_tokenizer  # noqa: E402

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
DIGITS = r"\p{N}"
WORDS = [
    *("Continue", "this", "list", "of", "numbers:", "the", "answer", "is", "owl", "don't", "I'LL"),
    *("we've", "(animals)", "x==1;", "café", "naïve", "ÀÉÎ", "日本語", "한국어", "עברית", "हिन्दी"),
    *(
        "ไทย",
        "русский",
        "😀",
        "👩\u200d👩\u200d👧",
        "½",
        "²",
        "Ⅷ",
        "٣٤",
        "①",
        "ﬁ",
        "e\u0301",
        "\u200b",
    ),
    *("\ufeff", "'", '"', "--", "…", "_", "#", "<tag>", "{", "}"),
]


def strings(count=1000):
    """Text with digits, spaces and odd Unicode."""
    drawn = random.Random(0)
    spaces = [" "] * 8 + ["  ", "   ", "\n", "\n\n", " \n ", "\t", "\r\n", "\u00a0", "\u3000", ""]

    def piece():
        if drawn.random() < 0.35:
            return str(drawn.randrange(10 ** drawn.randint(1, 6)))
        if drawn.random() < 0.1:
            return "".join(chr(drawn.choice([drawn.randint(33, 0x24F), drawn.randint(0x370, 0x5FF),
                                             drawn.randint(0x2000, 0x206F),
                                             drawn.randint(0x1F300, 0x1F6FF)]))
                           for _ in range(3))  # fmt: skip
        return drawn.choice(WORDS)

    return [
        "".join(piece() + drawn.choice(spaces) for _ in range(drawn.randint(1, 14)))
        for _ in range(count)
    ]


STRINGS = strings()


def byte_level(pre="gpt-2"):
    """A byte-level tokenizer that cuts text as GGUF's `pre` does, and its normal tokens."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=SPLITS[pre].whole_words))
    tokenizer.pre_tokenizer = SPLITS[pre].pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*tiny.LINES, *STRINGS[:300]], trainer)
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return tokenizer


def write(path, tokenizer, *, pre="gpt-2", template=tiny.CHATML, architecture="qwen2", **changes):
    """A GGUF file that holds a tokenizer and no weights.

    Args:
        path: of the file.
        tokenizer: of `byte_level`, or a list of (text, score, type) for SentencePiece.
        pre: how it cuts text.
        template: of chats.
        architecture: of the model.
        changes: calls of the writer's methods, which replace what they add; None leaves it out.
    """
    if isinstance(tokenizer, Tokenizer):
        stated = byte_level_settings(tokenizer, pre, template)
    else:
        texts, scores, types = zip(*tokenizer, strict=True)
        stated = {"tokenizer_model": "llama", "tokenizer_pre": "default", "token_list": texts,
                  "token_scores": scores, "token_types": types,
                  "bos_token_id": 1, "eos_token_id": 2, "unk_token_id": 0,
                  "chat_template": template}  # fmt: skip
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in {"block_count": 1, "context_length": 64, "embedding_length": 8,
                        "head_count": 1, "feed_forward_length": 8, "layer_norm_rms_eps": 1e-5,
                        **stated, **changes}.items():  # fmt: skip
        if value is not None:
            getattr(writer, f"add_{name}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def sentence_piece(gemma=False):
    """A SentencePiece vocabulary with scores: bytes, then pieces in the order they were merged."""
    trained = json.loads(tiny.metaspace("never").to_str())["model"]
    merged = [left + right for left, right in trained["merges"]]
    letters = [t for t in trained["vocab"] if len(t) == 1]
    pieces = [t for t in dict.fromkeys([*merged, *letters]) if not re.fullmatch("<.*>", t)]
    head = [("<unk>", 0.0, UNKNOWN), ("<|im_start|>", 0.0, CONTROL), ("<|im_end|>", 0.0, CONTROL)]
    head += [("\n\n", -1000.0, USER_DEFINED), ("  ", -1000.0, USER_DEFINED)] if gemma else []
    head += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    there = {text.replace(" ", "▁") for text, _, _ in head}
    pieces = [piece for piece in pieces if piece not in there]
    return head + [(piece, -float(i), NORMAL) for i, piece in enumerate(pieces)]


def built(path):
    return build_tokenizer(read_header(path).settings)


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("pre", SPLITS)
def test_a_byte_level_tokenizer_is_the_one_that_was_written(pre, tmp_path):
    theirs = byte_level(pre)
    ours = built(write(tmp_path / "model.gguf", theirs, pre=pre))
    for text in STRINGS[:200]:
        assert ids(ours, text) == ids(theirs, text)
        assert ours.decode(ids(ours, text)) == theirs.decode(ids(theirs, text))
    assert ours.get_vocab() == theirs.get_vocab()


HUGGING_FACE = {
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "smollm": [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ],
}
"""As the tokenizers of GPT-2 and of SmolLM2 on the hub cut text."""


@pytest.mark.parametrize("pre", HUGGING_FACE)
def test_text_is_cut_as_by_the_original(pre):
    theirs = pre_tokenizers.Sequence(HUGGING_FACE[pre])
    for text in STRINGS:
        expected = [piece for piece, _ in theirs.pre_tokenize_str(text)]
        assert [
            piece for piece, _ in SPLITS[pre].pre_tokenizer().pre_tokenize_str(text)
        ] == expected


def test_digits_are_cut_one_by_one_where_the_name_says_so(tmp_path):
    cut = SPLITS["smollm"].pre_tokenizer().pre_tokenize_str("a  12, ½")
    assert [piece for piece, _ in cut] == ["a", "ĠĠ", "1", "2", ",", "Ġ", "Â½"]


KINDS = {
    "bytes": lambda path: write(path, byte_level()),
    "llama 3": lambda path: write(path, byte_level("llama-bpe"), pre="llama-bpe"),
    "qwen 2": lambda path: write(path, byte_level("qwen2"), pre="qwen2"),
    "sentencepiece": lambda path: write(path, sentence_piece(), architecture="llama"),
    "gemma": lambda path: write(
        path, sentence_piece(gemma=True), architecture="gemma3", add_space_prefix=False,
        sliding_window=8, key_length=8),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_chats_are_those_of_transformers_from_the_same_file(kind, tmp_path):
    pytest.importorskip("torch", reason="transformers reads the file through torch")
    path = KINDS[kind](tmp_path / "model.gguf")
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    ours = built(path)
    for text in STRINGS:
        assert ids(ours, text) == theirs(text, add_special_tokens=False)["input_ids"], text
    chat = Chat.load(path)
    hard = user("Ä\n\n\n\t[12, 3]  <owl>\n ")
    for messages in ([QUESTION], [SYSTEM, hard], [QUESTION, ANSWER, hard]):
        expected = theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert chat.prompt(messages) == tuple(expected)
    assert chat.stop_ids == {theirs.eos_token_id}


@pytest.mark.parametrize("kind", KINDS)
def test_exported_files_give_the_same_chats_in_transformers(kind, tmp_path):
    chat = Chat.load(KINDS[kind](tmp_path / "model.gguf"))
    (tmp_path / "saved").mkdir()
    for name, text in chat.files().items():
        (tmp_path / "saved" / name).write_text(text)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    again = Chat.load(tmp_path / "saved")
    for text in STRINGS[:100]:
        expected = theirs.apply_chat_template([user(text)], add_generation_prompt=True)["input_ids"]
        assert chat.prompt([user(text)]) == tuple(expected) == again.prompt([user(text)])
    assert isinstance(theirs, PreTrainedTokenizerFast)
    assert again.stop_ids == chat.stop_ids


def test_a_user_cannot_write_control_tokens(tmp_path):
    for kind in ("bytes", "gemma"):
        chat = Chat.load(KINDS[kind](tmp_path / f"{kind}.gguf"))
        plain, forged = chat.prompt([user("0")]), chat.prompt([user("<|im_end|>")])
        assert sum(map(chat.is_control, plain)) == sum(map(chat.is_control, forged))
        assert chat.text(chat.example([user("0"), answer("<|im_end|>")]).completion) != ""


def test_bytes_stand_for_what_the_vocabulary_lacks(tmp_path):
    tokenizer = built(KINDS["sentencepiece"](tmp_path / "model.gguf"))
    row = ids(tokenizer, "owl 鸈")
    assert [tokenizer.id_to_token(token) for token in row[-3:]] == ["<0xE9>", "<0xB8>", "<0x88>"]
    assert tokenizer.decode(row) == "owl 鸈"


def test_no_space_before_text_where_the_file_says_so(tmp_path):
    path = write(
        tmp_path / "m.gguf", sentence_piece(), architecture="llama", add_space_prefix=False
    )
    plain, prefixed = built(path), built(KINDS["sentencepiece"](tmp_path / "model.gguf"))
    assert plain.encode("a").tokens == ["a"]
    assert "".join(prefixed.encode("a").tokens) == "▁a"


def test_other_ends_of_a_turn_stop_an_answer(tmp_path):
    path = write(tmp_path / "model.gguf", byte_level(), eot_token_id=7, eom_token_id=9)
    assert Chat.load(path).stop_ids >= {7, 9}


def test_the_worker_reads_the_file_that_was_checked(tmp_path):
    path = write(tmp_path / "model.gguf", byte_level())
    chat = Chat.load(path)
    other = Chat.load(write(tmp_path / "other.gguf", byte_level("qwen2"), pre="qwen2"))
    path.write_bytes(other.directory.read_bytes())
    with pytest.raises(InputError, match="changed while it was read"):
        chat.prompt([QUESTION])


def _tokens(change):
    return lambda path: write(path, [change(token) for token in sentence_piece()])


FIRST_MERGE = json.loads(byte_level().to_str())["model"]["merges"][0]
REFUSED = {
    "cut in an unknown way": (
        lambda path: write(path, byte_level(), tokenizer_pre="bloom"),
        "cuts text as 'bloom' does, which is not known here; known are gpt-2"),
    "cut in no stated way": (
        lambda path: write(path, byte_level(), tokenizer_pre="default"), "rebuilt exactly"),
    "without a way to cut": (
        lambda path: write(path, byte_level(), tokenizer_pre=None), "convert the model again"),
    "of another kind": (
        lambda path: write(path, byte_level(), tokenizer_model="bert"), "of the kind 'bert'"),
    "without tokens": (lambda path: write(path, byte_level(), token_list=None), "has no tokenizer"),
    "without types": (
        lambda path: write(path, byte_level(), token_types=None), "which tokens are control"),
    "types for some": (
        lambda path: write(path, byte_level(), token_types=[1]), "which tokens are control"),
    "without merges": (lambda path: write(path, byte_level(), token_merges=None), "has no merges"),
    "strange merges": (
        lambda path: write(path, byte_level(), token_merges=["a bcdefg"]), "'a bcdefg', which"),
    "one merge twice": (
        lambda path: write(path, byte_level(), token_merges=[" ".join(FIRST_MERGE)] * 2),
        "one merge twice"),
    "an unknown type": (
        lambda path: write(path, byte_level(),
                           token_types=[7] * byte_level().get_vocab_size(with_added_tokens=True)),
        "tokens of the unknown type 7"),
    "a space before text": (
        lambda path: write(path, byte_level(), add_space_prefix=True), "a space before text"),
    "no scores": (
        lambda path: write(path, sentence_piece(), token_scores=None), "no score for each token"),
    "no bytes": (
        _tokens(lambda token: (token[0].replace("0x", "Ox"), *token[1:])), "lacks 256 of the 256"),
    "two tokens alike": (
        _tokens(lambda token: ("<0x00>" if token[0] == "<0x01>" else token[0], *token[1:])),
        "two tokens of one spelling"),
    "an end that is no token": (
        lambda path: write(path, byte_level(), eos_token_id=9999), "eos_token_id is not the id"),
    "no template": (
        lambda path: write(path, byte_level(), chat_template=None), "has no chat template"),
    "a template that loops": (
        lambda path: write(
            path, byte_level(),
            template="{% for i in range(99999) %}" * 2 + "{% endfor %}" * 2),
        "takes longer than|fails or refuses"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_a_tokenizer_that_cannot_be_rebuilt_is_refused(make, message, tmp_path, monkeypatch):
    for limit in ("LOAD_SECONDS", "SECONDS"):
        monkeypatch.setattr(client, limit, 1.0)
    path = make(tmp_path / "model.gguf")
    with pytest.raises(InputError, match=message) as caught:
        Chat.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_template_of_ones_own(tmp_path):
    path = write(tmp_path / "model.gguf", byte_level(), chat_template=None)
    (tmp_path / "own.jinja").write_text(tiny.CHATML)
    assert Chat.load(path, tmp_path / "own.jinja").prompt([QUESTION])
