"""What can go wrong, and the exit code that each kind of it has on the command line.

Every error's text is one line that says what is wrong, where, and what to do about it.
"""


class BertprofError(Exception):
    """Base of every error that bertprof raises on purpose.

    Attributes:
        exit_code: the exit code of the command line for this kind of error.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        # One line, whatever a library put into its own message.
        super().__init__(" ".join(message.split()))


class UsageError(BertprofError):
    """An option or argument has a value that cannot be used."""


class UnknownModelError(BertprofError):
    """The model's name is in no catalogue, on no disk and, as far as can be told, on no hub."""


class ConfigurationError(BertprofError):
    """A model's configuration cannot be read, or no model can be built from it."""


class UnsupportedModelError(BertprofError):
    """The model is of an architecture whose anatomy bertprof does not know."""


class DeviceError(BertprofError):
    """The device that was asked for is not there or cannot hold the work."""


class RecordError(BertprofError):
    """A saved record cannot be read or is not a valid record."""


class OutputError(BertprofError):
    """A file cannot be written."""


# The text of others' errors, of which some are a page long.


def shortened(error: BaseException) -> str:
    """An error's text as far as one line bears it, since some print a whole model; its kind where it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
