"""Joins several processes into one run, and ends them together.

JAX notices a dead process by missing heartbeats and then aborts with a stack trace; it waits for a
process that never starts for minutes, without a message. So each process also keeps a connection to
the first one. If a connection closes without a goodbye, the process at its other end is gone; if no
sign of life arrives, that process is stopped. Either is named at once. Every wait has a time limit
and a message. A process that fails notifies the others and exits without waiting for them; with JAX
alone it would wait for minutes at exit.
"""

import contextlib
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
from subliminal_jax.process.leaving import exit_now

LOST = 1
"""Exit status of a process that lost its peers; start the whole run again."""

_EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_SIZES = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_GOODBYE, _BROKEN, _HERE = b"goodbye\n", b"broken\n", b"here\n"

EXIT_SECONDS = 4
"""Seconds until a process that fails exits; the others wait twice as long before they exit."""

SILENT_SECONDS = 60
"""Seconds without a sign of life after which a process counts as stopped; JAX aborts later."""

_SIGN_SECONDS = 5
"""Seconds between two signs of life."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How the processes find each other.

    Attributes:
        coordinator: `host:port` of the first process; None if JAX finds all of this itself, as on
            Cloud TPU, Slurm, Open MPI and GKE.
        processes: number of processes.
        process: index of this process, from 0.
        start_timeout: seconds within which all processes must join.
        heartbeat_timeout: seconds after which JAX counts a silent process as dead.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    start_timeout: int = 900
    heartbeat_timeout: int = 100


def cluster_of(environment: Mapping[str, str], asked: bool = False) -> Cluster | None:
    """Return the cluster that the environment or `asked` implies; None for a single process.

    Args:
        environment: variables: `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
            `JAX_PROCESS_ID` together, or those that Slurm, Open MPI or a TPU pod sets.
            `SUBLIMINAL_START_TIMEOUT` is the time limit for joining, in seconds.
        asked: join a cluster even if no variable implies one, as on TPU hosts reached by ssh.

    Raises:
        InputError: variables are missing or invalid.
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
    """Join the cluster for the block; None does nothing.

    Enter it before anything else uses devices. If a peer does not join in time or dies later, this
    process exits with status 1 and one line that says so. If the block raises, this process exits
    within seconds with the status that `run_main` gives the error. The others exit too, with the
    status of their own error if they raise one.

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
    except (Stopped, SystemExit):  # raised in all processes together
        _part(link)
        raise
    except BaseException as error:
        link.say(_BROKEN)
        _, status = outcome(error) or ("", LOST)
        _after(EXIT_SECONDS, exit_now, status)
        raise
    _part(link)


def _part(link: "_Link") -> None:
    """Leave the cluster once all processes are done.

    The first one holds JAX's coordinator: if it left alone, the runtime of the others would report
    a lost connection.
    """
    link.wait_and_part()
    jax.distributed.shutdown()


@contextlib.contextmanager
def deadline(seconds: int, message: str) -> Iterator[None]:
    """Exit with a message if the block takes longer: a blocked call cannot be interrupted."""
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
    exit_now(LOST)


class _Link:
    """Connections between each process and the first one; all processes make it together.

    Args:
        coordinator: `host:port` of the first process, if given.

    Raises:
        InputError: this process cannot reach the first one.
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
                    f"process {self._me} cannot reach process 0 at {name}:{port} "
                    f"({error.strerror or error}); let all hosts reach each other on all ports"
                ) from error
            self._connections[0] = connection
        self._watches = [
            threading.Thread(target=self._watch, args=of_peer, daemon=True)
            for of_peer in self._connections.items()
        ]
        for watch in self._watches:
            watch.start()
        threading.Thread(target=self._give_signs, daemon=True).start()

    def _give_signs(self) -> None:
        while not self._parted.wait(_SIGN_SECONDS):
            self._tell(_HERE)

    def _watch(self, peer: int, connection: socket.socket) -> None:
        said = _next_word(connection)
        if said == _GOODBYE:
            return
        if said == _BROKEN:  # this process may soon raise the same error itself
            time.sleep(2 * EXIT_SECONDS)
        lost, how = peer, "is gone"
        if said is None:
            how = f"has given no sign of life for {SILENT_SECONDS} s"
        elif said.strip().isdigit():
            lost = int(said)
        self._tell(f"{lost}\n".encode(), but=lost)
        _end(
            f"process {lost} of {self._count} {how}, so process {self._me} ends too; "
            "read its output, then run the same command again on all hosts to resume"
        )

    def wait_and_part(self) -> None:
        """Say goodbye and return when all have; the first process says it last, so watches all."""
        if self._me != 0:
            self.say(_GOODBYE)
        for watch in self._watches:
            watch.join()
        if self._me == 0:
            self.say(_GOODBYE)

    def say(self, word: bytes) -> None:
        """Send the last word, goodbye or broken, and stop sending signs of life."""
        self._parted.set()
        self._tell(word)

    def _tell(self, word: bytes, but: int | None = None) -> None:
        for peer, connection in self._connections.items():
            if peer != but:
                with contextlib.suppress(OSError):
                    connection.sendall(word)


def _next_word(connection: socket.socket) -> bytes | None:
    """Return the next line that is not a sign of life; empty at the end, None after long silence.

    If this process itself was stopped, signs of life that arrived meanwhile are still unread, so a
    second read distinguishes its own pause from its peer's.
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
    """Return an address of the first process's host that the others can reach.

    The coordinator's if given, else the one that packets are sent from. The host name is useless:
    /etc/hosts often maps it to 127.0.1.1.
    """
    host = (coordinator or "").rpartition(":")[0]
    if host and not host.startswith("["):  # the server speaks IPv4
        return host
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing; nobody has this address (RFC 5737)
            return probe.getsockname()[0]
    except OSError:  # no network
        return socket.gethostbyname(socket.gethostname())


def _introduced(connection: socket.socket, token: str) -> int | None:
    """Return the index of a process that sends the token; None for any other connection."""
    connection.settimeout(10)
    said = b""
    with contextlib.suppress(OSError):
        said = connection.makefile("rb").readline(100)
    signed = re.fullmatch(rf"{token} (\d+)\n".encode(), said)
    return int(signed[1]) if signed else None
