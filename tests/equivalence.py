"""The same training on every execution, for tests that compare the results.

Members differ in their optimiser: SGD shows a wrong factor of the gradient, which Adam hides.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from subliminal_jax.execution.mesh import line_of_devices, make_mesh
from subliminal_jax.execution.mesh_execution import OnMesh
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.pmap import DataParallel, MemberParallel
from subliminal_jax.train import init_state, make_train_step

SGD, ADAM = 0, 1


def on_mesh(*axes):
    return lambda rules, **options: OnMesh(mesh=make_mesh(*axes), rules=rules, **options)


def one_device(rules, at_once=None, accumulate=1):
    return OneDevice(at_once=at_once, parts=accumulate)


def members_over_devices(rules, at_once=None, accumulate=1):
    return MemberParallel(devices=2, at_once=at_once, parts=accumulate)


WAYS = {
    "jit": one_device,
    "pmap of members": members_over_devices,
    "pmap of batches": lambda rules, **options: DataParallel(mesh=line_of_devices(), **options),
    "data": on_mesh(8, 1, 1),
    "fsdp": on_mesh(1, 8, 1),
    "all axes": on_mesh(2, 2, 2),
}


def optimizer_of(which, sgd_rate, adam_rate):
    """SGD or Adam, chosen by a number of each member: one program serves both."""
    both = (optax.sgd(sgd_rate), optax.adam(adam_rate))

    def update(grads, states, params=None):
        ends = [tx.update(grads, state, params) for tx, state in zip(both, states, strict=True)]
        (sgd, _), (adam, _) = ends
        chosen = jax.tree.map(lambda one, other: jnp.where(which == SGD, one, other), sgd, adam)
        return chosen, tuple(state for _, state in ends)

    return optax.GradientTransformation(
        lambda params: tuple(tx.init(params) for tx in both), update
    )


def train(execution, gradient, params, batches, which, rates):
    """Train members for some steps.

    Args:
        execution: devices to train on.
        gradient: of the summed loss.
        params: of every member, `[M, ...]`.
        batches: `[M, steps, B, ...]` if every member has its own, `[steps, B, ...]` if all share.
        which: every member's optimiser, `[M]`.
        rates: of SGD and Adam.

    Returns:
        Parameters `[M, ...]`, and the totals of every step, `[M, steps]`.
    """

    def fn(state, member, shared):
        number, own = member
        step = make_train_step(execution.gradient(gradient), optimizer_of(number, *rates))
        return jax.lax.scan(step, state, shared if own is None else own)

    begin = lambda params: init_state(params, optimizer_of(SGD, *rates))
    state = execution.make(jax.vmap(begin), params)
    own = batches.weights.shape[0] == len(which)
    members = (
        execution.split(np.asarray(which, np.int32)),
        execution.split(batches, axis=2) if own else None,
    )
    shared = None if own else execution.spread(batches, axis=1)
    state, totals = execution.compile(fn, state, members, shared)(state, members, shared)
    return execution.fetch((state.params, totals))


def assert_same(found, wanted, tolerance):
    """Every leaf of parameters and totals, relative to its largest number."""

    def compare(path, x, y):
        assert x.dtype == y.dtype
        assert np.abs(x - y).max() <= tolerance * np.abs(y).max(), jax.tree_util.keystr(path)

    jax.tree_util.tree_map_with_path(compare, found, wanted)
