r"""Packs the wheels that a machine without network lacks for this package.

Claim     A machine that has JAX for its accelerator, but no network, needs few other packages.
Command   python -m pip freeze > freeze.txt                          on that machine
          python experiments/pack_wheels.py --have freeze.txt       here
          pip install --no-index --no-deps --target site wheels/*.whl && export PYTHONPATH=site:.
Expected  The folder `wheels`, which git ignores, with the wheels of all requirements that the
          machine does not satisfy; refused if they exceed --most-mib.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import subprocess
import sys
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from subliminal_jax.config import Count, parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
PRESETS = presets_of(__file__, "linux")


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """The machine that the wheels are for."""

    have: Path = Path("freeze.txt")
    """What `pip freeze` prints there."""
    python: str = "3.12"
    """Its Python."""
    platforms: tuple[str, ...] = ("manylinux2014_x86_64", "manylinux_2_28_x86_64")
    """Its platform, as wheels name it."""
    out: Path = Path("wheels")
    """Folder for the wheels."""
    most_mib: Count = 64
    """The most that all wheels together may take, in MiB."""


def installed(freeze: Path) -> dict[str, str]:
    """Return the version of every package in the output of `pip freeze`.

    Raises:
        InputError: the file is not there.
    """
    if not freeze.is_file():
        raise InputError(f"have: {freeze} does not exist; run `pip freeze` on the other machine")
    lines = (line.partition("==") for line in freeze.read_text().splitlines())
    return {canonicalize_name(name): version for name, equals, version in lines if equals}


def pack(config: PackConfig, wanted: list[Requirement], have: dict[str, str]) -> list[Path]:
    """Fetch every requirement that is not satisfied, and then what these require."""
    target = {"python_version": config.python, "python_full_version": f"{config.python}.0",
              "sys_platform": "linux", "platform_system": "Linux",
              "platform_machine": "x86_64"}  # fmt: skip
    wheels: list[Path] = []
    for one in wanted:
        needed = one.marker is None or one.marker.evaluate({**target, "extra": ""})
        version = have.get(canonicalize_name(one.name))
        if not needed or (version and one.specifier.contains(version, prereleases=True)):
            continue
        wheel = fetch(config, f"{one.name}{one.specifier}")
        have[canonicalize_name(one.name)] = wheel.name.split("-")[1]
        print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB", flush=True)
        wheels += [wheel, *pack(config, requirements(wheel), have)]
    return wheels


def fetch(config: PackConfig, wanted: str) -> Path:
    """Download one wheel; build it where the index has only a source, if that is pure Python.

    Raises:
        InputError: there is no wheel for the machine.
    """
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    platforms = [word for name in config.platforms for word in ("--platform", name)]
    with tempfile.TemporaryDirectory(dir=config.out) as into:
        download = ["download", "--no-deps", "--only-binary=:all:", *platforms, "-d", into]
        build = ["wheel", "--no-deps", "-w", into]
        for words in ([*download, "--python-version", config.python], build):
            done = subprocess.run([*pip, *words, wanted], capture_output=True, text=True)
            wheel = next(Path(into).glob("*.whl"), None)
            if wheel and (words is not build or wheel.stem.endswith("-none-any")):
                return wheel.rename(config.out / wheel.name)
    raise InputError(f"{wanted}: no wheel for Python {config.python}; pip says: {done.stderr}")


def requirements(wheel: Path) -> list[Requirement]:
    """Return what a wheel requires."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = BytesParser().parsebytes(archive.read(name), headersonly=True)
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]


def main() -> None:
    """Check the flags, then fetch and count."""
    config = parse_config(
        PackConfig,
        sys.argv[1:],
        prog="pack_wheels.py",
        description="Wheels for a machine without network.",
        presets=PRESETS,
    )
    have = installed(config.have)
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / ".gitignore").write_text("*\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wheels = pack(config, [Requirement(text) for text in project["dependencies"]], have)
    mib = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    if mib > config.most_mib:
        raise InputError(f"most-mib: {len(wheels)} wheels take {mib:.0f} MiB")
    print(f"{len(wheels)} wheels, {mib:.1f} MiB, in {config.out}")


if __name__ == "__main__":
    run_main(main)
