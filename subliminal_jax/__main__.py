"""`python -m subliminal_jax doctor` checks whether this machine is ready for experiments."""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys

from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError

USAGE = """\
usage: python -m subliminal_jax doctor [--all-hosts]

  doctor    check versions, devices, processes, memory, disk, data and hub, and say what to do about
            each problem; exits with 1 if there is one. --all-hosts joins the hosts of a TPU pod
            that you reached by ssh, which cannot find each other through their environment"""


def main() -> None:
    """Run the command that the command line names."""
    words = sys.argv[1:]
    if words in ([], ["-h"], ["--help"]):
        print(USAGE)
        return
    if words not in (["doctor"], ["doctor", "--all-hosts"]):
        raise InputError(f"{' '.join(words)}: no such command; use doctor, see --help")
    from subliminal_jax.doctor import examine

    raise SystemExit(0 if examine(all_hosts="--all-hosts" in words) else 1)


if __name__ == "__main__":
    run_main(main)
