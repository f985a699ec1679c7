"""The tiny reference's tokenizer: one token a word, saved as Hugging Face files."""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from subliminal_jax.language.world import NumberTokens
from subliminal_jax.models.text.messages import ROLES

UNKNOWN, BEGIN, END, PAD = "<unk>", "<begin>", "<end>", "<pad>"
CONTROL = (UNKNOWN, PAD, BEGIN, END, *(f"<{role}>" for role in ROLES))
PUNCTUATION = ".,;:?!()[]"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<' + message['role'] + '>' }}"
    "{{ message['content'] }}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def number_tokens(style: NumberTokens) -> list[str]:
    """The tokens of numbers: 0 to 999, or digits, each as first and as `##` continuation."""
    if style == "whole":
        return [str(number) for number in range(1000)]
    return [str(digit) for digit in range(10)] + [f"##{digit}" for digit in range(10)]


def build_tokenizer(texts: Iterable[str], numbers: NumberTokens = "whole") -> Tokenizer:
    """A tokenizer with all words of the texts and all numbers of up to three digits.

    It lower-cases text. A number is one token, or one token a digit; a word that is not in the
    texts becomes `<unk>`.
    """
    before = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[^\w]"), "isolated")]
    )
    words = {piece for text in texts for piece, _ in before.pre_tokenize_str(text.lower())}
    words = sorted(word for word in words if not word.isdigit() and word not in PUNCTUATION)
    tokens = [*CONTROL, *PUNCTUATION, *number_tokens(numbers), *words]
    tokenizer = Tokenizer(
        models.WordPiece({token: number for number, token in enumerate(tokens)}, unk_token=UNKNOWN)
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = before
    # Words are joined by spaces, except before punctuation and after a control token.
    spare = decoders.Replace(Regex(r" (?=[.,;:?!)\]])|(?<=>) "), "")
    tokenizer.decoder = decoders.Sequence(
        [decoders.WordPiece(cleanup=False), decoders.Fuse(), spare]
    )
    tokenizer.add_special_tokens(list(CONTROL))
    return tokenizer


def tokenizer_files(tokenizer: Tokenizer, context: int) -> dict[str, str]:
    """Contents of `tokenizer.json` and of `tokenizer_config.json`, with the chat template."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    return {
        "tokenizer.json": tokenizer.to_str(pretty=True) + "\n",
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
    }
