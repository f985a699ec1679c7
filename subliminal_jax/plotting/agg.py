"""Matplotlib as it draws into files, whatever window or notebook MPLBACKEND asks for.

A notebook's MPLBACKEND names a module that need not be there, and matplotlib then fails when it is
imported. This module comes before all others that import it. Figures bring their own canvas, so
that one who has chosen a backend for himself keeps it.
"""

import os

_asked = os.environ.get("MPLBACKEND")
os.environ["MPLBACKEND"] = "agg"
try:
    import matplotlib  # noqa: F401
finally:
    if _asked is None:
        del os.environ["MPLBACKEND"]
    else:
        os.environ["MPLBACKEND"] = _asked
