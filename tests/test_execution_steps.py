"""Placing states and batches on meshes, and every mesh and batch that does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_array_equal

from subliminal_jax.batch import Batch
from subliminal_jax.errors import InputError
from subliminal_jax.execution.mesh import leaf_spec, line_of_devices, make_mesh, one_device
from subliminal_jax.execution.steps import DataParallel, Sharded, fetch
from subliminal_jax.train import Totals, accumulate

RULES = (("proj/kernel$", ("tensor", "fsdp")), ("kernel$", ("fsdp", "tensor")))


def batch_of(rows, steps=2):
    numbers = np.arange(steps * rows, dtype=np.float32).reshape(steps, rows)
    return Batch(inputs=numbers[..., None], targets=numbers, weights=numbers)


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("params/a/kernel", (8, 6), P("fsdp", "tensor")),
        ("opt_state/0/mu/proj/kernel", (6, 8), P("tensor", "fsdp")),  # the first rule that matches
        ("layers/a/kernel", (3, 8, 6), P(None, "fsdp", "tensor")),  # stacked layers
        ("a/kernel", (8, 13), P("fsdp", None)),  # 13 logits do not split over 2 devices
        ("a/kernel", (8,), P()),  # fewer dimensions than the rule
        ("a/bias", (6,), P(None)),
        ("step", (), P()),
    ],
)
def test_a_leaf_lies_where_its_rule_says(path, shape, spec):
    assert leaf_spec(path, shape, make_mesh(1, 4, 2), RULES) == spec


def test_a_state_is_made_in_its_place():
    execution = Sharded(batch=8, mesh=make_mesh(2, 2, 2), rules=RULES)

    def make(x):
        return {"kernel": x[:, None] * jnp.ones((4, 6)), "count": jnp.int32(3)}

    like = execution.like(make, np.arange(4.0, dtype=np.float32))
    made = execution.init(make, np.arange(4.0, dtype=np.float32))
    assert made["kernel"].sharding == like["kernel"].sharding
    assert made["kernel"].addressable_shards[0].data.shape == (2, 3)
    assert (like["count"].shape, like["count"].dtype) == ((), jnp.int32)
    assert_array_equal(fetch(made)["kernel"][:, 0], np.arange(4))


@pytest.mark.parametrize(
    ("mesh", "parts"),
    [(make_mesh, [[d] for d in range(8)]), (lambda: make_mesh(2, 2, 2), [[0, 1]] * 2)],
)
def test_every_device_gets_its_examples(mesh, parts):
    execution = Sharded(batch=8, mesh=mesh())
    assert_array_equal(execution.rows, np.arange(8))
    fed = execution.feed(batch_of(8)).targets
    here = [np.asarray(shard.data)[0].tolist() for shard in fed.addressable_shards]
    assert here[: len(parts)] == parts
    assert_array_equal(fetch(fed), batch_of(8).targets)


def test_pmap_gets_a_row_of_devices():
    execution = DataParallel(batch=16, mesh=line_of_devices(4))
    fed = execution.feed(batch_of(16)).inputs
    assert fed.shape == (2, 4, 4, 1)
    assert_array_equal(fetch(fed).reshape(2, 16, 1), batch_of(16).inputs)
    assert [shard.data.ravel()[0] for shard in fed.addressable_shards] == [0, 4, 8, 12]


def test_the_state_is_consumed():
    execution = Sharded(batch=8, mesh=one_device())
    state = execution.init(lambda: jnp.zeros(3))
    batches = execution.feed(batch_of(8))

    def make_step(gradient):
        return lambda state, batch: (state + gradient(state, batch)[0], None)

    def gradient(state, batch):
        return jnp.sum(batch.weights) * jnp.ones_like(state), None

    run = execution.compile(gradient, make_step, execution.like(lambda: jnp.zeros(3)), batches)
    end, _ = run(state, batches)
    assert state.is_deleted()
    assert_array_equal(end, np.full(3, np.arange(16).sum()))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((3, 1, 1), r"mesh: data=3 x fsdp=1 x tensor=1 does not fit 8 cpu device\(s\); .* 8"),
        ((None, 3, 1), r"mesh: fsdp=3 x tensor=1 does not fit 8 "),
        ((2, 2, 4), "data=2 x fsdp=2 x tensor=4 does not fit 8"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(axes, message):
    with pytest.raises(InputError, match=message):
        make_mesh(*axes)


def test_data_takes_the_devices_that_are_left():
    assert dict(make_mesh(fsdp=2).shape) == {"data": 4, "fsdp": 2, "tensor": 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Sharded(batch=12, mesh=make_mesh(4, 2, 1)),
            r"batch: 12 examples do not split into 8 equal parts "
            r"\(data=4 x fsdp=2 x accumulate=1\); take 8 or 16",
        ),
        (
            lambda: Sharded(batch=8, mesh=make_mesh(2, 1, 4), accumulate=3),
            r"\(data=2 x fsdp=1 x accumulate=3\); take 6 or 12",
        ),
        (
            lambda: DataParallel(batch=3, mesh=line_of_devices()),
            r"batch: 3 examples do not split into 8 equal parts .*; take 8, or",
        ),
        (
            lambda: line_of_devices(9),
            r"devices=9: there are 8 cpu device\(s\); ask for fewer, or on a CPU set "
            r"XLA_FLAGS=--xla_force_host_platform_device_count=9 NPROC=32",
        ),
    ],
)
def test_a_batch_that_does_not_split_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_parts_that_do_not_divide_are_refused():
    gradient = accumulate(lambda params, batch: (params, Totals(params, params)), 3)
    with pytest.raises(InputError, match="accumulate: 8 examples do not split into 3 equal parts"):
        gradient(jnp.zeros(1), jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), batch_of(8)))
