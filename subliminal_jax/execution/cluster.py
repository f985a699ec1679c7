"""Starting several processes as one, in the only place that does, and ending them together.

JAX notices a dead process by missing heartbeats and then aborts with a stack trace; a process that
waits for one that never came waits for minutes without a word. So each process also keeps a
connection to the first one: a connection that ends without a goodbye names the process that is
gone, at once, and one on which no sign of life comes names the process that is stopped. Waiting is
always for a limited time, and says for what. A process that breaks says so, and does not wait for
the others, as JAX would have it wait for minutes when it exits.
"""

import contextlib
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

import jax

from subliminal_jax.entry import one_line, outcome
from subliminal_jax.errors import InputError, Stopped
from subliminal_jax.execution.hosts import from_first

LOST = 1
"""The exit status of a process whose peers are gone: the whole run is to be started again."""

_EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_SIZES = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_GOODBYE, _BROKEN, _HERE = b"goodbye\n", b"broken\n", b"here\n"

EXIT_SECONDS = 4
"""In which a process that breaks is gone; the others give each other as long again."""

SILENT_SECONDS = 60
"""After which a process that gives no sign of life is taken for stopped; before JAX would abort."""

_SIGN_SECONDS = 5
"""Between two signs of life."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How the processes find each other.

    Attributes:
        coordinator: `host:port` of the first process; None where JAX finds it, with the others, as
            on Cloud TPU, Slurm, Open MPI and GKE.
        processes: how many there are.
        process: which one this is, from 0.
        start_timeout: seconds in which all must have come.
        heartbeat_timeout: seconds after which JAX takes a silent process for dead.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    start_timeout: int = 900
    heartbeat_timeout: int = 100


def cluster_of(environment: Mapping[str, str], asked: bool = False) -> Cluster | None:
    """The cluster that the environment speaks of, or that was asked for; else None.

    Args:
        environment: variables. `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
            `JAX_PROCESS_ID` together, or what Slurm, Open MPI or a TPU pod set.
            `SUBLIMINAL_START_TIMEOUT` is the time in which all must have come, in seconds.
        asked: a cluster was asked for by a flag, as is needed on TPU hosts that were reached
            by ssh: nothing in the environment tells that there are others.

    Raises:
        InputError: variables are missing, or are no sensible numbers.
    """
    timeout = _number(environment, "SUBLIMINAL_START_TIMEOUT", 1) or 900
    given = [name for name in _EXPLICIT if environment.get(name)]
    if given:
        missing = [name for name in _EXPLICIT if name not in given]
        if missing:
            raise InputError(f"{given[0]} is set and {missing[0]} is not; set all or none of them")
        processes = _number(environment, "JAX_NUM_PROCESSES", 1) or 1
        process = _number(environment, "JAX_PROCESS_ID", 0) or 0
        if process >= processes:
            raise InputError(
                f"JAX_PROCESS_ID: {process}, but there are {processes} processes, from 0"
            )
        coordinator = environment["JAX_COORDINATOR_ADDRESS"]
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise InputError(
                f"JAX_COORDINATOR_ADDRESS: should be host:port, such as 10.0.0.1:1234, not "
                f"{coordinator!r}"
            )
        return Cluster(
            coordinator=coordinator,
            processes=processes,
            process=process,
            start_timeout=timeout,
        )
    sizes = [_number(environment, name, 1) or 1 for name in _SIZES]
    workers = environment.get("TPU_WORKER_HOSTNAMES", "").count(",") + 1
    if asked or max(*sizes, workers) > 1:
        return Cluster(start_timeout=timeout)
    return None


def _number(environment: Mapping[str, str], name: str, least: int) -> int | None:
    text = environment.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or int(text) < least:
        raise InputError(f"{name}: should be a whole number from {least} on, not {text!r}")
    return int(text)


@contextlib.contextmanager
def joined(cluster: Cluster | None) -> Iterator[None]:
    """Be one of several processes for a while; without a cluster, nothing is done.

    It comes before anything else that has to do with devices. Where a peer does not come in time,
    or is gone later, this process ends with status 1 and one line that says so. Where the block
    raises, this process exits within seconds with the status that `run_main` gives the error, and
    so do the others: with their own, if they raise as well.

    Raises:
        InputError: JAX refuses to start.
    """
    if cluster is None:
        yield
        return
    whom = f"{cluster.processes or 'all'} processes"
    where = f" at {cluster.coordinator}" if cluster.coordinator else ""
    with deadline(
        cluster.start_timeout,
        f"not all of {whom} came{where} within {cluster.start_timeout} s; start the same command "
        "on every host, or raise SUBLIMINAL_START_TIMEOUT",
    ):
        try:
            jax.distributed.initialize(
                cluster.coordinator,
                cluster.processes,
                cluster.process,
                initialization_timeout=cluster.start_timeout,
                heartbeat_timeout_seconds=cluster.heartbeat_timeout,
            )
        except (ValueError, RuntimeError) as error:
            by_hand = "" if cluster.coordinator else f"; set {', '.join(_EXPLICIT)} on every host"
            raise InputError(
                f"the processes cannot be joined: {one_line(str(error)).rstrip('.')}{by_hand}"
            ) from error
        link = _Link(cluster.coordinator)
    try:
        yield
    except (Stopped, SystemExit):  # all of them together
        link.say(_GOODBYE)
        raise
    except BaseException as error:
        link.say(_BROKEN)
        _, status = outcome(error) or ("", LOST)
        _after(EXIT_SECONDS, _exit, status)
        raise
    link.say(_GOODBYE)


@contextlib.contextmanager
def deadline(seconds: int, message: str) -> Iterator[None]:
    """End the process with a message if the block takes longer: what blocks cannot be woken."""
    timer = _after(seconds, _end, message)
    try:
        yield
    finally:
        timer.cancel()


def _after(seconds: int, act: Callable[..., object], *arguments: object) -> threading.Timer:
    timer = threading.Timer(seconds, act, arguments)
    timer.daemon = True
    timer.start()
    return timer


def _end(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    _exit(LOST)


def _exit(status: int) -> NoReturn:
    """Now, whatever else this process waits for."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


class _Link:
    """Every process's connection to the first one; made by all of them together.

    Args:
        coordinator: `host:port` of the first process, where it was given.

    Raises:
        InputError: this process does not reach the first one.
    """

    def __init__(self, coordinator: str | None) -> None:
        self._me, self._count = jax.process_index(), jax.process_count()
        self._connections: dict[int, socket.socket] = {}
        self._parted = threading.Event()
        server = socket.create_server(("", 0)) if self._me == 0 else None
        name = _own_address(coordinator) if server else ""
        port = server.getsockname()[1] if server else 0
        name, port, token = from_first((name, port, secrets.token_hex(16)))
        if server is not None:
            with server:
                while len(self._connections) < self._count - 1:
                    connection, _ = server.accept()
                    number = _introduced(connection, token)
                    if number is None:
                        connection.close()
                    else:
                        self._connections[number] = connection
        else:
            try:
                connection = socket.create_connection((name, port))
                connection.sendall(f"{token} {self._me}\n".encode())
            except OSError as error:
                raise InputError(
                    f"process {self._me} does not reach process 0 at {name}:{port} "
                    f"({error.strerror or error}); let all hosts reach each other on all ports"
                ) from error
            self._connections[0] = connection
        for peer, connection in self._connections.items():
            threading.Thread(target=self._watch, args=(peer, connection), daemon=True).start()
        threading.Thread(target=self._give_signs, daemon=True).start()

    def _give_signs(self) -> None:
        while not self._parted.wait(_SIGN_SECONDS):
            self._tell(_HERE)

    def _watch(self, peer: int, connection: socket.socket) -> None:
        said = _next_word(connection)
        if said == _GOODBYE:
            return
        if said == _BROKEN:  # and so will this one, if it is of what all were told to do
            time.sleep(2 * EXIT_SECONDS)
        lost, how = peer, "is gone"
        if said is None:
            how = f"has given no sign of life for {SILENT_SECONDS} s"
        elif said.strip().isdigit():
            lost = int(said)
        self._tell(f"{lost}\n".encode(), but=lost)
        _end(
            f"process {lost} of {self._count} {how}, so this one, process {self._me}, ends too; "
            "look at its output, then run the same command again on all hosts to resume"
        )

    def say(self, word: bytes) -> None:
        """Part from the others: with a goodbye, or as one that broke."""
        self._parted.set()
        self._tell(word)

    def _tell(self, word: bytes, but: int | None = None) -> None:
        for peer, connection in self._connections.items():
            if peer != but:
                with contextlib.suppress(OSError):
                    connection.sendall(word)


def _next_word(connection: socket.socket) -> bytes | None:
    """The next line that is no sign of life; empty if the connection ends, None in a long silence.

    Where this process was itself stopped for long, what came meanwhile is still to be read: a
    second look tells the one from the other.
    """
    said = b""
    while True:
        for patience in (SILENT_SECONDS, 1):
            connection.settimeout(patience)
            try:
                some = connection.recv(4096)
                break
            except TimeoutError:
                continue
            except OSError:
                return b""
        else:
            return None
        *lines, said = (said + some).split(b"\n")
        for line in lines:
            if line + b"\n" != _HERE:
                return line + b"\n"
        if not some:
            return b""


def _own_address(coordinator: str | None) -> str:
    """An address of the first process's host that the others reach.

    The coordinator's, which is the first process; else the one that packets leave from. The host's
    own name is no good: in its own /etc/hosts it often stands for 127.0.1.1.
    """
    host = (coordinator or "").rpartition(":")[0]
    if host and not host.startswith("["):  # the server speaks IPv4
        return host
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing; nobody has this address (RFC 5737)
            return probe.getsockname()[0]
    except OSError:  # no way out of this host
        return socket.gethostbyname(socket.gethostname())


def _introduced(connection: socket.socket, token: str) -> int | None:
    """The number of a process that knows the token; None for a stranger on the network."""
    connection.settimeout(10)
    said = b""
    with contextlib.suppress(OSError):
        said = connection.makefile("rb").readline(100)
    found = re.fullmatch(rf"{token} (\d+)\n".encode(), said)
    return int(found[1]) if found else None
