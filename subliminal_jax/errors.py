"""The ways a run can end early: it was refused, it broke, or it was told to stop."""


class InputError(ValueError):
    """Something given from outside is refused: a flag, a file, a directory.

    The message is one line: what is wrong, where, and what to do. Entry points print it and
    exit with status 2.
    """


class RunError(RuntimeError):
    """A run that was allowed to start cannot go on, for example because a loss is not finite.

    The message is one line. Entry points print it and exit with status 1.
    """


class Stopped(RuntimeError):
    """A run was asked to stop by a signal, and has saved how far it is.

    Entry points print the message and exit with the status: 75 (try again later) for SIGTERM, 130
    for an interrupt from the keyboard.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status
