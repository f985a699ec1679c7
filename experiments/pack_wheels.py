r"""Packs the wheels that a machine without network lacks for this package.

Claim     A machine that has JAX for its accelerator, but no network, needs few other packages.
Command   python -m pip freeze > freeze.txt                          on that machine
          python experiments/pack_wheels.py --have freeze.txt       here
          pip install --no-index --no-deps --target site wheels/*.whl && export PYTHONPATH=site:.
Expected  The folder `wheels`, which git ignores, with the wheels of all requirements that the
          machine does not satisfy; refused if they exceed --most-mib.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from benchmarks import wheels
from packaging.requirements import Requirement

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


def main() -> None:
    """Check the flags, then fetch and count."""
    config = parse_config(
        PackConfig,
        sys.argv[1:],
        prog="pack_wheels.py",
        description="Wheels for a machine without network.",
        presets=PRESETS,
    )
    have = wheels.installed(config.have)
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / ".gitignore").write_text("*\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    machine = wheels.Machine(config.python, config.platforms)
    packed = wheels.pack(machine, wanted, have, config.out)
    mib = sum(wheel.stat().st_size for wheel in packed) / 2**20
    if mib > config.most_mib:
        raise InputError(f"most-mib: {len(packed)} wheels take {mib:.0f} MiB")
    print(f"{len(packed)} wheels, {mib:.1f} MiB, in {config.out}")


if __name__ == "__main__":
    run_main(main)
