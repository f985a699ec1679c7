"""The environment of a run: versions, machine, compiler flags and git revision."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "subliminal_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "chex",
    "jaxtyping",
    "numpy",
    "scipy",
    "scikit-learn",
    "tensorflow-datasets",
    "matplotlib",
    "pydantic",
    "tyro",
    "pyyaml",
    "transformers",
    "torch",
)
VARIABLES = ("JAX_PLATFORMS", "XLA_FLAGS", "LIBTPU_INIT_ARGS")
"""Variables that select platform and compiler options, which may change rounding; see `pinned`."""
_SAME_NUMBERS = ("--xla_force_host_platform_device_count=", "--xla_dump_")


def _git(directory: Path, *words: str) -> str | None:
    # Variables such as GIT_DIR would point git at another repository than `directory`'s.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=directory,
            env=variables | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def git_revision(checkout: Path) -> str | None:
    """Return the commit of a checkout, with `+dirty` if a tracked file was changed.

    None without git, or if `checkout` is not the top of a repository: a package installed below
    another project's repository does not have that project's revision.
    """
    top = _git(checkout, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != checkout.resolve():
        return None
    commit = _git(checkout, "rev-parse", "HEAD")
    changes = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+dirty" if commit and changes else commit


def compiler_flags(variables: Mapping[str, str]) -> list[str]:
    """Return the XLA flags that may change rounding, sorted.

    Args:
        variables: the environment variables of a process.
    """
    flags = {flag for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
             for flag in variables.get(name, "").split()}  # fmt: skip
    return sorted(flag for flag in flags if not flag.startswith(_SAME_NUMBERS))


def usable_cores() -> int:
    """Return how many processor cores this process may use; on a CPU, rounding depends on it."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """Return Python, packages, machine, compiler flags and git revision as plain values.

    Versions come from package metadata, so nothing is imported and no device is touched. Packages
    that are not installed are left out.
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "packages": versions,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "cores": usable_cores(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "git": git_revision(Path(__file__).resolve().parents[2]),
    }
