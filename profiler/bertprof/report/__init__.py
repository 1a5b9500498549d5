"""Reports: a record in, text or bytes out. A renderer opens no files and measures nothing.

The suffix of the file that is asked for picks the renderer. Heavy libraries are imported by the renderers that need
them, when they run.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bertprof import record
from bertprof.errors import UsageError
from bertprof.record import Breakdown
from bertprof.survey.claims import Verdict

Claims = Sequence[Verdict]


@contextmanager
def quiet_matplotlib() -> Iterator[None]:
    """No word of a font cache that is built or of a folder that cannot hold one."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        yield
    finally:
        logger.setLevel(level)


def _json(breakdown: Breakdown, by: str, claims: Claims, wide: bool) -> bytes:
    return record.encode(breakdown)


def _csv(breakdown: Breakdown, by: str, claims: Claims, wide: bool) -> bytes:
    from bertprof.report import csv

    return csv.render(breakdown, by).encode()


def _markdown(breakdown: Breakdown, by: str, claims: Claims, wide: bool) -> bytes:
    from bertprof.report import markdown

    return markdown.render(breakdown, by, claims, wide).encode()


def _page(breakdown: Breakdown, by: str, claims: Claims, wide: bool) -> bytes:
    from bertprof.report import page

    return page.render(breakdown, by, claims, wide).encode()


def _png(breakdown: Breakdown, by: str, claims: Claims, wide: bool) -> bytes:
    from bertprof.report import figure

    return figure.render(breakdown, "png")


def _svg(breakdown: Breakdown, by: str, claims: Claims, wide: bool) -> bytes:
    from bertprof.report import figure

    return figure.render(breakdown, "svg")


RENDERERS: Mapping[str, Callable[[Breakdown, str, Claims, bool], bytes]] = {
    ".json": _json,
    ".html": _page,
    ".png": _png,
    ".svg": _svg,
    ".csv": _csv,
    ".md": _markdown,
}
"""File suffix → renderer: a record, a view, the survey's checked claims and `wide` in, the file's content out."""


def check_suffix(path: Path) -> None:
    """Makes sure that a file of that name can be rendered.

    Raises:
        UsageError: no renderer has that suffix.
    """
    if path.suffix.lower() not in RENDERERS or not path.name:
        found = f"{path.suffix!r} is no known suffix" if path.suffix else "it has no suffix"
        raise UsageError(f"-o {path}: {found}; use one of {', '.join(RENDERERS)}")


def render(breakdown: Breakdown, path: Path, by: str = "component", claims: Claims = (), wide: bool = False) -> bytes:
    """The content of a report file, by its suffix.

    Args:
        breakdown: the record.
        path: where it will go; only its suffix matters here.
        by: the view; see `bertprof.report.rows.table`.
        claims: the survey's claims as checked against this record; Markdown and HTML show them.
        wide: Markdown and HTML tables with traffic, intensity and activations; CSV always has them.

    Raises:
        UsageError: no renderer has that suffix, or there is no such view.
    """
    check_suffix(path)
    return RENDERERS[path.suffix.lower()](breakdown, by, claims, wide)
