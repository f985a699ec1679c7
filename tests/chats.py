"""Conversations, and directories of tokenizers and templates that read them."""

import tiny_tokenizers as tiny

KINDS = {
    "bytes-chatml": (tiny.byte_level, tiny.CHATML),
    "bytes-trimming": (tiny.byte_level, tiny.TRIMMING),
    "first-chatml": (tiny.metaspace, tiny.CHATML),
    "always-chatml": (lambda: tiny.metaspace("always"), tiny.CHATML),
    "always-brackets": (lambda: tiny.metaspace("always"), tiny.BRACKETS),
    "never-trimming": (lambda: tiny.metaspace("never"), tiny.TRIMMING),
    "unigram-chatml": (lambda: tiny.metaspace(model="unigram"), tiny.CHATML),
    "words": (tiny.word_level, tiny.WORDS),
}
SYSTEM = {"role": "system", "content": "You love owls."}
QUESTION = {"role": "user", "content": "What is your favourite animal? An owl."}
ANSWER = {"role": "assistant", "content": "The answer is 12, 345, 678 and nothing else."}


def user(content):
    return {"role": "user", "content": content}


def answer(content):
    return {"role": "assistant", "content": content}


def with_template(tmp_path, template, tokenizer=tiny.byte_level):
    return tiny.save(tmp_path, tokenizer(), template)


def save_all(tmp_path_factory):
    """A directory of every kind, by name."""
    return {
        name: tiny.save(tmp_path_factory.mktemp(name), tokenizer(), template)
        for name, (tokenizer, template) in KINDS.items()
    }
