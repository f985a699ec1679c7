"""Runs each process in its own group, forked from a server that has imported everything.

Imports take seconds, most processes less than one. No device and no thread is started before the
fork, so that a child behaves like a fresh process. The server reads one order per line, as JSON,
and forks a watcher, which forks the process and writes to a pipe its pid and how it ended.
"""

import contextlib
import itertools
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from quick import QUICK_FLAGS, collect_seldom, import_without_collecting

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATHS = (ROOT, ROOT / "experiments", HERE.parent)
PAUSE = 0.01
ENOUGH, GIVEN_UP = 1.2, 3.0
"""A process is killed after this multiple of its limit in CPU time, or in wall time: other work on
the machine slows it down."""
IDLE = 30.0
"""Seconds without CPU time after which a forked process hangs; a `command` may wait for a child."""
MOST = 3 << 30
"""Bytes at which a process is killed, before the kernel kills another one."""


class Forks:
    """The server process that forks all others; a context manager.

    Args:
        place: a directory for its pipes.
        compiled: a directory for compiled programs, which several servers may share.
    """

    def __init__(self, place: Path, compiled: Path):
        environment = {
            **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
            "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
            "JAX_PLATFORMS": "cpu",
            "OPENBLAS_NUM_THREADS": "1",  # threads would forbid a fork
            "TOKENIZERS_PARALLELISM": "false",
            "XLA_FLAGS": QUICK_FLAGS,
            "JAX_COMPILATION_CACHE_DIR": str(compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "HF_HUB_OFFLINE": "1",
        }
        self._pipes = (place / f"{number}.pipe" for number in itertools.count())
        self._process = subprocess.Popen(
            [sys.executable, "-m", "attacks.forks"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._process.stdout.readline()  # it has imported everything

    def start(self, **order: Any) -> "Running":
        """Start a process.

        Args:
            order: `main` (a name in `mains.MAINS`) and `words`, or `command` for a fresh process;
                `cwd`, `out`, `err`; `seconds`; `env`, in which None removes a variable; `limits`
                by name, such as `{"RLIMIT_FSIZE": 0}`; `signals` as pairs of seconds and number;
                `closed` streams; Python `code` to run before `main`.
        """
        pipe = next(self._pipes)
        os.mkfifo(pipe)
        self._process.stdin.write(json.dumps(order | {"pipe": str(pipe)}) + "\n")
        self._process.stdin.flush()
        return Running(pipe)

    def run(self, **order: Any) -> dict[str, Any]:
        """Run a process to its end, see `start` and `Running.wait`."""
        return self.start(**order).wait()

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


class Running:
    """A process that was started, with its `pid`."""

    def __init__(self, pipe: Path):
        self._stream = pipe.open()
        pipe.unlink()
        self.pid = int(self._stream.readline())
        self._ended: dict[str, Any] | None = None

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Return `status`, `cpu` and `wall` seconds, `peak` bytes, and whether it was `killed`.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        if self._ended is None:
            if not select.select([self._stream], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
            with self._stream:
                self._ended = json.loads(self._stream.readline())
        return self._ended

    def end(self) -> None:
        """Kill it, if it still runs, and all that it started."""
        if self._ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()


def used(pid: int) -> tuple[float, int]:
    """Return the CPU seconds that a process has used, and the bytes that it holds."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE")


def watch(pid: int, order: dict[str, Any]) -> dict[str, Any]:
    """Wait for a process, send it its signals, and kill its group in the end."""
    begun, killed = time.monotonic(), False
    worked, before = begun, 0.0
    signals = sorted(order.get("signals") or [])
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        wall = time.monotonic() - begun
        if found:
            break
        cpu, held = used(pid)
        if cpu > before or "command" in order:
            worked, before = time.monotonic(), cpu
        over = cpu > ENOUGH * order["seconds"] or held > MOST
        late = wall > GIVEN_UP * order["seconds"] or time.monotonic() - worked > IDLE
        if not killed and (over or late):
            killed = True
            os.killpg(pid, signal.SIGKILL)
        elif signals and wall > signals[0][0]:
            os.kill(pid, signals.pop(0)[1])
        else:
            time.sleep(PAUSE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # children that it left running
    return {
        "status": os.waitstatus_to_exitcode(status),
        "cpu": usage.ru_utime + usage.ru_stime,
        "wall": wall,
        "peak": usage.ru_maxrss * 1024,
        "killed": killed,
    }


def become(order: dict[str, Any]) -> None:
    """In the child: set group, limits, environment and streams, then run the command."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python does
    os.chdir(order["cwd"])
    for name, value in (order.get("env") or {}).items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    flags = os.O_WRONLY | os.O_CREAT
    for stream, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        place = os.open(path, flags if stream else os.O_RDONLY, 0o666)
        os.dup2(place, stream)
        os.close(place)
        if stream in (order.get("closed") or []):
            os.close(stream)
    for name, value in (order.get("limits") or {}).items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if "command" in order:
        os.execvp(order["command"][0], order["command"])
    from attacks.mains import MAINS

    sys.argv = [f"{order['main']}.py", *order["words"]]
    try:
        exec(order.get("code") or "", {})
        MAINS[order["main"]]()
        ended = 0
    except SystemExit as stopped:
        ended = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        ended = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        ended = ended or 120  # as Python
    os._exit(ended)


def replace_whole_entries() -> None:
    """Have JAX put compiled programs into its cache whole: readers share it, writers are killed."""
    from jax._src import lru_cache

    def put(self: Any, key: str, value: bytes) -> None:
        entry = Path(f"{self.path / key}{lru_cache._CACHE_SUFFIX}")
        if not entry.exists():
            part = entry.with_name(f"{os.getpid()}.part")
            part.write_bytes(value)
            part.replace(entry)

    lru_cache.LRUCache.put = put


def report(order: dict[str, Any]) -> None:
    """In the watcher: fork the process, and write to the order's pipe how it goes."""
    pid = os.fork()
    if pid == 0:
        become(order)
    with open(order["pipe"], "w") as pipe:
        print(pid, file=pipe, flush=True)
        print(json.dumps(watch(pid, order)), file=pipe)
    os._exit(0)


def serve() -> None:
    """Run orders until stdin is closed, several at once where the client does not wait."""
    import_without_collecting()
    from attacks import mains

    mains.import_all()
    replace_whole_entries()
    warnings.filterwarnings("ignore", "os.fork")
    collect_seldom()  # no child goes through all that was imported, nor copies it
    print("ready", flush=True)
    for line in sys.stdin:
        assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked"
        if os.fork() == 0:
            report(json.loads(line))
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


if __name__ == "__main__":
    serve()
