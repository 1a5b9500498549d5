"""Bars in the terminal's tables: drawn to an eighth of a character, in the room that the figures leave."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from bertprof.report.console import GAP, fitting

BAR = "bar"
"""The column of bars among the others."""

LEAST, USUAL, MOST = 6, 8, 24
"""Characters of the longest bar: fewer tell nothing; so many come before the columns that are wanted less; more are
not easier to read."""

_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")

C = TypeVar("C")


def lengths(shares: Sequence[float | None]) -> list[float]:
    """How long each row's bar is against the longest, 0 to 1; a share below 0 is as long as above."""
    sizes = [abs(share or 0.0) for share in shares]
    longest = max(sizes, default=0.0)
    return [size / longest if longest else 0.0 for size in sizes]


def drawn(length: float, width: int) -> str:
    """A bar of a length from 0 to 1, where 1 is `width` characters, to the nearest eighth of one."""
    whole, part = divmod(round(8 * width * length), 8)
    return "█" * whole + _EIGHTHS[part]


def placed(
    wanted: Sequence[C], needed: Mapping[C, int], room: int, behind: Mapping[C, C], bar: C, enough: int = USUAL
) -> tuple[list[C], int]:
    """The columns for which there is room, and the characters of the longest bar; 0: it has no column.

    Args:
        wanted: the columns, `bar` among them, most wanted first; see `bertprof.report.console.fitting`.
        needed: the characters that each of the others takes, with its gap.
        room: the characters that there are.
        behind: a column that is shown only with another one → that one.
        bar: the column of bars. It grows into what is left over.
        enough: of so many characters it comes before the columns that are wanted less.
    """
    shown = fitting(wanted, {**needed, bar: GAP + enough}, room, behind)
    left = room - GAP - sum(needed[column] for column in shown if column != bar)
    if bar not in shown and bar in wanted and left >= LEAST and behind.get(bar, bar) in (bar, *shown):
        shown.append(bar)
    return shown, min(left, MOST) if bar in shown else 0
