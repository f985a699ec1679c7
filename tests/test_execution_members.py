"""However it is run, a member comes out the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from subliminal_jax.errors import InputError
from subliminal_jax.execution.choose import member_execution
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.pmap import MemberParallel
from subliminal_jax.execution.program import Program

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
        MemberParallel(),
        MemberParallel(at_once=1),
        MemberParallel(devices=4, at_once=3),
        MemberParallel(devices=1),
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


def test_the_carry_is_consumed():
    execution = OneDevice()
    carry = execution.split(np.zeros(16, np.float32))
    Program(lambda c, m, s: (c + 1, m), execution)(carry, execution.split(MEMBERS), None)
    assert carry.is_deleted()


def test_on_a_cpu_members_follow_one_another_unless_told_otherwise():
    assert member_execution("jit", 9) == OneDevice(at_once=1)
    assert member_execution("jit", 9, at_once=5) == OneDevice(at_once=5)
    assert member_execution("pmap", 9, 4, 2) == MemberParallel(at_once=2, devices=4)
    assert member_execution("pmap", 9, None, 2).devices == jax.local_device_count()


def test_no_device_is_idle_unless_asked_for():
    assert member_execution("pmap", 3).devices == 3
    with pytest.raises(InputError, match=r"devices=8: 3 member\(s\) keep .* devices=3, or"):
        member_execution("pmap", 3, 8)


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(InputError, match="devices=99: this process has 8 cpu"):
        member_execution("pmap", 100, 99)
