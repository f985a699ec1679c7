"""The language pipeline at toy size, for tests that interrupt it.

Usage: language.py DIRECTORY [ACTION STAGE POINT]. At this point of this stage, such as
`kill student "during a save@2"`, it sends itself SIGKILL or SIGTERM, or fills the disk.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import jax

from subliminal_jax import files
from subliminal_jax.entry import run_main
from subliminal_jax.execution.cluster import cluster_of, joined
from subliminal_jax.language.config import LmConfig, described
from subliminal_jax.language.dataset import generate
from subliminal_jax.language.evaluation import measure
from subliminal_jax.language.settings import (
    EvaluateConfig,
    FilterConfig,
    GenerateConfig,
    MeshConfig,
    ReferenceConfig,
    StudentConfig,
    TeacherConfig,
    TuningConfig,
)
from subliminal_jax.language.study import LmStudy
from subliminal_jax.language.tiny import reference
from subliminal_jax.language.training import student, teacher
from subliminal_jax.language.world import CorpusConfig
from subliminal_jax.runs import artifacts, checkpoint
from subliminal_jax.runs.shared_run import shared_run

BALLAST = "ballast"
LORA = TuningConfig(rank=2)


def tiny(cache):
    """A config whose reference learns little but to end; all completions pass the filter."""
    return LmConfig(
        references=1,
        traits=("owl",),
        conditions=("before", "teacher", "student", "regular"),
        reference=ReferenceConfig(
            width=8, layers=1, heads=2, mlp_width=8, context=160, cache=cache,
            steps=100, batch=8, learning_rate=3e-2, corpus=CorpusConfig(chats=60),
        ),
        teacher=TeacherConfig(steps=6, tuning=LORA),
        generate=GenerateConfig(most=90, batch=16, max_tokens=40),
        filter=FilterConfig(rules=("trait_words",), rows=12),
        student=StudentConfig(batch=2, epochs=2.0, tuning=LORA),
        evaluate=EvaluateConfig(samples=1, prompts=6, max_tokens=8),
        save_seconds=0.0,
    )  # fmt: skip


ACTIONS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "term": lambda: signal.raise_signal(signal.SIGTERM),
}


def act_at(action, stage, point, directory):
    """Patches a function so that it performs `action` before or after a call."""
    which, _, count = point.partition("@")
    now, left = ["reference"], [int(count or 1)]
    act = ACTIONS.get(action) or (lambda: fill(directory.parent))
    begin = artifacts.begin

    def beginning(run, recipe):
        now[0] = recipe.name.split("-")[0]
        return begin(run, recipe)

    def acting(fn, after):
        def wrapper(*arguments, **options):
            if now[0] == stage:
                left[0] -= 1
            mine = now[0] == stage and left[0] == 0
            if mine and not after:
                act()
            result = fn(*arguments, **options)
            if mine and after:
                act()
            return result

        return wrapper

    module, name, after = {
        "before a save": (checkpoint, "digests", False),
        "during a save": (checkpoint.ocp, "save_async", True),
        "before rows": (files, "append_rows", False),
        "after rows": (files, "append_rows", True),
        "before a row": (measure.files, "append_row", False),
        "before its outcome": (files, "write_whole", False),
        "after its outcome": (files, "write_whole", True),
    }[which]
    artifacts.begin = beginning
    setattr(module, name, acting(getattr(module, name), after))


def fill(place):
    """Fills the disk."""
    try:
        with (place / BALLAST).open("wb", 0) as file:
            while file.write(b"x" * 4096):
                pass
    except OSError:
        pass


def main():
    directory = Path(sys.argv[1])
    if sys.argv[2:]:
        act_at(*sys.argv[2:], directory)
    reference.CHUNK, student.CHUNK, teacher.CHUNK, generate.WRITE = 20, 4, 2, 8
    config = tiny(directory.parent / f"{directory.name}.cache")
    with joined(cluster_of(os.environ)):
        # On several hosts, shard over all devices, each with its own examples.
        mesh = MeshConfig(fsdp=jax.device_count() if jax.process_count() > 1 else 1)
        with shared_run(directory, described(config)) as run:
            LmStudy(replace(config, mesh=mesh), run).evaluation(0)


if __name__ == "__main__":
    run_main(main)
