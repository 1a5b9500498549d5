"""Reports: a document in, a record, a diff, a table or the methods of the survey, text or bytes out.

A renderer opens no files and measures nothing. The suffix of the file that is asked for picks it. Heavy libraries are
imported by the renderers that need them, when they run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bertprof import schema
from bertprof.difference import Diff
from bertprof.errors import UsageError
from bertprof.record import Breakdown
from bertprof.report import figures
from bertprof.survey.claims import Verdict
from bertprof.survey.methods import Methods
from bertprof.survey.table2 import Table2

TRACE = ".trace.json"
"""What the name of a Chrome trace ends with; Perfetto and chrome://tracing read it."""

Claims = Sequence[Verdict]
OfSurvey = Table2 | Methods
Document = Breakdown | Diff | OfSurvey


class _Renderers(Protocol):
    """The module that renders one kind of document of the survey."""

    def terminal(self, document: Any, /, width: int = ..., color: bool = ...) -> str: ...
    def markdown(self, document: Any, /) -> str: ...
    def csv(self, document: Any, /) -> str: ...
    def page(self, document: Any, /) -> str: ...


def _of_survey(document: OfSurvey) -> _Renderers:
    if isinstance(document, Table2):
        from bertprof.report import table2_renderers

        return table2_renderers
    if document.view == "table1":
        from bertprof.report import table1_renderers

        return table1_renderers
    from bertprof.report import survey_methods_renderers

    return survey_methods_renderers


@dataclass(frozen=True)
class Shown:
    """How a document is shown.

    Attributes:
        by: the view; see `bertprof.report.rows.table` and `bertprof.report.changes.table`. What is of the survey has
            one only.
        claims: the survey's claims as checked against a record; Markdown and HTML show them.
        wide: Markdown and HTML tables with all that is known; CSV and what is of the survey always have it.
        figure: which figure is drawn as PNG or SVG, by its name in `bertprof.report.figures`; None: the usual one.
        width_mm: how wide that is in print; None: `bertprof.report.figures.WIDTH_MM`.
    """

    by: str = "component"
    claims: Claims = ()
    wide: bool = False
    figure: str | None = None
    width_mm: float | None = None


def _json(document: Document, shown: Shown) -> bytes:
    return schema.encode(document)


def _csv(document: Document, shown: Shown) -> bytes:
    if isinstance(document, OfSurvey):
        return _of_survey(document).csv(document).encode()
    from bertprof.report import csv

    return (csv.render_diff(document) if isinstance(document, Diff) else csv.render(document, shown.by)).encode()


def _markdown(document: Document, shown: Shown) -> bytes:
    if isinstance(document, OfSurvey):
        return _of_survey(document).markdown(document).encode()
    from bertprof.report import markdown

    if isinstance(document, Diff):
        return markdown.render_diff(document, shown.by, shown.wide).encode()
    return markdown.render(document, shown.by, shown.claims, shown.wide).encode()


def _page(document: Document, shown: Shown) -> bytes:
    if isinstance(document, OfSurvey):
        return _of_survey(document).page(document).encode()
    from bertprof.report import page

    if isinstance(document, Diff):
        return page.render_diff(document, shown.by, shown.wide).encode()
    return page.render(document, shown.by, shown.claims, shown.wide).encode()


def _png(document: Document, shown: Shown) -> bytes:
    from bertprof.report import figure

    return figure.render([document], "png", shown.figure, shown.width_mm)


def _svg(document: Document, shown: Shown) -> bytes:
    from bertprof.report import figure

    return figure.render([document], "svg", shown.figure, shown.width_mm)


RENDERERS: Mapping[str, Callable[[Document, Shown], bytes]] = {
    ".json": _json,
    ".html": _page,
    ".png": _png,
    ".svg": _svg,
    ".csv": _csv,
    ".md": _markdown,
}
"""File suffix → renderer: a document and how to show it in, the file's content out."""

DRAWN = (".png", ".svg")
"""Suffixes of figures."""


def check_suffix(path: Path, kind: type[Document] = Breakdown) -> None:
    """Makes sure that a document of a kind can be rendered as a file of that name.

    Raises:
        UsageError: no renderer has that suffix, or there is no figure of such documents.
    """
    if path.name.lower().endswith(TRACE):
        raise UsageError(f"-o {path}: a trace is of a forward as it runs; `bertprof breakdown MODEL -o {path.name}`")
    if path.suffix.lower() not in RENDERERS or not path.name:
        found = f"{path.suffix!r} is no known suffix" if path.suffix else "it has no suffix"
        raise UsageError(f"-o {path}: {found}; use one of {', '.join(RENDERERS)}")
    if path.suffix.lower() in DRAWN:
        try:
            figures.usual(figures.KINDS[kind])
        except UsageError as error:
            others = ", ".join(suffix for suffix in RENDERERS if suffix not in DRAWN)
            raise UsageError(f"-o {path}: {error}; use one of {others}") from None


def render(
    document: Document,
    path: Path,
    by: str = "component",
    claims: Claims = (),
    wide: bool = False,
    figure: str | None = None,
    width_mm: float | None = None,
) -> bytes:
    """The content of a report file, by its suffix.

    Args:
        document: a record, a diff, a table or the methods of the survey.
        path: where it will go; only its suffix matters here.
        by: see `Shown`, as of all that follow.
        claims: those of the survey.
        wide: all that is known.
        figure: which figure.
        width_mm: how wide that is.

    Raises:
        UsageError: no renderer has that suffix, or there is no such view or figure of such a document.
    """
    check_suffix(path, type(document))
    figures.check(figure, width_mm, figures.kind_of([document]))
    _check_view(document, by)
    return RENDERERS[path.suffix.lower()](document, Shown(by, claims, wide, figure, width_mm))


def _check_view(document: Document, by: str) -> None:
    if isinstance(document, OfSurvey) and by != "component":
        named = "the survey's Table 2 has" if isinstance(document, Table2) else "the survey's methods have"
        raise UsageError(f"{named} no view by {by!r}: leave --by out")


def render_several(
    breakdowns: Sequence[Breakdown],
    path: Path,
    by: str = "component",
    wide: bool = False,
    figure: str | None = None,
    width_mm: float | None = None,
) -> bytes:
    """Records side by side as a report file, by its suffix.

    Args:
        breakdowns: the records; figures are shown against those of the first.
        path: where it will go; only its suffix matters here.
        by: the view; see `bertprof.report.rows.table`.
        wide: tables with the rows' parameters, MACs and FLOPs beside their time; CSV always has them.
        figure: which figure, as PNG or SVG; see `Shown`.
        width_mm: how wide that is.

    Raises:
        UsageError: no renderer has that suffix, JSON holds one record, or there is no such view or figure.
    """
    check_suffix(path)
    figures.check(figure, width_mm, figures.kind_of(breakdowns))
    match path.suffix.lower():
        case ".json":
            raise UsageError(f"-o {path}: JSON holds one record; use .md, .html, .csv, .png or .svg for several")
        case ".html":
            from bertprof.report import page

            return page.render_several(breakdowns, by, wide).encode()
        case ".csv":
            from bertprof.report import csv

            return csv.render_several(breakdowns, by).encode()
        case ".md":
            from bertprof.report import markdown

            return markdown.render_several(breakdowns, by, wide).encode()
        case suffix:
            from bertprof.report import figure as drawing

            return drawing.render(breakdowns, "png" if suffix == ".png" else "svg", figure, width_mm)


def render_all(
    documents: Sequence[Document],
    path: Path,
    by: str = "component",
    wide: bool = False,
    figure: str | None = None,
    width_mm: float | None = None,
) -> bytes:
    """One document, or several records side by side, as a report file; see `render` and `render_several`.

    Raises:
        UsageError: as those do, or one of several documents is no record.
    """
    if len(documents) == 1:
        return render(documents[0], path, by, wide=wide, figure=figure, width_mm=width_mm)
    return render_several(_records(documents), path, by, wide, figure, width_mm)


def text_of_all(documents: Sequence[Document], by: str, width: int, wide: bool, color: bool) -> str:
    """The same for a terminal `width` columns wide.

    Raises:
        UsageError: there is no such view, or one of several documents is no record.
    """
    from bertprof.report import terminal

    if len(documents) > 1:
        return terminal.render_several(_records(documents), by, width, color, wide)
    only = documents[0]
    if isinstance(only, OfSurvey):
        _check_view(only, by)
        return _of_survey(only).terminal(only, width, color)
    if isinstance(only, Diff):
        return terminal.render_diff(only, by, width, color, wide)
    return terminal.render(only, by, width, color, wide)


def _records(documents: Sequence[Document]) -> list[Breakdown]:
    """Documents that are all records."""
    found = [document for document in documents if isinstance(document, Breakdown)]
    if len(found) < len(documents):
        kind = "a diff" if any(isinstance(document, Diff) for document in documents) else "a table of the survey"
        raise UsageError(f"only records stand side by side, and {kind} was given with other files; report it alone")
    return found
