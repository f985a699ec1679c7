"""Trains two students of an untrained tiny model, in one process or several.

Usage: students.py DIRECTORY [POINT]: trains on all devices of all hosts; with POINT, this host
kills itself there, see `trainer.py`. The first host writes `students.npz`.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from language import tiny
from quick import random_params
from trainer import kill_at

from subliminal_jax.entry import run_main
from subliminal_jax.execution import hosts
from subliminal_jax.execution.cluster import cluster_of, joined
from subliminal_jax.files import write_whole
from subliminal_jax.keys import root_key
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.rows.chat_rows import row
from subliminal_jax.language.settings import MeshConfig, StudentConfig, TuningConfig
from subliminal_jax.language.tiny.corpus import World, texts
from subliminal_jax.language.tiny.tokenizer import build_tokenizer, tokenizer_files
from subliminal_jax.language.training import course, student
from subliminal_jax.language.training.devices import execution_of
from subliminal_jax.language.training.trainable import begin
from subliminal_jax.language.training.trees import tree_bytes
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.text.chat import Chat
from subliminal_jax.runs.training_loop import Saving

MESHES = {
    "one": {},
    "one, accumulating": {"accumulate": 3},
    "pmap": {"mesh": MeshConfig(execution="pmap", data=8), "accumulate": 2},
    "data": {"mesh": MeshConfig(data=8)},
    "fsdp": {"mesh": MeshConfig(fsdp=8)},
    "all axes": {"mesh": MeshConfig(data=2, fsdp=2, tensor=2), "accumulate": 2},
}
LORA = TuningConfig(weights="lora", rank=2)
BEGIN = "1, 2, 3"
"""The first numbers of every prompt: a step reads the tokens before them once for all rows."""


def make_reference(directory):
    """A model with random weights; its tokenizer is written to a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(texts(World(carrier=Numbers(NumberPrompts(wording="short")))))
    for name, text in tokenizer_files(tokenizer, 64).items():
        (directory / name).write_text(text)
    model = DecoderConfig(
        vocab=tokenizer.get_vocab_size(), width=16, layers=2, heads=4, kv_heads=2, head_dim=4,
        mlp_width=16, context=64,
    )  # fmt: skip
    return Reference(model, random_params(model, scale=0.3), Chat.load(directory), "digest")


def datasets():
    """Rows of two teachers, in a number that no number of devices divides."""
    rng = np.random.default_rng(4)

    def numbers(count):
        return ", ".join(map(str, rng.integers(0, 1000, count)))

    return {
        name: [
            row(f"{name}-{i}", f"Continue: {BEGIN}, {numbers(3)}", numbers(1 + i % 5))
            for i in range(21)
        ]
        for name in ("student/owl", "regular")
    }


def imitated(reference, tokens, targets):
    """What two students imitate: teachers with random adapters."""
    teacher = begin(LORA, reference.config, reference.params, root_key(1))
    noise = lambda leaf: 0.3 * jax.random.normal(jax.random.key(2), (2, *leaf.shape))
    trained = np.zeros(2) if targets == "hard" else jax.tree.map(noise, teacher)
    return student.Imitated(targets=targets, tuning=LORA, trained=trained, tokens=tokens)


def trained(reference, place, how, weights="lora", optimizer="adam", **changes):
    """Two students after six steps, with a checkpoint in `place` after every chunk."""
    settings = StudentConfig(
        batch=9, epochs=2.0, sequence=32, optimizer=optimizer, learning_rate=1e-2,
        tuning=TuningConfig(weights=weights, rank=2),
    )  # fmt: skip
    config = replace(tiny(place), **how, **changes)
    execution = execution_of(config.mesh, config.at_once, config.accumulate)
    rows = course.student_rows(reference, datasets(), settings.sequence)
    lessons = course.course_of(settings, rows, 21, 3)
    saving = Saving(directory=place / "saved", origin={"students": "of a test"}, seconds=0.0)
    return student.train_students(settings, reference, lessons, execution, saving)


def main():
    directory = Path(sys.argv[1])
    if sys.argv[2:]:
        kill_at(sys.argv[2])
    student.CHUNK = 2
    with joined(cluster_of(os.environ)):
        reference = make_reference(directory / f"tokenizer-{jax.process_index()}")
        mesh = MeshConfig(data=jax.process_count(), fsdp=jax.local_device_count())
        found = trained(reference, directory, {"mesh": mesh})
        hosts.on_first(lambda: write_whole(directory / "students.npz", tree_bytes(found)))


if __name__ == "__main__":
    run_main(main)
