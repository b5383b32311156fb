"""Every error a user can meet: what is wrong, what to do next, and whether trying again can help.

A stage ends with the exit code of its error's class; the flow decides by that class, and plain
`dvc repro` prints the message with its cure. A Python traceback means a bug of ours.
"""

BUG_EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h


class RcvitError(Exception):
    """Base of all expected errors. `hint` names the next command or edit."""

    exit_code = 1
    retry_helps = False

    # torch makes the error of a data worker anew from its text, which holds the hint, and nothing else.
    def __init__(self, message: str, *, hint: str = "as the message says") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  what to do: {self.hint}"


class ParamsError(RcvitError):
    """params.yaml or a profile breaks its schema; all mistakes are in the message."""

    exit_code = 10


class SettingsError(RcvitError):
    """The environment (RCVIT_*, git, disk, tools) does not allow the command."""

    exit_code = 11


class DataError(RcvitError):
    """Input data is broken; the message names file and record."""

    exit_code = 12


class ValidationError(RcvitError):
    """The Great Expectations suite found errors in the generated data."""

    exit_code = 13


class TrainingError(RcvitError):
    """Training cannot go on, and would fail the same way again."""

    exit_code = 14


class MemoryLimitError(RcvitError):
    """A rank ran out of memory, and would again with the same params."""

    exit_code = 15


class LostRankError(RcvitError):
    """A rank died or waited in vain for another; training resumes from the last complete checkpoint."""

    exit_code = 16
    retry_helps = True


class RegistryError(RcvitError):
    """The model registry refuses or lacks what was asked for."""

    exit_code = 17


class StageError(RcvitError):
    """A DVC stage failed in a way its own record does not explain."""

    exit_code = 18


class PreemptedError(RcvitError):
    """The machine was asked for by its owner; training saved a checkpoint and stopped."""

    exit_code = 19


class EndpointError(RcvitError):
    """The LLM endpoint gave no answer in all tries; what was answered is kept."""

    exit_code = 20
    retry_helps = True


class BudgetError(RcvitError):
    """The next LLM call could cost more than is allowed; what was answered is kept."""

    exit_code = 21


class BugError(RcvitError):
    """A rank met what we did not expect: a mistake of ours."""

    exit_code = BUG_EXIT_CODE


def error_class(exit_code: int) -> type[RcvitError]:
    """The class whose `exit_code` a stage ended with; `StageError` for any other code."""
    for cls in RcvitError.__subclasses__():
        if cls.exit_code == exit_code:
            return cls
    return StageError
