"""Panels: what a report of a breakdown shows behind its main table, each a small table with a sentence or two.

A panel is there only where the record holds what it shows.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bertprof.record import Breakdown


class Panel(NamedTuple):
    """A small table.

    Attributes:
        title: what it shows, in a few words.
        headers: of its columns; the first is that of the rows' names.
        rows: as many cells each; texts as they are printed.
        notes: how to read it, one sentence each.
        total: a last row that sums the others up; empty: none.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    total: Sequence[str] = ()


def panels(breakdown: Breakdown) -> list[Panel]:
    """The panels of a record, in the order in which they are shown."""
    from bertprof.report import clocks, energy, memory

    found = (clocks.panel(breakdown), energy.panel(breakdown), memory.panel(breakdown), memory.fits_panel(breakdown))
    return [panel for panel in found if panel is not None]
