"""SIGTERM and SIGINT at any moment, once or twice: one line and 75 or 130, or already done."""

import signal
import sys
from functools import partial

from attacks.attack import Attack
from attacks.environments import same_arms
from attacks.forks import ROOT
from attacks.shared import DIGITS

WORDS = (*DIGITS, "--out", "run")
STATUS = {signal.SIGTERM: 75, signal.SIGINT: 130}
FRESH = (0.02, 0.05, 0.1, 0.2, 0.3, 0.6, 1.0, 2.0)
"""Seconds after a new process was started."""
FORKED = (0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 4.0)
"""Seconds after everything was imported."""
UNREACHED = 0.1
"""Seconds before which Python itself may not have started; then a process may end without a
message, and Python handles an interrupt itself."""

attack = partial(Attack, "moments", wanted="either", seconds=60.0)


def script(name: str, *words: str) -> tuple[str, ...]:
    """The command that runs a script in a new process."""
    return (sys.executable, str(ROOT / "experiments" / f"{name}.py"), *words)


def statuses(number: signal.Signals, at: tuple[float, ...]) -> tuple[int, ...]:
    """The statuses with which a signalled process may end; a second signal may end it at once."""
    at_once = at[0] <= UNREACHED or len(at) > 1
    return (STATUS[number], -number) if at_once else (STATUS[number],)


def fresh(
    name: str, command: tuple[str, ...], number: signal.Signals, *at: float, **more
) -> Attack:
    """A new process that is sent signals."""
    signals = [(seconds, int(number)) for seconds in at]
    when = "-".join(f"{round(1000 * seconds)}ms" for seconds in at)
    return attack(
        f"{name}-{number.name.lower()}-{when}", order={"command": command, "signals": signals},
        statuses=statuses(number, at), **more,
    )  # fmt: skip


DIGIT_RUN = script("mnist_aux", *WORDS)
BOTH = (signal.SIGTERM, signal.SIGINT)

ATTACKS = [
    *(fresh("digits", DIGIT_RUN, number, at, check=same_arms) for number in BOTH for at in FRESH
      if number == signal.SIGTERM or at > UNREACHED),
    *(fresh("digits", DIGIT_RUN, number, at, at + 0.03) for number in BOTH
      for at in (0.3, 0.6, 1.0, 2.0)),
    *(fresh("plan", script("lm_numbers", "--plan"), number, at) for number in BOTH
      for at in (0.1, 0.2, 0.3)),
    *(fresh("doctor", (sys.executable, "-m", "subliminal_jax", "doctor"), number, at)
      for number in BOTH for at in (0.2, 0.5, 1.0)),
    *(attack(f"digits-forked-{number.name.lower()}-{round(1000 * at)}ms", main="mnist_aux",
             words=WORDS, statuses=(STATUS[number],), check=same_arms,
             quick=number == signal.SIGTERM and at == 0.3,
             order={"signals": [(at, int(number))]}) for number in BOTH for at in FORKED),
    *(attack(f"theorem-forked-{number.name.lower()}", main="theorem", words=("--out", "run"),
             statuses=(STATUS[number],), order={"signals": [(1.0, int(number))]})
      for number in BOTH),
]  # fmt: skip
