"""Imports matplotlib for drawing into files, whatever backend MPLBACKEND names.

A notebook's MPLBACKEND may name a module that is missing, and importing matplotlib then fails.
Import this module before any other that imports matplotlib. Figures bring their own canvas, so a
user's choice of backend stays in force.
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
