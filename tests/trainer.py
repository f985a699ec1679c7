"""A small training as a user's script would be, for tests that kill it: see `zygote.py`.

Usage: trainer.py DIRECTORY MODEL EXECUTION [POINT]. With POINT, such as "during a save@2", it kills
itself there; with "asked before a save@2" it asks itself to stop, with "broken ..." it raises.
"""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from batches import table_batches

from subliminal_jax import checkpoint, files, loop
from subliminal_jax.batch import Batch
from subliminal_jax.digest import digests
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.execution.cluster import cluster_of, joined
from subliminal_jax.execution.mesh import line_of_devices, make_mesh, one_device
from subliminal_jax.execution.steps import DataParallel, Sharded
from subliminal_jax.losses import cross_entropy
from subliminal_jax.models import decoder, mlp
from subliminal_jax.models.decoder_config import DecoderConfig
from subliminal_jax.runs import RunDirectory
from subliminal_jax.train import init_state, make_loss_fn, make_train_step, total_gradient

BATCH = 8
PACE = loop.Pace(steps=40, log_every=5, save_every=10, keep=2)
RULES = ((r"kernel$", ("fsdp", "tensor")),)
EXECUTIONS = {
    "jit": lambda: Sharded(batch=BATCH, mesh=one_device()),
    "pmap": lambda: DataParallel(batch=BATCH, mesh=line_of_devices()),
    "fsdp": lambda: Sharded(batch=BATCH, mesh=make_mesh(1, jax.device_count(), 1), rules=RULES),
    "tensor": lambda: Sharded(batch=BATCH, mesh=make_mesh(1, 4, 2), rules=RULES),
}


def mlp_training():
    network = mlp.MlpConfig(inputs=8, hidden=(16, 16), classes=4, aux=0)
    rng = np.random.default_rng(0)
    table = Batch(
        inputs=rng.standard_normal((50, 8)).astype(np.float32),
        targets=rng.integers(0, 4, 50),
        weights=rng.uniform(0, 2, 50).astype(np.float32),
    )
    tx = optax.adam(1e-2)
    loss_fn = make_loss_fn(partial(mlp.apply, network), cross_entropy)
    return loop.Training(
        init=lambda: init_state(mlp.init(network, jax.random.key(0)), tx),
        gradient=total_gradient(loss_fn),
        make_step=partial(make_train_step, tx=tx),
        batches=table_batches(table, jax.random.key(1), BATCH),
    )


def decoder_training():
    """All weights of a decoder."""
    config = DecoderConfig(
        vocab=32, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, mlp_width=32, context=16
    )
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 32, (40, 9))
    table = Batch(
        inputs=tokens[:, :-1], targets=tokens[:, 1:], weights=np.float32(rng.random((40, 8)) < 0.6)
    )
    tx = optax.adam(1e-2)
    loss_fn = make_loss_fn(partial(decoder.apply, config), cross_entropy)
    return loop.Training(
        init=lambda: init_state(decoder.init(config, jax.random.key(0)), tx),
        gradient=total_gradient(loss_fn),
        make_step=partial(make_train_step, tx=tx),
        batches=table_batches(table, jax.random.key(1), BATCH),
    )


MODELS = {"mlp": mlp_training, "decoder": decoder_training}


def refuse():
    raise InputError("of process 1 alone")


ENDS = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "asked": lambda: signal.raise_signal(signal.SIGTERM),
    "broken": refuse,
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
    }[which]
    setattr(module, name, dying(getattr(module, name), after))


def main():
    with joined(cluster_of(os.environ)):
        run_training(*sys.argv[1:])


def run_training(directory, model, execution, *point):
    if point:
        kill_at(point[0])
    config = {"model": model}
    run = hosts.on_first(lambda: RunDirectory.open(Path(directory), config))
    state = loop.train(MODELS[model](), EXECUTIONS[execution](), PACE, run, config)
    by_leaf, _ = digests(state)
    if run is not None:
        run.finish({"digests": by_leaf})
        run.close()
    hosts.meet("the end")
    print(json.dumps(by_leaf))


if __name__ == "__main__":
    run_main(main)
