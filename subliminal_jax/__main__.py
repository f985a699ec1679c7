"""`python -m subliminal_jax doctor`: whether this machine is ready, and what to do if not."""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys

from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError

USAGE = """\
usage: python -m subliminal_jax doctor [--all-hosts]

  doctor    versions, devices, processes, memory, disk, data and hub, and what to do about each
            problem; exits with 1 if there is one. --all-hosts joins the other hosts of a TPU pod
            that were reached by ssh: nothing in their environment tells of each other"""


def main() -> None:
    """Do what the first word says."""
    words = sys.argv[1:]
    if words in ([], ["-h"], ["--help"]):
        print(USAGE)
        return
    if words not in (["doctor"], ["doctor", "--all-hosts"]):
        raise InputError(f"{' '.join(words)}: no such command; there is doctor, see --help")
    from subliminal_jax.doctor import examine

    raise SystemExit(0 if examine(all_hosts="--all-hosts" in words) else 1)


if __name__ == "__main__":
    run_main(main)
