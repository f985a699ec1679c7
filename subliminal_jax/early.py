"""Makes a stop signal or a lack of memory end a script with one line, even while it imports.

Scripts import this before anything else: their other imports take a second.
"""

import contextlib
import sys
from types import TracebackType

from subliminal_jax.interrupt import end_at_once


def _explained(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Report an error that ends an import in one line; a bug keeps its traceback."""
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
