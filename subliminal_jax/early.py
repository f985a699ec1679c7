"""Makes a stop, or a lack of memory, end a script in one line from its first moment on.

Scripts import it before anything else: what they import next takes a second.
"""

import contextlib
import sys
from types import TracebackType

from subliminal_jax.interrupt import end_at_once


def _explained(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Says of an error that ends an import what it means; a bug keeps its traceback."""
    line = "out of memory" if isinstance(error, MemoryError) else None
    with contextlib.suppress(MemoryError, ImportError, OSError):
        from subliminal_jax.entry import one_line, outcome

        known = outcome(error)
        line = one_line(known[0]) if known else None
    if line is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {line}", file=sys.stderr)


end_at_once()
sys.excepthook = _explained
