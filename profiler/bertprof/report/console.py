"""What the terminal's documents are written with: a console that writes to a text, and how tables are laid out."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bertprof.report.changes import Tone

EDGES = 2
GAP = 2
"""Characters that a table puts beside all its columns, and between two of them."""

STYLES: Mapping[Tone, str] = {"better": "green", "worse": "red", "open": "yellow", "plain": ""}


def console_of(width: int, color: bool) -> tuple[Console, io.StringIO]:
    """A console of that many columns, and what it writes to."""
    stream = io.StringIO()
    # Text of records is never markup.
    console = Console(
        file=stream, width=width, force_terminal=color, no_color=not color, highlight=False, markup=False, emoji=False
    )
    return console, stream


C = TypeVar("C")


def fitting(wanted: Sequence[C], needed: Mapping[C, int], room: int, behind: Mapping[C, C] | None = None) -> list[C]:
    """The columns for which there is room. One figure has to be there, however narrow.

    Args:
        wanted: the columns, most wanted first.
        needed: the characters that each takes, with its gap.
        room: the characters that there are.
        behind: a column that is shown only with another one → that one.
    """
    shown: list[C] = []
    for column in wanted:
        leads = (behind or {}).get(column, column)
        if not shown or (needed[column] <= room and leads in (column, *shown)):
            shown.append(column)
            room -= needed[column]
    return shown


def trimmed(stream: io.StringIO) -> str:
    """Without the blanks with which a table fills its lines, and which make a diff of two outputs noisy."""
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def listed(lines: Iterable[tuple[Text, Text]]) -> Table:
    """Words in a narrow column, and what is said of each beside it."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for word, text in lines:
        grid.add_row(word, text)
    return grid
