"""The survey's tables as HTML files of their own, each table as a grid; see `bertprof.report.page.grid`."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from markupsafe import Markup

from bertprof.report import beside, survey_methods, table1, table2, table2_lines
from bertprof.report.page.carried import carried
from bertprof.report.page.grid import Cell, Column, Grid, Line, Value, tip
from bertprof.report.palette import color_of
from bertprof.report.table2 import SURVEY
from bertprof.report.template import isolated, loaded
from bertprof.survey.methods import Methods, Metric
from bertprof.survey.table1 import COLUMNS
from bertprof.survey.table2 import Table2

_UNKNOWN = ("–", "")
"""Texts of cells of which nothing is known."""

# Table 1 --------------------------------------------------------------------------------------------------------------


def table1_page(document: Methods) -> str:
    """The matrix, where it disagrees and why, what each method changes, how to read it."""
    return loaded("table1.html").render(
        document=document,
        title=table1.TITLE,
        survey=SURVEY,
        headline=table1.headline(document),
        setting=" · ".join(beside.setting(document)),
        caveats=_of_methods(document),
        key=table1.key(document),
        matrix=_matrix(document),
        methods=_changes(document),
        disagreements=table1.disagreements(document),
        legend=table1.legend(document),
        name=survey_methods.name,
        details=survey_methods.details,
        carried=carried(document, "table1"),
    )


def table1_fragment(document: Methods) -> str:
    """The matrix, the answer and the disagreements, for a notebook."""
    return loaded("survey_fragment.html").render(
        parts=[(table1.TITLE, _matrix(document))],
        headline=table1.headline(document),
        disagreements=table1.disagreements(document),
    )


def _matrix(document: Methods) -> Grid:
    lines = [
        Line(
            table1.AS_PRINTED[target],
            [Cell(text := table1.text(cell, gap=" "), text, tone=table1.tone(cell)) for cell in cells],
            tip=tip(*(f"{cell.column}: {', '.join(cell.methods)}" for cell in cells if cell.methods)),
        )
        for target, cells in table1.matrix(document).items()
    ]
    columns = [Column(column, column, word=True) for column in COLUMNS]
    return Grid("component", "Printed mark, and what is measured to change, by component.", columns, lines)


def _changes(document: Methods) -> Grid:
    columns = [Column("table1", "Table 1", word=True)]
    columns += [Column(f"changes_{target}", text, word=True) for target, text in table1.AS_PRINTED.items()]
    columns += [Column(f"{field}_percent", header) for field, header in table1.TOTALS.items()]
    lines = []
    for row in document.rows:
        words = [survey_methods.short_columns(row.columns), *table1.method_marks(row)]
        figures = {field: table1.total(row, field) for field in table1.TOTALS}
        record = survey_methods.total_record(row)
        numbers = [Cell(text, _number(record[f"{field}_percent"], text)) for field, text in figures.items()]
        lines.append(Line(survey_methods.name(row), [*(Cell(word, word) for word in words), *numbers]))
    return Grid("method", "What each method changes of BERT-base, and what is left of it.", columns, lines)


# The methods ----------------------------------------------------------------------------------------------------------

_METHODS: Mapping[str, str] = MappingProxyType(
    {
        "columns": "table1",
        "size": "size_percent",
        "parameters": "parameters_percent",
        "macs": "macs_percent",
        "time": "time_percent",
        "speedup": "speedup",
        "later_size": "later_size_percent",
        "later_speed": "later_gpu_cpu_speedup",
    }
)
"""What a program calls the columns of the methods."""

_BARS = ("size", "macs", "time")
"""Columns with a bar behind their cells."""


def methods_page(document: Methods, figure: Markup) -> str:
    """The methods as a whole, drawn and in a table, then by component, how to read it, and each by itself."""
    panels = survey_methods.panels(document)
    return loaded("survey_methods.html").render(
        document=document,
        title=survey_methods.TITLE,
        survey=SURVEY,
        headline=survey_methods.headline(document),
        setting=" · ".join(beside.setting(document)),
        caveats=_of_methods(document),
        legend=survey_methods.legend(document),
        whole=_whole(document),
        panels=[(survey_methods.PANELS[metric], _by_group(document, metric)) for metric in panels],
        choices={"metric": [(survey_methods.PANELS[metric],) * 2 for metric in panels]},
        name=survey_methods.name,
        details=survey_methods.details,
        figure=figure,
        carried=carried(document, "methods"),
    )


def methods_fragment(document: Methods) -> str:
    """The methods as a whole, for a notebook."""
    return loaded("survey_fragment.html").render(
        parts=[(survey_methods.TITLE, _whole(document))],
        headline=survey_methods.headline(document),
        disagreements=[],
    )


def _whole(document: Methods) -> Grid:
    columns = survey_methods.columns(document)
    texts = [[survey_methods.cell(row, c.field) for c in columns] for row in survey_methods.rows(document)]
    records = [survey_methods.total_record(row) for row in survey_methods.rows(document)]
    longest = {c.field: _longest(record.get(_METHODS[c.field]) for record in records) for c in columns}
    lines = []
    for row, own, record in zip(survey_methods.rows(document), texts, records, strict=True):
        cells = []
        for column, text in zip(columns, own, strict=True):
            value = _number(record.get(_METHODS[column.field], text), text)
            bar = _bar(value, longest[column.field]) if column.field in _BARS else None
            cells.append(Cell(text, value, bar, survey_methods.tone(row, column.field)))
        lines.append(Line(survey_methods.name(row), cells))
    heads = [Column(_METHODS[c.field], c.header, word=c.field in survey_methods.WORDS) for c in columns]
    return Grid("method", "In % of BERT-base; speed-up against BERT-base.", heads, lines)


def _by_group(document: Methods, metric: Metric) -> Grid:
    groups = survey_methods.groups(document)
    columns = [Column(f"{group}_{metric}_percent", _swatched(group)) for group in groups]
    lines = []
    for row in survey_methods.rows(document):
        if row.measured is None:
            continue
        own = [survey_methods.group_cell(row, metric, group) for group in (*groups, None)]
        values = [
            row.measured.percent(metric, None if group is None else row.measured.of(*survey_methods.GROUPS[group]))
            for group in (*groups, None)
        ]
        cells = [Cell(text, value) for text, value in zip(own, values, strict=True)]
        lines.append(Line(survey_methods.name(row), cells))
    total = Column(f"{metric}_percent", "total")
    return Grid("method", survey_methods.panel_caption(metric), [*columns, total], lines)


def _swatched(group: str) -> Markup:
    return Markup('<span class="swatch" style="background:{}"></span>{}').format(color_of(group), group)


# Table 2 --------------------------------------------------------------------------------------------------------------

_TABLE2: Mapping[str, str] = MappingProxyType(
    {
        "printed_size": "printed_size_percent",
        "rule_percent": "printed_rule_percent",
        "macs": "macs_factor",
        "later_size": "later_size_percent",
        "own_size": "beside_later_percent",
        "later_rest": "later_size_percent_without_embedding",
        "own_rest": "beside_later_percent_without_embedding",
        "gpu_speedup": "later_gpu_speedup",
        "cpu_speedup": "later_cpu_speedup",
        "here": "speedup",
        "mnli": "printed_mnli",
        "qqp": "printed_qqp_accuracy",
        "sst2": "printed_sst2",
        "squad_f1": "printed_squad_f1",
        "printed_ratio": "printed_size_per_accuracy",
        "ratio": "size_per_accuracy",
    }
)
"""What a program calls the columns of Table 2 that it does not call as we do; see `bertprof.report.table2.record`."""

_CAPTIONS: Mapping[table2.Part, str] = MappingProxyType(
    {
        "cost": "Sizes and speed-ups: print is as printed, the others are ours.",
        "later": "The same as the later edition prints them, and ours beside.",
        "accuracy": "Accuracies as printed; the ratio computed from them.",
    }
)


def table2_page(table: Table2) -> str:
    """The parts of the table, each a grid, what their columns mean, and what must be known of each row."""
    return loaded("table2.html").render(
        table=table,
        title=table2.TITLE,
        survey=SURVEY,
        headline=table2_lines.headline(table),
        setting=" · ".join(beside.setting(table)),
        caveats=_linked(
            {i: table2.name(row) for i, row in enumerate(table.rows, 1) if table2_lines.has_caveats(row)},
            "the times of ",
        ),
        legend=table2_lines.legend(table),
        parts=_parts(table),
        name=table2.name,
        details=lambda row: table2_lines.details(table, row),
        carried=carried(table, "table2"),
    )


def table2_fragment(table: Table2) -> str:
    """The parts of the table, for a notebook."""
    return loaded("survey_fragment.html").render(
        parts=_parts(table), headline=table2_lines.headline(table), disagreements=[]
    )


def _parts(table: Table2) -> list[tuple[str, Grid]]:
    """Title and table of each part in which something stands."""
    return [(title, _part(table, part)) for part, title in table2.PARTS.items() if table2.columns(table, part)]


def _part(table: Table2, part: table2.Part) -> Grid:
    columns = table2.columns(table, part)
    lines = []
    for line in table2.lines_of(table, part):
        label, system = table2.in_line(line, part)
        record = table2.record(line)
        cells = [Cell(label, label)]
        for column in columns:
            text = table2.cell(line, column.field)
            value = _number(record[_TABLE2.get(column.field, column.field)], text)
            cells.append(Cell(text, value, tone=table2.tone(line, column.field)))
        lines.append(Line(system, cells))
    heads = [Column("row", "row", word=True)]
    heads += [
        Column(_TABLE2.get(c.field, c.field), c.header, word=c.field == "speedup", group=c.group) for c in columns
    ]
    return Grid("system", _CAPTIONS[part], heads, lines)


# Caveats --------------------------------------------------------------------------------------------------------------


_MOST_LINKED = 8


def _of_methods(document: Methods) -> list[Markup]:
    rows = enumerate(document.rows, 1)
    return _linked({i: survey_methods.name(row) for i, row in rows if survey_methods.has_caveats(row)})


def _linked(names: Mapping[int, str], what: str = "") -> list[Markup]:
    """Who has caveats, by number and name, linked to the details where these stand; see `survey_details.html`."""
    if not names:
        return []
    if len(names) > _MOST_LINKED:
        return [Markup('caveats of {}{} rows: see <a href="#each">each</a>').format(what, len(names))]
    links = (Markup('<a href="#row-{}">{}</a>').format(i, isolated(name)) for i, name in names.items())
    return [Markup("caveats of {}{}: see each").format(what, Markup(", ").join(links))]


# Values ---------------------------------------------------------------------------------------------------------------


def _number(value: object, text: str) -> Value:
    """The value of a cell for a program: none where its text says that nothing is known."""
    return value if text not in _UNKNOWN and isinstance(value, str | int | float) else None


def _longest(values: Iterable[object]) -> float:
    """What the whole width of a column stands for: 100 %, or more where a figure of it is more."""
    return max([100.0, *(value for value in values if isinstance(value, int | float))])


def _bar(value: Value, longest: float) -> float | None:
    return 100 * value / longest if isinstance(value, int | float) else None
