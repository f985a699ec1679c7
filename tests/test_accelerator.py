"""The accelerator day at toy size: its parts measure, it resumes, and one part ends no other."""

import json

import accelerator
import jax
import pytest
from benchmarks import accelerator as parts
from benchmarks import accelerator_day, machine

from subliminal_jax.errors import InputError

PARTS = ("ceilings", "equivalence", "train_xla", "sample_small")


@pytest.fixture
def record(tmp_path):
    return parts.Record(tmp_path / "part.json", "part")


def readings(tmp_path, name="part"):
    found = json.loads((tmp_path / f"{name}.json").read_text())["readings"]
    return {reading["what"]: reading for reading in found}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_at_toy_size(name, record, tmp_path):
    parts.PARTS[name](parts.TOY, record)
    found = readings(tmp_path)
    assert all(reading["value"] >= 0 for reading in found.values())
    if name == "ceilings":
        assert "rounded to float32" in found["error of a float32 product"]["note"]
    if name == "equivalence":
        assert len(found) == 2 * len(parts.TOY.precisions) + 1
        assert all(reading["value"] <= reading["most"] for reading in found.values())
    if name == "train_xla":
        assert found["memory planned"]["value"] > 0
    if name == "sample_small":
        assert 0 < found["share of the bandwidth limit"]["value"] < 1


def test_a_device_is_measured_at_every_precision():
    assert parts.FULL.precisions == {"highest": 1e-6, "default": 1e-4}
    assert parts.FULL.precisions.items() > parts.TOY.precisions.items()


def test_every_part_has_a_limit():
    assert set(accelerator.LIMITS) == set(parts.PARTS)
    assert set(parts.SIZES) == {"full", "toy"}


def test_no_cudnn_without_a_gpu(record, tmp_path, capsys):
    parts.PARTS["train_cudnn"](parts.TOY, record)
    assert capsys.readouterr().out == "cuDNN needs an NVIDIA GPU\n"
    assert readings(tmp_path) == {}


@pytest.mark.parametrize(
    ("error", "name"), [(4e-7, "float32"), (2.9e-4, "TF32"), (3e-3, "bfloat16"), (0.5, "none")]
)
def test_rounding_is_told_by_the_error(error, name):
    assert machine.rounding(error).startswith(name)


def test_a_bfloat16_product_is_less_exact():
    with jax.default_matmul_precision("highest"):
        assert machine.product_error(64) < 1e-5


def test_a_finished_part_is_not_run_again_and_a_failure_ends_nothing(tmp_path, monkeypatch, capsys):
    ran = []

    def run_part(part, size, path, seconds):
        ran.append(part)
        record = parts.Record(path, part)
        record("reading", 2.0, "s", most=1.0)
        if part == "doctor":
            return "failed after 1 s"
        record.finish()
        return "1 s"

    monkeypatch.setattr(accelerator_day, "run_part", run_part)
    config = accelerator.AcceleratorConfig(parts=("doctor", "mnist"))
    accelerator.methods(config, "toy", tmp_path)
    accelerator.methods(config, "toy", tmp_path)
    assert ran == ["doctor", "mnist", "doctor"]
    assert "mnist: measured before" in capsys.readouterr().out
    table = accelerator_day.table(tmp_path, list(accelerator.LIMITS)).splitlines()
    assert "| mnist | reading | 2 s | at most 1 | **no** |  |" in table
    assert table[-2].startswith("doctor: cpu, ")
    assert table[-2].endswith("not finished")
    accelerator.methods(accelerator.AcceleratorConfig(minutes=0.01), "toy", tmp_path)
    assert "doctor: no time left" in capsys.readouterr().out


def test_a_part_is_a_process_that_is_stopped_in_time(tmp_path):
    how = accelerator_day.run_part("doctor", "toy", tmp_path / "doctor.json", 0.1)
    assert how.startswith("stopped after 0 s")
    how = accelerator_day.run_part("unknown", "toy", tmp_path / "unknown.json", 600.0)
    assert how.startswith("failed after")
    assert "KeyError: 'unknown'" in (tmp_path / "unknown.log").read_text()


def test_the_doctor_in_a_process_of_its_own(scripts, tmp_path):
    ended = scripts.run("accelerator", "--parts", "doctor", "--out", "day", cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert "| doctor | problems that the doctor finds | 0 | at most 0 | yes |" in ended.out
    assert readings(tmp_path / "day" / "parts", "doctor")
    assert (tmp_path / "day" / "environment.json").is_file()
    full = scripts.run("accelerator", "--size", "full", "--out", "day", cwd=tmp_path)
    assert full.status == 2
    assert 'holds a run of another config: size "toy" -> "full"' in full.err


def test_no_parts_are_refused():
    with pytest.raises(InputError, match="parts: give at least one of doctor, ceilings"):
        accelerator.AcceleratorConfig(parts=())


def test_every_published_accuracy_is_expected_of_the_members():
    assert parts.TOLERANCES.keys() == parts.PUBLISHED.keys()
