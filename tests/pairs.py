"""Starts two processes that find each other on loopback, and hears how they end."""

import socket
from pathlib import Path

from attacks.forks import Forks, Running
from quick import QUICK_FLAGS

SECONDS = 300
"""A process is killed after somewhat more CPU time."""


def free_port() -> int:
    """Return a port of loopback that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Pairs:
    """Starts pairs of processes, forked from one that has imported everything."""

    def __init__(self, forks: Forks, place: Path):
        self._forks, self._place, self._number = forks, place, 0

    def train(self, directory, how="fsdp", **options) -> list[Running]:
        """Start two trainers of an MLP, see `trainer.py`."""
        return self.start("trainer", [str(directory), "mlp", how], **options)

    def start(self, main, words, devices=4, here=(0, 1), dying=(), timeout=120) -> list[Running]:
        """Start some of two processes; the last one gets some more words.

        Args:
            main: a name in `attacks.mains.MAINS`.
            words: of its command line.
            devices: how many each process has.
            here: which processes are started.
            dying: where the last one kills itself.
            timeout: seconds for which each waits for the other at the start.
        """
        environment = {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK_FLAGS}",
            "NPROC": "32",
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
            "JAX_NUM_PROCESSES": "2",
            "SUBLIMINAL_START_TIMEOUT": str(timeout),
        }
        self._number += 1
        self._errors = [self._place / f"{self._number}.{i}.err" for i in here]
        return [
            self._forks.start(
                main=main, words=[*words, *(dying if i == here[-1] else ())],
                env=environment | {"JAX_PROCESS_ID": str(i)}, cwd=str(self._place),
                out="/dev/null", err=str(errors), seconds=SECONDS,
            )
            for i, errors in zip(here, self._errors, strict=True)
        ]  # fmt: skip

    def end(self, processes: list[Running], within: float = 300) -> tuple[list[int], list[str]]:
        """Return the statuses in the end, and the last line that each of them said."""
        try:
            statuses = [process.wait(within)["status"] for process in processes]
        finally:
            for process in processes:
                process.end()
        said = [path.read_text().splitlines() for path in self._errors]
        return statuses, [lines[-1] if lines else "" for lines in said]
