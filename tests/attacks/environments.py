"""The environment: variables, standard streams that are closed or full, system limits."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attacks.attack import Attack, Ended
from attacks.edits import base
from attacks.forks import ROOT
from attacks.shared import DIGITS, Shared

WORDS = (*DIGITS, "--out", "run")
FRESH = (sys.executable, str(ROOT / "experiments" / "mnist_aux.py"), *WORDS)
PLAN = (sys.executable, str(ROOT / "experiments" / "lm_numbers.py"), "--plan")


def same_arms(ended: Ended) -> str:
    """The check that the run has the same results as in an ordinary environment."""
    found, right = (json.loads((where / "run/results.json").read_text())["arms"]
                    for where in (ended.here, ended.shared.digits))  # fmt: skip
    return "" if found == right else "the same command gives other results here"


def recorded_flags(ended: Ended) -> str:
    """The check that the results record the compiler flags."""
    found = json.loads((ended.here / "run/results.json").read_text())
    return "" if found["environment"]["variables"].get("XLA_FLAGS") else "the flag is not recorded"


attack = partial(Attack, "environments", main="mnist_aux", words=WORDS, wanted="right",
                 check=same_arms, seconds=60.0)  # fmt: skip


def fresh(
    name: str,
    wanted: str = "right",
    check: Callable[[Ended], str] = same_arms,
    **variables: str | None,
) -> Attack:
    """Variables that are read at startup, so in a new process."""
    order = {"command": FRESH, "env": variables}
    return attack(name, main="", words=(), wanted=wanted, check=check, order=order)


def set_to(name: str, wanted: str = "right", quick: bool = False, **variables) -> Attack:
    """Variables that are read only when needed, so in a forked process."""
    return attack(name, wanted=wanted, order={"env": variables}, quick=quick)


def limited(name: str, wanted: str = "either", **limits: int) -> Attack:
    """System limits, as `ulimit` sets them."""
    return attack(name, wanted=wanted, statuses=(1, 2), order={"limits": limits})


def plan(name: str, wanted: str = "right", **order: object) -> Attack:
    """An environment in which a new process prints a plan."""
    return attack(name, main="", words=(), wanted=wanted, check=lambda ended: "",
                  order={"command": PLAN, **order})  # fmt: skip


def model(name: str, wanted: str = "right", **order: object) -> Attack:
    """An environment in which a model is read."""
    return attack(name, main="model", words=("{here}/model",), wanted=wanted, set_up=base,
                  check=lambda ended: "", order=order, seconds=10.0, statuses=(1, 2))  # fmt: skip


def read_only(here: Path, shared: Shared) -> None:
    """A directory in which not even root can create a file."""
    (here / "run").symlink_to("/proc/1/fdinfo")


MEGABYTE = 2**20
ATTACKS = [
    fresh("prng-rbg", JAX_DEFAULT_PRNG_IMPL="rbg"),
    fresh("prng-unsafe-rbg", JAX_DEFAULT_PRNG_IMPL="unsafe_rbg"),
    fresh("prng-nonsense", "either", JAX_DEFAULT_PRNG_IMPL="dice"),
    fresh("prng-not-partitionable", "either", JAX_THREEFRY_PARTITIONABLE="0"),
    fresh("seed-offset", "either", JAX_RANDOM_SEED_OFFSET="5"),
    fresh("x64", "either", JAX_ENABLE_X64="1"),
    fresh("matmul-precision", "either", JAX_DEFAULT_MATMUL_PRECISION="bfloat16"),
    fresh("strict-promotion", "either", JAX_NUMPY_DTYPE_PROMOTION="strict"),
    fresh("rank-promotion", JAX_NUMPY_RANK_PROMOTION="raise"),
    fresh("debug-nans", JAX_DEBUG_NANS="1"),
    fresh("legacy-keys", JAX_LEGACY_PRNG_KEY="error"),
    fresh("two-cpu-devices", JAX_NUM_CPU_DEVICES="2"),
    fresh("platform-missing", "refused", JAX_PLATFORMS="tpu"),
    fresh("platform-nonsense", "refused", JAX_PLATFORMS="abacus"),
    fresh("platform-empty", JAX_PLATFORMS=""),
    fresh("xla-flag-unknown", "either", XLA_FLAGS="--xla_no_such_flag=1"),
    fresh("fast-math", check=recorded_flags, XLA_FLAGS="--xla_cpu_enable_fast_math=true"),
    fresh("compilation-cache-nowhere", JAX_COMPILATION_CACHE_DIR="/dev/null/x"),
    fresh("coordinator-nonsense", "either", JAX_COORDINATOR_ADDRESS="x", JAX_NUM_PROCESSES="two"),
    fresh("hash-seed", PYTHONHASHSEED="7"),
    fresh("optimised-python", "either", PYTHONOPTIMIZE="2"),
    fresh("warnings-are-errors", "either", PYTHONWARNINGS="error"),
    fresh("locale-c", LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii"),
    fresh("locale-unknown", LANG="xx_YY.UTF-9", LC_ALL="xx_YY.UTF-9"),
    fresh("one-thread", "either", OMP_NUM_THREADS="1", NPROC="1"),
    set_to("notebook-backend", MPLBACKEND="module://matplotlib_inline.backend_inline",
           quick=True),
    set_to("backend-nonsense", MPLBACKEND="crayon"),
    set_to("backend-tk", MPLBACKEND="TkAgg"),
    set_to("matplotlib-nowhere", MPLCONFIGDIR="/dev/null/x"),
    set_to("columns-1", COLUMNS="1"),
    set_to("columns-0", COLUMNS="0"),
    set_to("columns-negative", COLUMNS="-5"),
    set_to("columns-text", COLUMNS="wide"),
    set_to("columns-huge", COLUMNS="1000000000"),
    set_to("term-dumb", TERM="dumb"),
    set_to("term-absent", TERM=None),
    set_to("home-absent", HOME=None, USER=None, LOGNAME=None),
    set_to("home-nowhere", HOME="/dev/null/x"),
    set_to("tmp-nowhere", TMPDIR="/dev/null/x"),
    set_to("no-path", PATH=""),
    set_to("time-zone", TZ="Mars/Olympus"),
    set_to("data-dir-nowhere", SUBLIMINAL_DATA_DIR="/dev/null/x"),
    set_to("data-dir-empty", SUBLIMINAL_DATA_DIR=""),
    set_to("coordinator-alone", "either", JAX_COORDINATOR_ADDRESS="127.0.0.1:1"),
    set_to("slurm-left-over", "either", SLURM_JOB_ID="7", SLURM_NTASKS="1", SLURM_PROCID="0",
           SLURM_LOCALID="0", SLURM_STEP_NODELIST="here"),
    attack("stdin-closed", order={"closed": [0]}),
    attack("stdout-closed", order={"closed": [1]}),
    attack("stderr-closed", order={"closed": [2]}),
    attack("all-closed", order={"closed": [0, 1, 2]}),
    attack("stderr-full", order={"err": "/dev/full"}, quick=True),
    attack("stdout-full", order={"out": "/dev/full"}, wanted="either", statuses=(1, 2)),
    plan("plan-stdin-closed", closed=[0]),
    plan("plan-stdout-closed", "either", closed=[1]),
    plan("plan-stderr-closed", closed=[2]),
    plan("plan-all-closed", "either", closed=[0, 1, 2]),
    plan("plan-stderr-full", err="/dev/full"),
    plan("plan-home-absent", env={"HOME": None, "PATH": ""}),
    plan("plan-columns-1", env={"COLUMNS": "1"}),
    plan("plan-python-locale", env={"PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONUTF8": "0"}),
    model("model-stderr-full", err="/dev/full"),
    model("model-few-files", "either", limits={"RLIMIT_NOFILE": 8}),
    model("model-little-memory", "either", limits={"RLIMIT_AS": 1200 * MEGABYTE}),
    model("model-hardly-any-memory", "either", limits={"RLIMIT_AS": 900 * MEGABYTE}),
    limited("files-of-a-kilobyte", "refused", RLIMIT_FSIZE=1024),
    limited("files-of-hundred-kilobytes", RLIMIT_FSIZE=100_000),
    limited("few-open-files", RLIMIT_NOFILE=12),
    limited("memory-2-gb", RLIMIT_AS=2048 * MEGABYTE),
    limited("memory-1500-mb", RLIMIT_AS=1500 * MEGABYTE),
    limited("memory-1-gb", RLIMIT_AS=1024 * MEGABYTE),
    limited("core-dumps", "right", RLIMIT_CORE=0),
    limited("small-stack", "right", RLIMIT_STACK=256 * 1024),
    attack("out-in-proc", wanted="refused", set_up=read_only),
    attack("out-below-dev-null", wanted="refused", words=(*DIGITS, "--out", "/dev/null/x")),
    attack("out-is-dev-full", wanted="refused", words=(*DIGITS, "--out", "/dev/full")),
    attack("working-directory-gone", wanted="either", main="", words=(), order={
        "command": ("/bin/sh", "-c", f"mkdir gone; cd gone; rmdir ../gone; {' '.join(FRESH)}")}),
]  # fmt: skip
