"""How the refusal of a run directory is worded: what, where, what to do."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from subliminal_jax import files
from subliminal_jax.errors import InputError
from subliminal_jax.os_errors import is_disk_full


@dataclass(frozen=True)
class Wording:
    """What a kind of directory is called.

    Attributes:
        option: the flag that names it.
        anew: what to do to begin anew there.
    """

    option: str = "--out"
    anew: str = "choose another --out, or add --overwrite to begin anew"

    def refusal(self, path: Path, what: str) -> InputError:
        """Refuses what is there, where it could be begun anew."""
        return InputError(f"{self.option} {path}: {what}; {self.anew}")

    @contextlib.contextmanager
    def told(self, path: Path) -> Iterator[None]:
        """Says in one line why a directory cannot be used.

        Raises:
            InputError: the system refused something in the block, or the disk is full.
        """
        try:
            yield
        except InputError:
            raise
        except (OSError, ValueError) as error:
            reason, name = str(error), None
            if isinstance(error, OSError):
                if is_disk_full(error):
                    raise files.disk_full_error(path, error=error) from error
                reason, name = error.strerror or reason, error.filename
            if isinstance(name, str) and name != str(path) and name.startswith(str(path)):
                reason += f": {os.path.relpath(name, path)}"
            raise InputError(
                f"{self.option} {path}: cannot be used ({reason}); choose a directory you can "
                "write to"
            ) from error


OUT = Wording()
"""Of a run's own directory."""
