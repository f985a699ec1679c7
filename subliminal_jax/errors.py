"""The two ways a run can end early: it was refused, or it broke."""


class InputError(ValueError):
    """Something given from outside is refused: a flag, a file, a directory.

    The message is one line: what is wrong, where, and what to do. Entry points print it and
    exit with status 2.
    """


class RunError(RuntimeError):
    """A run that was allowed to start cannot go on, for example because a loss is not finite.

    The message is one line. Entry points print it and exit with status 1.
    """
