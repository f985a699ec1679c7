"""`python -m subliminal_jax doctor`: whether this machine is ready, and what to do if not."""

import sys

from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError

USAGE = """\
usage: python -m subliminal_jax doctor

  doctor    versions, devices, processes, memory, disk, data and hub, and what to do about each
            problem; exits with 1 if there is one"""


def main() -> None:
    """Do what the first word says."""
    words = sys.argv[1:]
    if words in ([], ["-h"], ["--help"]):
        print(USAGE)
        return
    if words != ["doctor"]:
        raise InputError(f"{' '.join(words)}: no such command; there is doctor, see --help")
    from subliminal_jax.doctor import examine

    raise SystemExit(0 if examine() else 1)


if __name__ == "__main__":
    run_main(main)
