"""What an attack is, how it ended, and what to call that.

An attack is a black box: files that are set up, one command, and the right outcome, which is either
a refusal (one line, status 2, nobody's file changed) or an answer that is checked.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from attacks.shared import Shared

OUTCOMES = (
    *("right", "refused", "silent", "traceback", "hang", "over the limits", "harmed"),
    *("wrongly refused", "other"),
)
MEMORY = 2**30
_TRACEBACK = re.compile(
    r"^[\s+|]*(Exception Group )?Traceback \(most recent|^Fatal Python error|^Exception ignored",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Attack:
    """Something hostile or odd, and what must come of it.

    Attributes:
        area: name of its module.
        name: unique within the area.
        main: the command, a name in `mains.MAINS`; "" where `order` has a `command`.
        words: of the command line, run in the attack's own directory.
        set_up: puts files into that directory.
        wanted: how it must end; `either`: refused, or with an answer that passes the check.
        check: what is wrong with an answer, "" if nothing.
        statuses: of a refusal.
        seconds: of CPU time.
        memory: bytes, above what a harmless command holds.
        writes: patterns of names in the directory that an answer may change.
        own: patterns of paths below it that a refusal may change: what a run goes on with.
        quick: whether it belongs to the slice that the test suite runs by default.
        order: more for `Forks.run`, such as `env`, `limits`, `signals`.
    """

    area: str
    name: str
    main: str = ""
    words: tuple[str, ...] = ()
    set_up: Callable[[Path, Shared], object] = lambda here, shared: None
    wanted: Literal["refused", "right", "either"] = "refused"
    check: Callable[["Ended"], str] = lambda ended: ""
    statuses: tuple[int, ...] = (2,)
    seconds: float = 10.0
    memory: int = MEMORY
    writes: tuple[str, ...] = ("out*", "run*", "cache*")
    own: tuple[str, ...] = ()
    quick: bool = False
    order: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How an attack's command ended: streams, numbers, and where.

    Attributes:
        here: the attack's directory.
        shared: what attacks have in common.
        status, out, err: of the process.
        cpu, peak: seconds and bytes.
        killed: whether it had to be.
        harm: the files that are no longer as they were.
    """

    here: Path
    shared: Shared
    status: int
    out: str
    err: str
    cpu: float
    peak: int
    killed: bool
    harm: list[str]

    @property
    def found(self) -> Any:
        """What one of the small commands printed."""
        return json.loads(self.out)

    @property
    def last(self) -> str:
        """The last line of stderr."""
        return (self.err.strip().splitlines() or [""])[-1]


def classify(attack: Attack, ended: Ended, baseline: int) -> tuple[str, str]:
    """One of `OUTCOMES`, and what tells it."""
    refused = ended.status in attack.statuses and ended.status != 0
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    over = ended.peak > baseline + attack.memory
    if ended.killed and not over:
        return "hang", f"killed; {ended.cpu:.1f} s of CPU time; {ended.last}"
    if _TRACEBACK.search(ended.err):
        return "traceback", ended.last
    if ended.harm:
        return "harmed", f"{', '.join(ended.harm[:3])}; {ended.last}"
    if ended.cpu > attack.seconds or over:
        return "over the limits", f"{ended.cpu:.1f} s, {ended.peak / 2**20:.0f} MiB; {ended.last}"
    if ended.status == 0:
        if attack.wanted == "refused":
            return "silent", f"taken; {ended.out.strip()[-150:]!r}"
        wrong = _checked(attack, ended)
        return ("silent", wrong) if wrong else ("right", "")
    if refused and ended.status < 0 and not ended.err.strip():
        return "refused", "ended by a signal before anything was begun"
    if refused and len(lines) == 1 and ended.last == lines[0]:
        kind = "wrongly refused" if attack.wanted == "right" else "refused"
        return kind, ended.last
    return "other", f"status {ended.status}; {ended.last}"


def _checked(attack: Attack, ended: Ended) -> str:
    try:
        return attack.check(ended)
    except (ValueError, KeyError, IndexError, OSError) as error:
        return f"the answer cannot be read: {type(error).__name__} {error}"
