"""Fetches the wheels that a machine without network lacks, by pip on this one."""

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from subliminal_jax.errors import InputError


@dataclass(frozen=True)
class Machine:
    """What a wheel is for.

    Attributes:
        python: its Python, such as 3.12.
        platforms: its platform, as wheels name it.
    """

    python: str
    platforms: tuple[str, ...]


def installed(freeze: Path) -> dict[str, str]:
    """Return the version of every package in the output of `pip freeze`.

    Raises:
        InputError: the file is not there.
    """
    if not freeze.is_file():
        raise InputError(f"have: {freeze} does not exist; run `pip freeze` on the other machine")
    lines = (line.partition("==") for line in freeze.read_text().splitlines())
    return {canonicalize_name(name): version for name, equals, version in lines if equals}


def pack(
    machine: Machine, wanted: list[Requirement], have: dict[str, str], into: Path
) -> list[Path]:
    """Fetch every requirement that is not satisfied, and then what these require.

    Args:
        machine: what the wheels are for.
        wanted: the requirements.
        have: version of every package that is there; those that are fetched are added.
        into: folder for the wheels.

    Raises:
        InputError: there is no wheel for the machine.
    """
    target = {"python_version": machine.python, "python_full_version": f"{machine.python}.0",
              "sys_platform": "linux", "platform_system": "Linux",
              "platform_machine": "x86_64"}  # fmt: skip
    wheels: list[Path] = []
    for one in wanted:
        needed = one.marker is None or one.marker.evaluate({**target, "extra": ""})
        version = have.get(canonicalize_name(one.name))
        if not needed or (version and one.specifier.contains(version, prereleases=True)):
            continue
        wheel = fetch(machine, f"{one.name}{one.specifier}", into)
        have[canonicalize_name(one.name)] = wheel.name.split("-")[1]
        print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB", flush=True)
        wheels += [wheel, *pack(machine, requirements(wheel), have, into)]
    return wheels


def fetch(machine: Machine, wanted: str, into: Path) -> Path:
    """Download one wheel; build it where the index has only a source, if that is pure Python.

    Raises:
        InputError: there is no wheel for the machine.
    """
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    platforms = [word for name in machine.platforms for word in ("--platform", name)]
    with tempfile.TemporaryDirectory(dir=into) as fetched:
        download = ["download", "--no-deps", "--only-binary=:all:", *platforms, "-d", fetched]
        build = ["wheel", "--no-deps", "-w", fetched]
        for words in ([*download, "--python-version", machine.python], build):
            done = subprocess.run([*pip, *words, wanted], capture_output=True, text=True)
            wheel = next(Path(fetched).glob("*.whl"), None)
            if wheel and (words is not build or wheel.stem.endswith("-none-any")):
                return wheel.rename(into / wheel.name)
    raise InputError(f"{wanted}: no wheel for Python {machine.python}; pip says: {done.stderr}")


def requirements(wheel: Path) -> list[Requirement]:
    """Return what a wheel requires."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = BytesParser().parsebytes(archive.read(name), headersonly=True)
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
