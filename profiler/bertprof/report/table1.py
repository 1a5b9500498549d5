"""Table 1 of the survey beside what is measured: cells and sentences, before they are set in any format."""

from collections.abc import Mapping
from types import MappingProxyType

from bertprof import formatting
from bertprof.compress.methods import COLUMNS as DESCRIBED
from bertprof.report import survey_methods
from bertprof.report.changes import Tone
from bertprof.survey import table1
from bertprof.survey.methods import Methods, Row
from bertprof.survey.table1 import COLUMNS, TARGETS, Cell, Direction, Letter, Target

TITLE = "The survey's Table 1, printed beside what is measured to change"

AS_PRINTED: Mapping[Target, str] = MappingProxyType(
    {
        "embedding": "Embed. Layer",
        "self-attention": "Self-Attn.",
        "FFN": "FFN",
        "Transformer": "Transformer",
    }
)
"""The rows in the table's words."""

_SIGNS: Mapping[Direction, str] = MappingProxyType({"less": "", "more": "+", "both": "±"})

TOTALS: Mapping[str, str] = MappingProxyType({"size": "size %", "macs": "MACs %", "time": "time %"})
"""What is said of each method as a whole."""


def text(cell: Cell, gap: str = "") -> str:
    """A cell: the printed mark, ≠ where it disagrees, between gaps, and what changes: X PBT, –≠PBMT."""
    sign = f"{gap}≠{gap}" if cell.agrees is False else " "
    return f"{cell.printed or '–'}{sign}{''.join(cell.found)}".rstrip()


def marks(found: Mapping[Letter, Direction] | None) -> str:
    """What one method changes of one row: PB, PBMT+; a dash where nothing is known, a point where nothing changes."""
    if found is None:
        return "–"
    return "".join(f"{letter}{_SIGNS[direction]}" for letter, direction in found.items()) or "·"


def tone(cell: Cell) -> Tone:
    """How a cell is coloured; a disagreement has its sign as well."""
    return "open" if cell.agrees is False else "plain"


def matrix(document: Methods) -> dict[Target, list[Cell]]:
    """The table: its rows, each with a cell a column."""
    found = table1.cells(document)
    return {target: [cell for cell in found if cell.target == target] for target in TARGETS}


def described(column: str) -> str:
    """What a column's letters stand for."""
    return DESCRIBED[column]


# One line a method ----------------------------------------------------------------------------------------------------


def method_marks(row: Row) -> list[str]:
    """What a method changes, one cell a row of the table."""
    own = table1.own_changes(row)
    return [marks(None if own is None else own[target]) for target in TARGETS]


def total(row: Row, field: str) -> str:
    """What a method costs as a whole, or in place of its time why that is not known."""
    if field != "time":
        return survey_methods.cell(row, field)
    if row.failed is not None or row.why_not is not None:
        return "failed" if row.failed is not None else "not run"
    if row.measured is not None and row.measured.no_kernel and row.measured.before is not None:
        return "no kernel"
    return survey_methods.percent(None if row.measured is None else row.measured.percent("time"))


# In sentences ---------------------------------------------------------------------------------------------------------


def headline(document: Methods) -> str:
    """The answer in a sentence."""
    cells = [cell for cell in table1.cells(document) if cell.agrees is not None]
    wrong = table1.disagreements(document)
    missing = sum(not cell.printed for cell in wrong)
    idle = len(wrong) - missing
    found = f"{len(cells) - len(wrong)} of the {len(cells)} cells of Table 1 that were measured agree with the print"
    found += f"; in {missing} something changes where no mark is printed" if missing else ""
    return found + (f"; in {idle} nothing changes where a mark is printed." if idle else ".")


def disagreements(document: Methods) -> list[tuple[str, str]]:
    """Each disagreement: where it is, and what it is and why."""
    found = []
    for cell in table1.disagreements(document):
        where = f"{AS_PRINTED[cell.target]} × {cell.column}"
        what = f"printed {cell.printed}, nothing changes"
        if not cell.printed:
            names = ", ".join(formatting.line(name, 60) for name in cell.methods)
            what = f"not printed, {names} change{'s' if len(cell.methods) == 1 else ''} {', '.join(cell.found)}"
        found.append((where, f"{what}: {cell.reason}."))
    return found


def unexamined(document: Methods) -> list[str]:
    """The columns of which no method was measured."""
    measured = {cell.column for cell in table1.cells(document) if cell.measured}
    return [column for column in COLUMNS if column not in measured]


def key(document: Methods) -> str:
    """What the marks in the cells mean, which a reader must know before the table."""
    time = (
        "T time, of any of its components, faster or slower by its verdict; "
        if document.timed
        else "time was not measured; "
    )
    return (
        "X or 4: printed mark, – none, ? uncertain; then what the column's methods are measured to change: P "
        f"parameters that are not zero, B stored bytes, M MACs, {time}≠ where one stands without the other"
    )


def legend(document: Methods) -> list[str]:
    """How the tables are read, and how the printed one is."""
    found = [
        "of single methods: + where it grows, ± where parts of it do and others shrink, · where nothing changes",
        "Transformer counts as changed where the number of encoder units changes or another backbone stands in their "
        "place",
        "; ".join(f"{column} {described(column)}" for column in COLUMNS),
    ]
    blank = unexamined(document)
    if blank:
        found.append(f"no method was measured of {', '.join(blank)}")
    return [*found, *table1.NOTES, *map(formatting.line, document.notes)]


def not_measured(document: Methods) -> list[tuple[str, str]]:
    """The methods of which nothing, or no time, is known, and why."""
    found = []
    for row in document.rows:
        why = f"failed: {row.failed}" if row.failed is not None else f"not run: {row.why_not}"
        if row.failed is not None or row.why_not is not None:
            found.append((survey_methods.name(row), formatting.line(why, 1000)))
    return found


# For a program --------------------------------------------------------------------------------------------------------


def records(document: Methods) -> list[dict[str, object]]:
    """One entry a cell, then one a method and row of the table, whose `column` is all of its columns."""
    found = [_record(None, cell.column, cell.target, cell.found, cell.printed, cell) for cell in table1.cells(document)]
    for row in document.rows:
        own = table1.own_changes(row)
        columns = " ".join(row.columns)
        found += [_record(row.name, columns, target, None if own is None else own[target]) for target in TARGETS]
    return found


_NAMES: Mapping[str, Letter] = MappingProxyType({"parameters": "P", "bytes": "B", "macs": "M", "time": "T"})


def _record(
    method: str | None,
    column: str,
    target: Target,
    changes: Mapping[Letter, Direction] | None,
    printed: str | None = None,
    cell: Cell | None = None,
) -> dict[str, object]:
    known = changes if cell is None or cell.measured else None
    disagrees = cell is not None and cell.agrees is False
    return {
        "method": method,
        "column": column,
        "component": target,
        "printed": printed or None,
        **{name: None if known is None else known.get(letter, "same") for name, letter in _NAMES.items()},
        "agrees": None if cell is None or cell.agrees is None else "yes" if cell.agrees else "no",
        "changed_by": None if cell is None else ", ".join(cell.methods) or None,
        "reason": cell.reason if cell is not None and disagrees else None,
    }
