"""What every command shares: one way of failing, of printing and of showing progress."""

import io
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from bertprof import report
from bertprof.cli import encoding
from bertprof.errors import BertprofError, OutputError

DEFAULT_WIDTH = 120
"""Columns of a table that goes to no terminal, unless COLUMNS says otherwise."""


def command() -> str:
    """The command line as it was typed, for a document to tell how to make it again."""
    return shlex.join(["bertprof", *sys.argv[1:]])


class Commands(TyperGroup):
    """The commands, with one way of failing: one line on stderr and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command line; see `TyperGroup.main`."""
        arguments = sys.argv[1:] if args is None else list(args)

        def run() -> Any:
            return super(Commands, self).main(arguments, prog_name, complete_var, False, windows_expand_args, **extra)

        if not standalone_mode:
            return run()
        try:
            code = run()
        except BertprofError as error:
            code = _fail(str(error), error.exit_code, error, arguments)
        except Exception as error:
            code = _unexpected(error, arguments)
        sys.exit(code if isinstance(code, int) else 0)


def _unexpected(error: Exception, arguments: Sequence[str]) -> int:
    """The parser's own errors, and ours that should not be."""
    if not hasattr(error, "format_message"):
        return _fail(f"internal error: {type(error).__name__}: {error}; --debug shows where", 2, error, arguments)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
        return 2
    said = error.format_message().replace("Value error, ", "").rstrip(".")  # the words of who validates are not ours
    return _fail(f"{said} (see --help)", 2, error, arguments)


def _fail(message: str, code: int, error: BaseException, arguments: Sequence[str]) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exception(error)
    typer.echo(f"bertprof: {' '.join(message.split())}", err=True)
    return code


def show(text: str) -> None:
    """Prints a result to standard output.

    Raises:
        OutputError: it cannot be written.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        text = encoding.held_by(sys.stdout.encoding, text)
        sys.stdout.reconfigure(errors="replace")  # what has no stand-in; the figures always have
    try:
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.write(text)
            sys.stdout.flush()
    except BrokenPipeError:  # who reads has had enough; the exit code still tells
        sys.stdout = None
    except OSError as error:
        sys.stdout = None  # what is left in its buffer would fail once more at exit
        raise OutputError(f"cannot write to standard output: {error.strerror}") from None


def show_documents(documents: Sequence[report.Document], by: str, wide: bool = False) -> None:
    """Prints the table of a document, or of several records, as wide and as colourful as the terminal."""
    show(report.text_of_all(documents, by, width(), wide, color()))


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def width() -> int:
    """Columns of the terminal, or of a table that goes to none."""
    if _is_terminal(sys.stdout) or "COLUMNS" in os.environ:
        return max(20, shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns)
    return DEFAULT_WIDTH


def color() -> bool:
    """Whether to write colours: to a terminal that has not asked for none."""
    return _is_terminal(sys.stdout) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr; none where stderr is no terminal."""
    if not _is_terminal(sys.stderr):
        yield lambda step, fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # It is drawn between the forwards only: a thread that draws would run into what is timed.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("loading torch", total=None)
        bar.refresh()
        drawn = [-1.0]

        def update(step: str, fraction: float) -> None:
            bar.update(
                task, description=step, total=1.0 if fraction > 0 or step == "timing" else None, completed=fraction
            )
            if time.monotonic() - drawn[0] > 0.1:
                bar.refresh()
                drawn[0] = time.monotonic()

        yield update
