"""A small training as a user's script would be, for tests that kill it.

Usage: trainer.py DIRECTORY MODEL EXECUTION [POINT]. With POINT, such as "during a save@2", it kills
itself there; with "asked before a save@2" it asks itself to stop, with "broken ..." it raises, with
"late ..." it rests for some seconds.
"""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from quick import random_params

from subliminal_jax import files
from subliminal_jax.batch import Batch
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.execution.cluster import cluster_of, joined
from subliminal_jax.execution.mesh import line_of_devices, make_mesh
from subliminal_jax.execution.mesh_execution import OnMesh
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.pmap import DataParallel
from subliminal_jax.losses import cross_entropy
from subliminal_jax.models import mlp
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.runs import checkpoint
from subliminal_jax.runs.digest import digests
from subliminal_jax.runs.run_directory import RunDirectory
from subliminal_jax.runs.training_loop import Saving, Training, train_members
from subliminal_jax.train import fit, init_state, make_loss_fn, make_train_step, total_gradient

BATCH, STEPS, CHUNK = 8, 25, 5
TX = optax.adam(1e-2)
DECODER = DecoderConfig(
    vocab=32, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, mlp_width=32, context=16
)
RULES = ((r"kernel$", ("fsdp", "tensor")),)
EXECUTIONS = {
    "jit": lambda: OneDevice(at_once=1),
    "pmap": lambda: DataParallel(mesh=line_of_devices(), at_once=1),
    "fsdp": lambda: OnMesh(mesh=make_mesh(1, jax.device_count(), 1), rules=RULES, at_once=1),
    "tensor": lambda: OnMesh(mesh=make_mesh(1, 4, 2), rules=RULES, at_once=1),
}


def mlp_model():
    """Initial parameters, how they are used, and examples of random weights."""
    network = mlp.MlpConfig(inputs=8, hidden=(16, 16), classes=4, aux=0)
    rng = np.random.default_rng(0)
    table = Batch(
        inputs=rng.standard_normal((50, 8)).astype(np.float32),
        targets=rng.integers(0, 4, 50),
        weights=rng.uniform(0, 2, 50).astype(np.float32),
    )
    return partial(mlp.init, network), partial(mlp.apply, network), table


def decoder_model():
    """All weights of a decoder; likewise."""
    config = DECODER
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 32, (40, 9))
    table = Batch(
        inputs=tokens[:, :-1], targets=tokens[:, 1:], weights=np.float32(rng.random((40, 8)) < 0.6)
    )
    return lambda _: random_params(config), partial(decoder.apply, config), table


MODELS = {"mlp": mlp_model, "decoder": decoder_model}


def first_state(model):
    """A state of one member."""
    init = MODELS[model]()[0]
    state = init_state(init(jax.random.key(0)), TX)
    return jax.tree.map(lambda leaf: leaf[None], state)


def orders(examples, steps=STEPS):
    """Which examples each step shows, and how much each counts, `[steps, BATCH]`."""
    padding = -examples % BATCH
    epochs = -(-steps * BATCH // (examples + padding))
    rng = np.random.default_rng(1)
    shown = [np.pad(rng.permutation(examples), (0, padding)) for _ in range(epochs)]
    counts = np.repeat(np.float32([1, 0]), [examples, padding])
    found = np.concatenate(shown), np.tile(counts, epochs)
    return [leaf.reshape(-1, BATCH)[:steps] for leaf in found]


def batch_of(table, rows, counts):
    chosen = jax.tree.map(lambda leaf: leaf[rows], table)
    weights = chosen.weights * counts.reshape(-1, *(1,) * (chosen.weights.ndim - 1))
    return Batch(inputs=chosen.inputs, targets=chosen.targets, weights=weights)


def training_of(model, execution, steps=STEPS):
    """The training of one member, on examples that every device has."""
    _, apply, table = MODELS[model]()
    gradient = execution.gradient(total_gradient(make_loss_fn(apply, cross_entropy)))
    train_step = make_train_step(gradient, TX)
    order, examples = orders(len(table.weights), steps), execution.share(table)
    member = execution.split(np.zeros(1))

    def chunk(size):
        def run(state, member, shared):
            table, (rows, counts) = shared
            at = lambda step: batch_of(table, rows[step], counts[step])
            state, totals = fit(train_step, state, at, size)
            return state, totals.loss / totals.weight

        return run

    def inputs(first, size):
        shown = [leaf[first : first + size] for leaf in order]
        return member, (examples, execution.spread(shown, axis=1))

    return Training(
        title="train", chunk=chunk, inputs=inputs, steps=steps, size=CHUNK,
        name=lambda member: model, setting="rate",
    )  # fmt: skip


def train(model, way, saving, steps=STEPS):
    """The state at the end."""
    execution = EXECUTIONS[way]()
    state = execution.make(lambda: first_state(model))
    return train_members(training_of(model, execution, steps), execution, state, saving)


def saving_in(directory, model):
    """Checkpoints after every chunk, and metrics."""
    return Saving(
        directory=directory / "checkpoints", origin={"model": model}, seconds=0.0,
        metrics=directory / "metrics.jsonl",
    )  # fmt: skip


def refuse():
    raise InputError("of process 1 alone")


ENDS = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "asked": lambda: signal.raise_signal(signal.SIGTERM),
    "broken": refuse,
    "late": lambda: time.sleep(5),
}


def kill_at(point):
    """Replace one of the functions by one that ends the process, before or after it."""
    how, _, rest = point.partition(" ")
    end = ENDS.get(how, ENDS["killed"])
    which, _, count = (rest if how in ENDS else point).partition("@")
    left = [int(count or 1)]

    def dying(fn, after):
        def wrapper(*arguments, **options):
            left[0] -= 1
            if left[0] == 0 and not after:
                end()
            result = fn(*arguments, **options)
            if left[0] == 0 and after:
                end()
            return result

        return wrapper

    module, name, after = {
        "before a row": (files, "append_row", False),
        "after a row": (files, "append_row", True),
        "before a save": (checkpoint, "digests", False),
        "during a save": (checkpoint.ocp, "save_async", True),
        "before removal": (checkpoint, "_remove", False),
        "during removal": (checkpoint.shutil, "rmtree", False),
        "after removal": (checkpoint, "_remove", True),
        "after training": (sys.modules[__name__], "run_training", True),
    }[which]
    setattr(module, name, dying(getattr(module, name), after))


def main():
    directory, model, way, *point = sys.argv[1:]
    if point:
        kill_at(point[0])
    with joined(cluster_of(os.environ)):
        run_training(directory, model, way)


def run_training(directory, model, way):
    run = hosts.on_first(lambda: RunDirectory.open(Path(directory), {"model": model}))
    state = train(model, way, saving_in(Path(directory), model))
    by_leaf, _ = digests(state)
    if run is not None:
        run.finish({"digests": by_leaf})
        run.close()
    hosts.meet("the end")
    print(json.dumps(by_leaf))


if __name__ == "__main__":
    run_main(main)
