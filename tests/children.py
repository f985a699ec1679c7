"""Child processes that hold, race for, or write a run directory."""

import subprocess
import sys
from pathlib import Path


def child(code: str, *args: str | Path, **options) -> subprocess.Popen:
    imports = (
        "import os, sys",
        "from pathlib import Path",
        "from subliminal_jax.runs.run_directory import *",
    )
    code = "\n".join((*imports, code))
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


HOLD = """
with RunDirectory.open(Path(sys.argv[1]), {}):
    print("held", flush=True)
    sys.stdin.read()
"""

# Each process tries to open the directory that a line names, and holds it until the next line.
RACE = """
for line in sys.stdin:
    try:
        run = RunDirectory.open(Path(line.strip()), {})
        print("won", flush=True)
    except InputError as error:
        run = None
        print(error, flush=True)
    sys.stdin.readline()
    if run: run.close()
"""


WRITE_FOR_EVER = """
run = RunDirectory.open(Path(sys.argv[1]), {})
print("up", flush=True)
number = 0
while True:
    number += 1
    run.write_bytes("data.bin", b"%d" % (number % 10) * 400_000)
    run.append_row("rows.jsonl", {"row": number, "fill": "x" * 3000})
"""
