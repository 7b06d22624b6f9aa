"""The exception tree; each class carries the exit code that `understudy` ends with.

UnderstudyError (1)
├── BadInput (2)           the user's config, file or command is wrong
├── BudgetSpent (3)        the money limit was reached
├── EnvironmentFailed (4)  disk full, out of memory, a dead rank, a missing extra
└── Internal (70)          a stage broke one of our own rules
"""


class UnderstudyError(Exception):
    """An error whose message is one sentence for the user."""

    exit_code = 1


class BadInput(UnderstudyError):
    """The sentence names the value, the place and the valid choices."""

    exit_code = 2


class BudgetSpent(UnderstudyError):
    """The sentence says what was spent and how to go on."""

    exit_code = 3


class EnvironmentFailed(UnderstudyError):
    """The machine, not the input, is at fault; the same command goes on when it is mended."""

    exit_code = 4


class Internal(UnderstudyError):
    """A stage broke a rule of our own; a report is welcome."""

    exit_code = 70


BY_EXIT_CODE: dict[int, type[UnderstudyError]] = {
    error.exit_code: error for error in (BadInput, BudgetSpent, EnvironmentFailed, Internal)
}
