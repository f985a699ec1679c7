"""Which wheels are packed; nothing is downloaded here."""

import zipfile

import pytest
from benchmarks import wheels
from packaging.requirements import Requirement

from subliminal_jax.errors import InputError


def wheel_of(path, name, *required):
    wheel = path / f"{name}-2.0-py3-none-any.whl"
    lines = [f"Name: {name}", "Version: 2.0", *(f"Requires-Dist: {text}" for text in required)]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}-2.0.dist-info/METADATA", "\n".join(lines))
    return wheel


def test_only_what_is_missing_and_what_that_needs(tmp_path, monkeypatch):
    freeze = tmp_path / "freeze.txt"
    freeze.write_text("JAX==0.11.2\nUpper_Case==1.0\nlocal @ file:///x\nold==1.0\n")
    have = wheels.installed(freeze)
    assert have == {"jax": "0.11.2", "upper-case": "1.0", "old": "1.0"}
    made = {
        "old>=2": ["upper.case>=1", 'fresh; sys_platform == "linux"'],
        "fresh": ['never; python_version < "3.12"', 'never; extra == "test"', "jax"],
    }
    fetched = []

    def fetch(machine, wanted, into):
        fetched.append(wanted)
        return wheel_of(tmp_path, wanted.partition(">")[0], *made[wanted])

    monkeypatch.setattr(wheels, "fetch", fetch)
    wanted = [Requirement("jax"), Requirement("old>=2")]
    machine = wheels.Machine("3.12", ("manylinux2014_x86_64",))
    packed = wheels.pack(machine, wanted, have, tmp_path)
    assert fetched == ["old>=2", "fresh"]
    assert [wheel.name.partition("-")[0] for wheel in packed] == ["old", "fresh"]


def test_without_a_list_nothing_is_packed(tmp_path, refused):
    with pytest.raises(InputError, match=r"have: .*no\.txt does not exist; run `pip freeze`"):
        wheels.installed(tmp_path / "no.txt")
    assert refused("pack_wheels", "--have", tmp_path / "no.txt").startswith("have: ")
