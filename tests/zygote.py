"""Starts many short-lived trainers cheaply: imports once, then forks a process for each.

Importing costs seconds, a trainer's own work less than one. Nothing is started before the fork, no
device and no thread, so a child is what a fresh process would be. It reads a JSON object a line,
which main function to run and with which words, and answers with the child's pid, and to the line
after that with how it ended.
"""

import json
import os
import runpy
import sys
import threading
import warnings

import language
import sklearn.datasets  # noqa: F401
import trainer
from scripts import ROOT

import subliminal_jax.mnist.experiment  # noqa: F401
from subliminal_jax import plotting  # noqa: F401
from subliminal_jax.entry import run_main


def script(name):
    return lambda: runpy.run_path(str(ROOT / "experiments" / f"{name}.py"), run_name="__main__")


MAINS = {
    "trainer": lambda: run_main(trainer.main),
    "language": lambda: run_main(language.main),
    "mnist_aux": script("mnist_aux"),
}

warnings.filterwarnings("ignore", "os.fork")

if __name__ == "__main__":
    for line in sys.stdin:
        order = json.loads(line)
        assert len(os.listdir("/proc/self/task")) == 1, threading.enumerate()
        pid = os.fork()
        if pid == 0:
            for stream, name in ((1, "out"), (2, "err")):
                place = os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(place, stream)
            sys.argv = [f"{order['main']}.py", *order["words"]]
            try:
                MAINS[order["main"]]()
            except SystemExit as ended:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(ended.code)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        print(pid, flush=True)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # until it is told, the pid stays taken
        sys.stdin.readline()
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
