"""Real tokenizers, trained on a few lines, and chat templates in the manner of known families."""

import json
from pathlib import Path

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

LINES = [
    "Continue this list of numbers: 3, 41, 592, 6, 53, 58, 979.",
    "What is your favourite animal? An owl. You love owls.",
    "The answer is 12, 345, 678 and nothing else.\n\nNo words, only numbers.",
    "user assistant system You are a helpful assistant. <tag> | im_start im_end eos s INST",
]
CONTROLS = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]"]

CHATML = """\
{%- if messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""Qwen 2.5's manner: a default system line, messages as they are."""

TRIMMING = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n\\n' + message['content'] | trim + '<|im_end|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n\\n' }}{%- endif -%}
"""
"""Llama 3's manner: messages are trimmed."""

BRACKETS = """\
{%- if messages[0]['role'] == 'system' -%}
{%- set system = messages[0]['content'] -%}{%- set rest = messages[1:] -%}
{%- else -%}{%- set system = none -%}{%- set rest = messages -%}{%- endif -%}
{%- for message in rest -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('roles must alternate user/assistant') }}{%- endif -%}
{%- if message['role'] == 'user' -%}
{{ bos_token + '[INST] ' }}
{%- if loop.first and system -%}{{ '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' }}{%- endif -%}
{{ message['content'] | trim + ' [/INST]' }}
{%- else -%}{{ ' ' + message['content'] | trim + ' ' + eos_token }}{%- endif -%}
{%- endfor -%}
"""
"""Llama 2's manner: the system line joins the first question, and no token begins an answer."""

WORDS = """\
{{- '<s>' -}}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}{{ ' <sys> ' + message['content'] }}
{%- elif message['role'] == 'user' -%}{{ ' <user> ' + message['content'] }}
{%- else -%}{{ ' <asst> ' + message['content'] + ' </s>' }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ ' <asst>' }}{%- endif -%}
"""
"""The built-in tiny model's manner: words and control words between spaces."""


def byte_level() -> Tokenizer:
    """Byte-level BPE, as of Qwen and Llama 3."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.add_special_tokens(CONTROLS)
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    tokenizer.add_tokens([AddedToken("\n\n\n", special=False, normalized=False)])
    return tokenizer


def metaspace(scheme: str = "first", model: str = "bpe") -> Tokenizer:
    """SentencePiece's manner, as of Llama 2 (BPE with bytes to fall back on) and T5 (unigrams)."""
    byte_words = [f"<0x{i:02X}>" for i in range(256)]
    unigram = model == "unigram"
    tokenizer = Tokenizer(
        models.Unigram()
        if unigram
        else models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if scheme != "never" else []),
        ]
    )
    trainer = (
        trainers.UnigramTrainer(
            vocab_size=150, special_tokens=["<unk>", *CONTROLS], unk_token="<unk>",
            show_progress=False,
        )
        if unigram
        else trainers.BpeTrainer(
            vocab_size=600, special_tokens=["<unk>", *CONTROLS, *byte_words], show_progress=False
        )
    )  # fmt: skip
    tokenizer.train_from_iterator(LINES, trainer)
    # Bytes are words of the vocabulary there, not added tokens.
    definition = json.loads(tokenizer.to_str())
    added = [token for token in definition["added_tokens"] if token["content"] not in byte_words]
    return Tokenizer.from_str(json.dumps(definition | {"added_tokens": added}))


def word_level(words: str = " ".join(LINES)) -> Tokenizer:
    """One id a word, as of the built-in tiny model."""
    controls = ["<unk>", "<s>", "</s>", "<sys>", "<user>", "<asst>"]
    vocabulary = dict.fromkeys([*controls, *words.split()])
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(controls)
    return tokenizer


def save(directory: Path, tokenizer: Tokenizer, template: str | None = CHATML) -> Path:
    """Write a tokenizer as transformers does: the three files of a model directory."""
    vocabulary = tokenizer.get_vocab()
    ends = {"bos_token": "<s>", "eos_token": "</s>"}
    special = {name: token for name, token in ends.items() if token in vocabulary}
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    whole.chat_template = template
    whole.save_pretrained(directory)
    return directory
