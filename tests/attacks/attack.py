"""An attack, how it ended, and the classification of its outcome.

An attack is a black box: files to set up, one command, and the required outcome, which is either a
refusal (one line, status 2, no file of the user changed) or an answer that is checked.
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
    """A hostile or odd input, and its required outcome.

    Attributes:
        area: name of its module.
        name: unique within the area.
        main: the command, a name in `mains.MAINS`; "" where `order` has a `command`.
        words: the command's arguments; it runs in the attack's own directory.
        set_up: puts files into that directory.
        wanted: the required outcome; `either`: refused, or an answer that passes the check.
        check: returns what is wrong with an answer, "" if nothing.
        statuses: allowed exit statuses of a refusal.
        seconds: limit on CPU time.
        memory: limit in bytes, on top of what a harmless command uses.
        writes: patterns of names in the directory that an answer may change.
        own: patterns of paths below it that a refusal may change: files that a run resumes from.
        quick: whether the test suite runs it by default.
        order: further arguments of `Forks.run`, such as `env`, `limits`, `signals`.
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
    """How an attack's command ended: its output, status and use of resources.

    Attributes:
        here: the attack's directory.
        shared: fixtures that attacks share.
        status, out, err: of the process.
        cpu, peak: seconds of CPU time, and peak memory in bytes.
        killed: whether the harness had to kill it.
        harm: the files that were changed and must not be.
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
        """The JSON that one of the small commands printed."""
        return json.loads(self.out)

    @property
    def last(self) -> str:
        """The last line of stderr."""
        return (self.err.strip().splitlines() or [""])[-1]


def classify(attack: Attack, ended: Ended, baseline: int) -> tuple[str, str]:
    """Return one of `OUTCOMES`, and the reason."""
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
