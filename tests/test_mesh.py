"""Shardings of leaves on a mesh, and every mesh that does not fit."""

import pytest
from jax.sharding import PartitionSpec as P

from subliminal_jax.errors import InputError
from subliminal_jax.execution.mesh import leaf_spec, line_of_devices, make_mesh

RULES = (("proj/kernel$", ("tensor", "fsdp")), ("kernel$", ("fsdp", "tensor")))


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
def test_a_leaf_is_sharded_by_its_rule(path, shape, spec):
    assert leaf_spec(path, shape, make_mesh(1, 4, 2), RULES) == spec


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


def test_data_takes_the_remaining_devices():
    assert dict(make_mesh(fsdp=2).shape) == {"data": 4, "fsdp": 2, "tensor": 1}


def test_a_line_longer_than_there_are_devices_is_refused():
    message = (
        r"devices=9: there are 8 cpu device\(s\); set fewer, or on a CPU set "
        r"XLA_FLAGS=--xla_force_host_platform_device_count=9 NPROC=32"
    )
    with pytest.raises(InputError, match=message):
        line_of_devices(9)
