"""Lists in the terminal: the survey's claims and the known models."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from bertprof import formatting
from bertprof.catalog import Entry
from bertprof.report.console import EDGES, GAP, console_of, trimmed
from bertprof.survey.claims import Verdict

WIDE = 100
"""From this width on the claims are shown with what the survey says."""


def render_claims(verdicts: Sequence[Verdict], width: int = 100, color: bool = False) -> str:
    """The survey's claims, one row each: claim, section, what the survey says, what was measured, whether it holds."""
    console, stream = console_of(width, color)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_lines=False)
    wide = width >= WIDE
    table.add_column("claim", ratio=3)
    table.add_column("§", no_wrap=True)
    if wide:
        table.add_column("the survey says", ratio=4)
    table.add_column("measured here", ratio=4)
    table.add_column("holds?", no_wrap=True)
    table.expand = True
    styles = {"yes": "green", "no": "bold red"}
    for verdict in verdicts:
        cells = [verdict.claim.title, verdict.claim.section, *([verdict.claim.says] if wide else []), verdict.measured]
        table.add_row(*(Text(c) for c in cells), Text(verdict.answer, style=styles.get(verdict.answer, "yellow")))
    console.print(table)
    return trimmed(stream)


def render_models(entries: Sequence[Entry], width: int = 100, color: bool = False) -> str:
    """The known models: name, family, L, H, A, parameters.

    Where there is room, all the names that a model goes by beside its organisation's, else the short one alone; and
    the family.
    """
    console, stream = console_of(width, color)
    figures = [_figures(entry) for entry in entries]
    room = width - EDGES - sum(GAP + max(map(len, column)) for column in zip(_SIZES, *figures, strict=True))
    names = [", ".join(entry.aliases or (entry.name,)) for entry in entries]
    if max(map(cell_len, names)) > room:
        names = [entry.short_name for entry in entries]
    room -= max(map(cell_len, names)) + GAP
    with_family = max(len(entry.family) for entry in entries) <= room
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("name", overflow="fold", min_width=12)
    if with_family:
        table.add_column("family", no_wrap=True)
    for header in _SIZES:
        table.add_column(header, justify="right", no_wrap=True)
    for name, entry, sizes in zip(names, entries, figures, strict=True):
        table.add_row(name, *([entry.family] if with_family else []), *sizes)
    console.print(table)
    text = "L encoder units, or layers of a student's backbone, H hidden size, A attention heads; "
    console.print(Text(f"{text}parameters of the base model", style="dim"))
    return trimmed(stream)


_SIZES = ("L", "H", "A", "parameters")


def _figures(entry: Entry) -> tuple[str, str, str, str]:
    layers, hidden, heads = entry.size
    return str(layers), str(hidden), "–" if heads is None else str(heads), formatting.exact(entry.parameters)
