"""What can go wrong for reasons a user can mend, each with its exit code.

Every message is one line that says what is wrong and what to do about it. Anything else that escapes is a bug
in fatbench, and exits with 1.
"""


class FatbenchError(Exception):
    """A failure that the user can mend; the command line prints its message and exits with `exit_code`."""

    exit_code = 1


class UsageError(FatbenchError):
    """A flag, file or value that cannot be right: unknown name, malformed record, wrong-shaped data."""

    exit_code = 2


class InvalidRunError(FatbenchError):
    """The run itself broke a contract: diverged, or a model that does not keep the model contract."""

    exit_code = 4


class ResourceError(FatbenchError):
    """Something the machine lacks: data that is not there, a device, memory, a place to write."""

    exit_code = 6
