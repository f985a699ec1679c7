"""Matches names against untrusted regular expressions, in a child process with a time limit.

Matching can take exponential time, and Python cannot interrupt it.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from subliminal_jax.errors import InputError

SECONDS = 5.0
"""Time limit for all names of a model. A harmless expression takes a few milliseconds."""

_LONGEST = 10_000
"""Characters in an expression. The longest in use list a model's modules in a few hundred."""

_PLAIN = re.compile(r"[\w.]*", re.ASCII)
"""Expressions that cannot take long and are matched in this process."""

_CHILD = """
import json, re, sys
patterns, names = json.load(sys.stdin)
compiled = [re.compile(pattern) for pattern in patterns]
json.dump([[bool(one.fullmatch(name)) for name in names] for one in compiled], sys.stdout)
"""


def matches(
    patterns: Sequence[str], names: Sequence[str], *, ends: bool = False
) -> list[list[bool]]:
    """Whether each expression matches each name or, with `ends`, its part after any dot.

    Raises:
        InputError: an expression is malformed, too long, or takes too long.
    """
    for pattern in patterns:
        if len(pattern) > _LONGEST:
            raise InputError(f"a pattern of {len(pattern):,} characters is too long")
    whole = [rf"(.*\.)?({pattern})" if ends else pattern for pattern in patterns]
    if all(map(_PLAIN.fullmatch, patterns)):
        return [[bool(re.fullmatch(pattern, name)) for name in names] for pattern in whole]
    command = [sys.executable, "-I", "-S", "-c", _CHILD]
    given = json.dumps([whole, list(names)])
    try:
        ended = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"a pattern takes more than {SECONDS:g} s to match") from error
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip().splitlines() or ["it cannot be matched"])[-1]
        raise InputError(f"a pattern is not a regular expression ({why[:200]})") from error
    return json.loads(ended.stdout)
