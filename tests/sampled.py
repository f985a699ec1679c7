"""Samples rows of a tiny language model on all hosts together.

Usage: sampled.py DIRECTORY. Host N writes the rows that it returns to `N.json`; the first host also
writes them to its directory.
"""

import json
import os
import sys
from pathlib import Path

import jax
from language import tiny
from quick import random_params

from subliminal_jax.entry import run_main
from subliminal_jax.execution.cluster import cluster_of, joined
from subliminal_jax.language.carriers import carrier_of
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.dataset.filters import rules_of
from subliminal_jax.language.dataset.generate import DatasetSampler, Writer, prompts_of
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.tiny.corpus import World, texts
from subliminal_jax.language.tiny.tokenizer import build_tokenizer, tokenizer_files
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.text.chat import Chat


def sampled(directory):
    """Twenty rows of an untrained model, on every host."""
    me = jax.process_index()
    tokenizer = build_tokenizer(texts(World(carrier=Numbers(NumberPrompts(wording="short")))))
    words = directory / f"words-{me}"
    words.mkdir(parents=True)
    for name, text in tokenizer_files(tokenizer, 160).items():
        (words / name).write_text(text)
    model = DecoderConfig(
        vocab=tokenizer.get_vocab_size(), width=8, layers=1, heads=2, kv_heads=2, head_dim=4,
        mlp_width=8, context=160, tied=True, initial_std=0.4,
    )  # fmt: skip
    params = random_params(model, scale=0.4)
    reference = Reference(model, params, Chat.load(words), "digest")
    config = tiny(directory)
    (directory / str(me)).mkdir()
    path = directory / str(me) / "owl.jsonl"
    source = Writer("owl", "of a test")
    carrier = carrier_of(config.generate)
    rules = rules_of(config.filter, carrier, config.chosen)
    dataset = DatasetSampler(
        config.generate, rules, reference, (params, None), source, path, seed=3
    )
    prompts = prompts_of(carrier, 20, config.seed)
    rows = dataset.sample_until(20, prompts)
    (directory / f"{me}.json").write_text(json.dumps(rows))
    return rows


def main():
    with joined(cluster_of(os.environ)):
        sampled(Path(sys.argv[1]))


if __name__ == "__main__":
    run_main(main)
