"""The doctor finds what is wrong and says what to do."""

import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT

from subliminal_jax import doctor
from subliminal_jax.doctor import Finding


@pytest.fixture
def offline(monkeypatch):
    """No network and no data."""
    monkeypatch.setattr(doctor, "hub", lambda: iter([Finding("hub", "fine")]))
    monkeypatch.setattr(doctor, "data", lambda: iter([Finding("data", "no MNIST", "fetch it")]))


@pytest.fixture
def at_home(offline, monkeypatch):
    """As `offline`, with pretended devices, so that this machine's do not matter."""
    monkeypatch.setattr(doctor, "devices", lambda: iter([Finding("devices", "eight")]))


@pytest.mark.usefixtures("at_home")
def test_a_machine_that_is_well():
    lines = []
    assert doctor.examine(lines.append)
    assert "ok      devices    eight" in lines
    at = lines.index("note    data       no MNIST")
    assert lines[at + 1].strip() == "-> fetch it"
    assert not any(line.startswith("PROBLEM") for line in lines)
    assert any("versions" in line and "jax 0." in line for line in lines)


def test_an_accelerator_that_jax_does_not_see():
    first, problem, *_ = doctor.devices(lambda path: path == "/dev/nvidia0")
    assert first.says.startswith("cpu: 8 in 1 process(es), 8 here")
    assert problem.serious
    assert "'.[cuda13]'" in problem.advice
    assert not any(finding.serious for finding in doctor.devices(lambda _: False))


@pytest.mark.parametrize(
    ("nproc", "count"), [({}, 1), ({"NPROC": "8"}, 1), ({"NPROC": "x"}, 1), ({"NPROC": "32"}, 0)]
)
def test_virtual_devices_need_threads(nproc, count):
    assert [finding.serious for finding in doctor.threads(nproc)] == [True] * count


def test_a_device_that_computes_wrongly(monkeypatch):
    (finding,) = doctor.arithmetic()
    assert not finding.advice
    monkeypatch.setattr(doctor.jnp, "ones", lambda shape: doctor.jnp.zeros(shape))
    assert [finding.advice for finding in doctor.arithmetic()] == ["do not use this device"] * 8


@pytest.mark.usefixtures("offline")
def test_a_machine_without_any_device(monkeypatch):
    def refuse():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(doctor.jax, "default_backend", refuse)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    lines = []
    assert not doctor.examine(lines.append)
    at = lines.index("PROBLEM devices    JAX finds no device (JAX_PLATFORMS='cuda')")
    assert lines[at + 1].strip() == "-> unset JAX_PLATFORMS, or set it to cpu"
    assert any("memory" in line and "GB" in line for line in lines)
    assert not any("arithmetic" in line or "threads" in line for line in lines)
    first, driver, *_ = doctor.devices(lambda path: path == "/dev/nvidia0")
    assert (first.serious, driver.serious) == (True, True)
    assert "JAX does not use it" in driver.says


def test_a_disk_that_is_nearly_full(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "LEAST_DISK", 2**70)
    assert "free some space" in next(doctor.disk(tmp_path)).advice


def test_a_data_directory_that_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setenv("SUBLIMINAL_DATA_DIR", str(tmp_path / "nowhere"))
    (finding,) = doctor.data()
    assert finding.serious
    assert "SUBLIMINAL_DATA_DIR" in finding.advice


def test_the_hub():
    (offline,) = doctor.hub({"HF_HUB_OFFLINE": "1"})
    assert not offline.advice
    (deaf,) = doctor.hub({}, "http://127.0.0.1:9")
    assert "HF_HUB_OFFLINE=1" in deaf.advice


@pytest.mark.parametrize(
    ("words", "status", "printed"),
    [(["--help"], 0, "usage: "), (["cure"], 2, "error: cure: no such command; use doctor")],
)
def test_the_command_line_needs_no_jax(words, status, printed):
    code = "import sys, runpy; sys.modules['jax'] = None; sys.argv = ['x', *sys.argv[1:]]\n"
    code += "runpy.run_module('subliminal_jax', run_name='__main__')"
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=Path(ROOT), capture_output=True, text=True)
    assert done.returncode == status
    assert (done.stdout + done.stderr).startswith(printed)
