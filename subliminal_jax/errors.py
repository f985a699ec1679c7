"""The ways a run can end early: refused, failed, or stopped by a signal."""


class InputError(ValueError):
    """An input is refused: a flag, a file, a directory.

    The message is one line: what is wrong, where, and what to do. Entry points print it and
    exit with status 2.
    """


class RunError(RuntimeError):
    """A run that has started cannot continue, for example because a loss is not finite.

    The message is one line. Entry points print it and exit with status 1.
    """


class Stopped(RuntimeError):
    """A signal stopped a run, which has saved its progress.

    Entry points print the message and exit with `status`: 75 (try again later) for SIGTERM, 130
    for an interrupt from the keyboard.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status
