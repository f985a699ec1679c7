"""Every execution gives the same members, and places arrays where they belong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from subliminal_jax.batch import Batch
from subliminal_jax.errors import InputError
from subliminal_jax.execution.choose import batch_execution, member_execution
from subliminal_jax.execution.mesh import line_of_devices, make_mesh
from subliminal_jax.execution.mesh_execution import OnMesh
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.pmap import DataParallel, MemberParallel
from subliminal_jax.execution.program import Program
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.train import Totals, accumulate

MEMBERS = np.arange(16, dtype=np.int32)


def walk(state, member, shared):
    """A member function with a carry, a key, a product and something shared."""
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(3), member), state["x"].shape)
    moved = jnp.tanh(state["x"] @ shared["matrix"] + noise)
    return {"x": moved}, (member * 2, jnp.sum(moved))


def run(execution, steps=3):
    program = Program(walk, execution)
    carry = execution.split({"x": np.linspace(0, 1, 16 * 5, dtype=np.float32).reshape(16, 5)})
    members = execution.split(MEMBERS)
    shared = execution.share({"matrix": np.eye(5, dtype=np.float32) * 0.5 + 0.1})
    for _ in range(steps):
        carry, output = program(carry, members, shared)
    return execution.fetch(carry)["x"], execution.fetch(output)


def alone(member, steps=3):
    x = np.linspace(0, 1, 16 * 5, dtype=np.float32).reshape(16, 5)[member]
    shared = {"matrix": jnp.eye(5) * 0.5 + 0.1}
    state = {"x": jnp.asarray(x)}
    for _ in range(steps):
        state, output = walk(state, jnp.int32(member), shared)
    return state["x"], output


@pytest.mark.parametrize(
    "execution",
    [
        OneDevice(),
        OneDevice(at_once=1),
        OneDevice(at_once=6),
        OneDevice(at_once=99),
        MemberParallel(),
        MemberParallel(at_once=1),
        MemberParallel(devices=4, at_once=3),
        MemberParallel(devices=1),
        OnMesh(mesh=make_mesh(2, 2, 2)),
    ],
    ids=repr,
)
def test_a_member_in_the_ensemble_equals_the_member_alone(execution):
    states, (doubled, sums) = run(execution)
    assert_array_equal(doubled, 2 * MEMBERS)
    for member in (0, 7, 15):
        state, (_, total) = alone(member)
        assert_allclose(states[member], state, rtol=1e-6, atol=1e-7)
        assert_allclose(sums[member], total, rtol=1e-6)


def test_pmap_spreads_the_members_over_its_devices():
    execution = MemberParallel(devices=8)
    split = execution.split({"x": np.arange(16.0, dtype=np.float32)})["x"]
    parts = {shard.device: np.ravel(shard.data).tolist() for shard in split.addressable_shards}
    assert sorted(parts.values()) == [[2.0 * d, 2.0 * d + 1] for d in range(8)]
    shared = execution.share({"x": np.ones(2, np.float32)})["x"]
    assert len(shared.devices()) == 8


def test_programs_are_compiled_once_and_timed():
    execution = OneDevice()
    traces = []

    def counted(carry, member, shared):
        traces.append(member)
        return carry + 1, member

    program = Program(counted, execution)
    members = execution.split(MEMBERS)
    carry = execution.split(np.zeros(16, np.float32))
    for _ in range(3):
        carry, _ = program(carry, members, None)
    assert len(traces) == 1
    assert_array_equal(execution.fetch(carry), np.full(16, 3.0))
    assert program.compile_seconds > 0
    assert program.seconds > 0


def test_time_adds_up_over_calls(monkeypatch):
    execution = OneDevice()
    program = Program(lambda carry, member, shared: (carry, member), execution)
    ticks = iter(range(100))
    monkeypatch.setattr(
        "subliminal_jax.execution.program.time.perf_counter", lambda: float(next(ticks))
    )
    for _ in range(3):
        program(execution.split(np.zeros(16, np.float32)), execution.split(MEMBERS), None)
    assert (program.compile_seconds, program.seconds) == (1.0, 3.0)


def test_members_in_turn_take_no_second_copy_of_all():
    """Full finetuning of a large model has states as large as memory allows."""
    execution = OneDevice(at_once=1)
    carry = execution.split(np.zeros((16, 100_000), np.float32))
    step = lambda c, m, s: (c * m + 1, m)
    compiled = execution.compile(step, carry, execution.split(MEMBERS), None)
    needed = compiled.memory_analysis()
    assert needed.alias_size_in_bytes >= carry.nbytes
    assert needed.temp_size_in_bytes < carry.nbytes / 4


def test_the_carry_is_consumed():
    execution = OneDevice()
    carry = execution.split(np.zeros(16, np.float32))
    Program(lambda c, m, s: (c + 1, m), execution)(carry, execution.split(MEMBERS), None)
    assert carry.is_deleted()


def test_a_cpu_runs_members_one_by_one_by_default():
    assert member_execution("jit", 9) == OneDevice(at_once=1)
    assert member_execution("jit", 9, at_once=5) == OneDevice(at_once=5)
    assert member_execution("pmap", 9, 4, 2) == MemberParallel(at_once=2, devices=4)
    assert member_execution("pmap", 9, None, 2).devices == jax.local_device_count()


def test_by_default_no_device_is_idle():
    assert member_execution("pmap", 3).devices == 3
    with pytest.raises(InputError, match=r"devices=8: 3 member\(s\) keep .* devices=3, or"):
        member_execution("pmap", 3, 8)


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(InputError, match="devices=99: this process has 8 cpu"):
        member_execution("pmap", 100, 99)


EXECUTIONS = {
    "one device": lambda: OneDevice(),
    "members": lambda: MemberParallel(devices=2),
    "batches": lambda: DataParallel(mesh=line_of_devices()),
    "mesh": lambda: OnMesh(mesh=make_mesh(2, 2, 2), rules=RULES),
}
RULES = (("proj/kernel$", ("tensor", "fsdp")), ("kernel$", ("fsdp", "tensor")))


def make_members(x):
    """Two members."""
    x = jnp.stack([x, 2 * x])
    return {"kernel": x[..., None] * jnp.ones((1, 4, 6)), "count": jnp.arange(2)}


@pytest.mark.parametrize("way", EXECUTIONS)
def test_members_are_made_on_their_devices(way):
    execution, x = EXECUTIONS[way](), np.arange(4.0, dtype=np.float32)
    assert isinstance(execution, Execution)
    like = execution.split(jax.eval_shape(make_members, x))
    for made in (execution.make(make_members, x), execution.split(make_members(x))):
        for leaf, form in zip(jax.tree.leaves(made), jax.tree.leaves(like), strict=True):
            assert (leaf.shape, leaf.dtype) == (form.shape, form.dtype)
            assert leaf.sharding.is_equivalent_to(form.sharding, leaf.ndim)
        found = execution.fetch(made)
        assert_array_equal(found["kernel"][..., 0], [x, 2 * x])
        assert_array_equal(found["count"], [0, 1])
    parts = {"one device": (2, 4, 6), "members": (1, 1, 4, 6), "batches": (2, 4, 6)}
    part = made["kernel"].addressable_shards[0].data.shape
    assert part == parts.get(way, (2, 2, 3))


@pytest.mark.parametrize("way", EXECUTIONS)
def test_a_program_is_compiled_from_abstract_leaves(way):
    execution, x = EXECUTIONS[way](), np.arange(4.0, dtype=np.float32)

    def fn(carry, member, shared):
        total = execution.total(jnp.sum(shared["examples"]))
        return {**carry, "count": carry["count"] + 1}, total + member + shared["one"]

    form = jax.ShapeDtypeStruct
    abstract = (
        execution.split(jax.eval_shape(make_members, x)),
        execution.split(form((2,), np.float32)),
        execution.share({"one": form((), np.float32)})
        | execution.spread({"examples": form((16,), np.float32)}, axis=0),
    )
    run = execution.compile(fn, *abstract)
    carry = execution.make(make_members, x)
    members = execution.split(np.array([10, 20], np.float32))
    shared = execution.share({"one": np.float32(1)})
    shared |= execution.spread({"examples": np.arange(16, dtype=np.float32)}, axis=0)
    carry, output = run(carry, members, shared)
    assert_array_equal(execution.fetch(carry)["count"], [1, 2])
    assert_array_equal(execution.fetch(output), [131, 141])


@pytest.mark.parametrize(
    ("mesh", "parts"),
    [((8, 1, 1), [[d] for d in range(8)]), ((2, 2, 2), [[0, 1]] * 2)],
)
def test_every_device_of_a_mesh_gets_its_examples(mesh, parts):
    execution = OnMesh(mesh=make_mesh(*mesh))
    fed = execution.spread(np.arange(16.0, dtype=np.float32).reshape(2, 8), axis=1)
    here = [np.asarray(shard.data)[0].tolist() for shard in fed.addressable_shards]
    assert here[: len(parts)] == parts


def test_pmap_gets_a_row_of_devices():
    execution = DataParallel(mesh=line_of_devices(4))
    examples = np.arange(32, dtype=np.float32).reshape(2, 16, 1)
    fed = execution.spread(examples, axis=1)
    assert fed.shape == (2, 4, 4, 1)
    assert_array_equal(np.asarray(fed).reshape(2, 16, 1), examples)
    assert [shard.data.ravel()[0] for shard in fed.addressable_shards] == [0, 4, 8, 12]
    own = execution.split(examples, axis=1)
    assert_array_equal(own, fed)


@pytest.mark.parametrize(
    ("execution", "examples", "message"),
    [
        (
            OnMesh(mesh=make_mesh(4, 2, 1)),
            12,
            r"batch: 12 examples do not split into 8 equal parts "
            r"\(data=4 x fsdp=2 x accumulate=1\); use 8 or 16",
        ),
        (
            OnMesh(mesh=make_mesh(2, 1, 4), accumulate=3),
            8,
            r"\(data=2 x fsdp=1 x accumulate=3\); use 6 or 12",
        ),
        (
            DataParallel(mesh=line_of_devices()),
            3,
            r"batch: 3 examples do not split into 8 equal parts .*; use 8, or",
        ),
        (OneDevice(parts=2), 3, r"3 examples do not split into 2 equal parts .*; use 2 or 4"),
        (MemberParallel(devices=2, parts=2), 3, r"3 examples do not split into 2 equal parts"),
    ],
    ids=repr,
)
def test_a_batch_that_does_not_split_is_refused(execution, examples, message):
    with pytest.raises(InputError, match=message):
        execution.spread(np.zeros((2, examples)), axis=1)
    with pytest.raises(InputError, match=message):
        execution.split(np.zeros((2, 1, examples)), axis=2)


def test_members_that_do_not_split_are_refused():
    with pytest.raises(InputError, match="members: 3 do not split evenly over 2 devices"):
        MemberParallel(devices=2).split(np.zeros(3))


def test_parts_that_do_not_divide_are_refused():
    gradient = accumulate(lambda params, batch: (params, Totals(params, params)), 3)
    numbers = jnp.arange(8.0)
    batch = Batch(inputs=numbers, targets=numbers, weights=numbers)
    with pytest.raises(InputError, match="accumulate: 8 examples do not split into 3 equal parts"):
        gradient(jnp.zeros(1), batch)


def test_pmap_of_batches_takes_all_devices_and_splits_no_state():
    execution = batch_execution("pmap", (8, 1, 1), RULES, 4, accumulate=3)
    assert (execution.devices, execution.parts, execution.at_once) == (8, 24, 4)
    with pytest.raises(InputError, match=r"mesh: data=3 x fsdp=1 x tensor=1 does not fit 8 cpu"):
        batch_execution("pmap", (3, 1, 1), RULES)
    with pytest.raises(InputError, match="mesh: pmap splits only batches; set fsdp and tensor"):
        batch_execution("pmap", (4, 2, 1), RULES)
