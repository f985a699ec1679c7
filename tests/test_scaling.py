"""Plans and measurements of a training step of a few parameters."""

import importlib.util
from dataclasses import replace

import jax
import numpy as np
import pytest
from benchmarks import scaling
from benchmarks.scaling_config import ScalingConfig
from scripts import ROOT

from subliminal_jax.config import read_config
from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder import token_loss

TINY = {"vocab": 16, "width": 8, "layers": 2, "heads": 2, "kv_heads": 1, "head_dim": 4,
        "mlp_width": 16, "batch": 8, "sequence": 4}  # fmt: skip


@pytest.mark.parametrize("rank", [0, 2])
def test_a_plan_adds_up(rank):
    config = ScalingConfig(**TINY, rank=rank, fsdp=2, tensor=2)
    planned = scaling.plan(scaling.job_of(config), scaling.execution_of(config, "mesh"), 8)
    shape, dtype, spec, each = planned["leaves"][
        ("base/" if rank else "trained/params/") + "layers/mlp/up/kernel"
    ]
    assert (shape, dtype) == ((1, 2, 8, 16), "float32")
    assert each == 2 * 8 * 16 * 4 / 4
    assert "fsdp" in spec
    assert planned["state_bytes"] == sum(leaf[-1] for leaf in planned["leaves"].values())
    assert planned["temporary_bytes"] > 0
    moments = [name for name in planned["leaves"] if "/mu/" in name]
    assert moments
    assert all(name.endswith(("/a", "/b")) == bool(rank) for name in moments)
    lines = scaling.plan_lines(planned, 1e-9)
    assert lines[-1].endswith("does not fit into 1e-09 GB")


def test_what_stays_needs_no_gradient_and_no_token_all_its_logits(monkeypatch):
    """A step with low-rank weights has the embedding's transpose and a copy, no gradient of it."""
    monkeypatch.setattr(token_loss, "TOKENS_AT_ONCE", 8)
    config = ScalingConfig(**TINY | {"vocab": 32768, "width": 64, "layers": 1}, rank=2)
    job, execution = scaling.job_of(config), scaling.execution_of(config, "jit")
    few, many = (scaling.plan(job, execution, rows)["temporary_bytes"] for rows in (8, 16))
    assert few < 2.1 * 32768 * 64 * 4
    assert many - few < 0.25 * 8 * config.sequence * 32768 * 4  # all logits of the further rows


def test_a_slice_that_is_not_here_can_be_planned_for():
    """By the TPU's own compiler, which needs no TPU."""
    config = ScalingConfig(**TINY, fsdp=4, executions=("mesh",), plan=True, topology="v5e:2x2")
    if importlib.util.find_spec("libtpu") is None:
        with pytest.raises(InputError, match=r"topology 'v5e:2x2': .* install the extra \[tpu\]"):
            scaling.execution_of(config, "mesh")
        pytest.skip("libtpu is not installed: it compiles for TPUs that are not here")
    execution = scaling.execution_of(config, "mesh")
    assert [device.platform for device in execution.mesh.devices.flat] == ["tpu"] * 4
    planned = scaling.plan(scaling.job_of(config), execution, 8)
    assert planned["leaves"]["trained/params/embedding"][-1] == 16 * 8 * 4 / 4
    with pytest.raises(InputError, match="topology 'v5e:5': cannot be compiled for"):
        scaling.execution_of(replace(config, topology="v5e:5"), "mesh")


def test_a_slice_that_is_not_here_runs_nothing():
    for wrong in {"plan": False}, {"executions": ("jit", "mesh")}:
        with pytest.raises(InputError, match="topology: v5e:2x2 is not present, only plans"):
            ScalingConfig(**{"topology": "v5e:2x2", "plan": True, "executions": ("mesh",)} | wrong)


def test_a_way_to_run_it_is_needed():
    with pytest.raises(InputError, match="executions: give at least one of jit, pmap, mesh"):
        ScalingConfig(executions=())


def test_every_way_runs_on_every_device_count(monkeypatch):
    config = ScalingConfig(**TINY, devices=(2, 8), fsdp=2)
    ways = [name for name, _ in scaling.executions_of(config)]
    assert ways == [
        *("jit on one device", "pmap on data=2", "pmap on data=8"),
        *("mesh on data=1 x fsdp=2 x tensor=1", "mesh on data=4 x fsdp=2 x tensor=1"),
    ]
    assert [one.devices for _, one in scaling.executions_of(ScalingConfig(**TINY))] == [1, 8, 8]
    with pytest.raises(InputError, match="devices=9: there are 8 cpu"):
        list(scaling.executions_of(replace(config, devices=(9,))))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match="devices: several hosts use all their devices"):
        list(scaling.executions_of(config))
    with pytest.raises(InputError, match="devices: a topology fixes their number"):
        ScalingConfig(devices=(2,), topology="v5e:2x2", plan=True, executions=("mesh",))


@pytest.mark.parametrize(
    ("kind", "peak"),
    [("TPU v5 lite", 197), ("TPU v5p", 459), ("NVIDIA H200", 989), ("cpu", None)],
)
def test_peaks_are_known_by_a_devices_name(kind, peak):
    assert scaling.peak_tflops(kind) == peak


def test_a_measurement():
    config = ScalingConfig(**TINY, rank=2, steps=2, repetitions=2)
    found = scaling.measure(scaling.job_of(config), scaling.execution_of(config, "pmap"), 8, 2, 2)
    assert found["seconds"] > 0
    assert 0 < found["share"] < 1
    assert found["moved_bytes"] == sum(found["collectives"].values())
    text = scaling.line({**found, "seconds": 0.5, "flop": 4e12}, 8, 2.0)
    assert text.startswith("500.00 ms a step")
    assert text.endswith("1.000 useful TFLOP/s a device, 50.0% of its peak")


def test_useful_operations_by_hand():
    job = scaling.job_of(ScalingConfig(**TINY))
    layer = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16 + 2 * 8
    weights = 2 * layer + 8 + 16 * 8  # the final norm, and the unembedding; the embedding is free
    attention = 2 * 2 * 2 * 4 * 4
    assert job.flop(8) == 8 * 4 * 3 * 2 * (weights + attention)
    assert np.isclose(scaling.job_of(ScalingConfig(**TINY, rank=2)).flop(8), job.flop(8) * 2 / 3)


def test_the_pods_shape_is_that_of_seven_billion():
    config = read_config(ScalingConfig, ROOT / "configs" / "benchmark_scaling_pod_v5e.yaml")
    flop = scaling.job_of(config).flop(config.batch)
    assert 7e9 < flop / (4 * config.batch * config.sequence) < 8e9
    with pytest.raises(InputError, match=r"fsdp=16 x tensor=1 does not fit 8 cpu"):
        scaling.execution_of(config, "mesh")
