"""How byte-level tokenizers cut text before they merge, by the names that GGUF gives to the ways.

The expressions are those of the tokenizers that llama.cpp knows under these names.
"""

from typing import NamedTuple

from tokenizers import Regex, pre_tokenizers

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub.model_files import shown

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_ENDINGS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_ENDINGS}|{_WORDS}|\p{{N}}|{_REST}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Split(NamedTuple):
    """One way to cut text.

    Attributes:
        expressions: applied in turn, each to the pieces that the one before it left.
        whole_words: a piece that is a token is that token, whatever the merges make of it.
    """

    expressions: tuple[str, ...]
    whole_words: bool = False

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """It as a pre-tokenizer, which also spells bytes as characters."""
        steps = [pre_tokenizers.Split(Regex(one), "isolated") for one in self.expressions]
        return pre_tokenizers.Sequence(
            [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )


SPLITS = {
    **dict.fromkeys(("gpt-2", "mpt", "olmo", "jais", "phi-2"), Split((_GPT2,))),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        Split((r"\p{N}", _GPT2)),
    ),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
        Split((_LLAMA3,), whole_words=True),
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe"), Split((_LLAMA3,))),
    **dict.fromkeys(
        ("qwen2", "stablelm2", "deepseek-r1-qwen", "megrez", "hunyuan"), Split((_QWEN2,))
    ),
    "tekken": Split((_TEKKEN,), whole_words=True),
}
"""GGUF's `tokenizer.ggml.pre` -> how text is cut."""


def split_named(name: object) -> Split:
    """The way to cut text that has this name in GGUF.

    Raises:
        InputError: there is none, or the file does not state which its tokenizer has.
    """
    if not isinstance(name, str) or name in ("", "default"):
        raise InputError(
            "its tokenizer does not state how it cuts text (tokenizer.ggml.pre), and cannot be "
            "rebuilt exactly; convert the model again, with a newer llama.cpp"
        )
    if name not in SPLITS:
        raise InputError(
            f"its tokenizer cuts text as {shown(name)!r} does, which is not known here; known are "
            f"{', '.join(SPLITS)}"
        )
    return SPLITS[name]
