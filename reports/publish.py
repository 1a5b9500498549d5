"""Renders what is published here from what was measured, and writes the index. It measures nothing.

`make reports` measures and then runs it; `make published` runs it alone, as after a change of a renderer. The tests
compare what it makes with what is committed, so that nothing here goes stale.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bertprof import documents, formatting, report, schema
from bertprof.cli.survey import file_name
from bertprof.files import write_whole
from bertprof.record import Breakdown
from bertprof.report import lines, survey_methods
from bertprof.survey import claims
from bertprof.survey.methods import Methods, Row
from bertprof.survey.table2 import Table2

FOLDER = Path(__file__).parent

FIGURE2, METHODS, TABLE2 = "figure2-cpu", "methods-cpu", "table2-cpu"
"""Folders, each with a page that carries what was measured, and what else is made of that."""

PAGES = f"{METHODS}/pages"
"""One page a method; each carries the diff of which it is."""

SHOWN = ("q8bert", "tinybert4")
"""Methods whose pages are shown in pictures as well: one changes the kernels, one the structure."""


class Rendering(NamedTuple):
    """A file, of what it is made, and how."""

    file: str
    source: str
    how: tuple[tuple[str, str], ...] = ()


def renderings(folder: Path) -> Iterator[Rendering]:
    """What is made, the index aside."""
    for suffix in ("html", "md", "png"):
        yield Rendering(f"{FIGURE2}/figure2.{suffix}", f"{FIGURE2}/figure2.html")
    for figure in ("units", "roofline"):
        yield Rendering(f"{FIGURE2}/{figure}.png", f"{FIGURE2}/figure2.html", (("figure", figure),))
    for suffix in ("html", "md", "png"):
        yield Rendering(f"{METHODS}/methods.{suffix}", f"{METHODS}/methods.html")
    for suffix in ("html", "md"):
        yield Rendering(f"{METHODS}/table1.{suffix}", f"{METHODS}/methods.html", (("view", "table1"),))
        yield Rendering(f"{TABLE2}/table2.{suffix}", f"{TABLE2}/table2.html")
    for page in sorted((folder / PAGES).glob("*.html")):
        source = page.relative_to(folder).as_posix()
        yield Rendering(source, source)
    for method in SHOWN:
        source = f"{PAGES}/{method}.html"
        yield Rendering(f"{METHODS}/{method}.png", source, (("figure", "waterfall"),))


def rendered(folder: Path, rendering: Rendering) -> bytes:
    """A file's content."""
    document = documents.load_any(folder / rendering.source)
    how: dict[str, Any] = dict(rendering.how)
    if isinstance(document, Methods):
        document.view = how.pop("view", "methods")
    if isinstance(document, Breakdown) and "figure" not in how:
        how["claims"] = claims.check(document)
    return report.render(document, Path(rendering.file), **how)


# The index ------------------------------------------------------------------------------------------------------------


def index(folder: Path) -> str:
    """README.md of the folder: what there is, with pictures."""
    figure2, methods, table2 = (
        documents.load_any(folder / name)
        for name in (f"{FIGURE2}/figure2.html", f"{METHODS}/methods.html", f"{TABLE2}/table2.html")
    )
    assert isinstance(figure2, Breakdown)
    assert isinstance(methods, Methods)
    assert isinstance(table2, Table2)
    holds = [verdict.answer for verdict in claims.check(figure2)]
    parts = [
        "# Published results",
        "Measured and written by `make reports`; `make published` renders them again from the records, and the tests\n"
        "compare both with what is committed. Every HTML page works offline and carries its record: `bertprof report\n"
        "PAGE.html` reads it back.",
        f"Machine: {lines.host_line(figure2)}.",
        "## Figure 2: where the cost of BERT-base stands",
        f"{lines.workload_line(figure2)}. {lines.headline(figure2)} {holds.count('yes')} of {len(holds)} claims of the "
        f"survey hold here: [table and claims]({FIGURE2}/figure2.md), [page]({FIGURE2}/figure2.html).",
        _picture("Memory, FLOPs and run time by component", f"{FIGURE2}/figure2.png"),
        "By unit and component, and what bounds each component on this machine:",
        _picture("Time of each component of each unit", f"{FIGURE2}/units.png"),
        _picture("The roofline of this machine, with a point a component", f"{FIGURE2}/roofline.png"),
        "## The methods, and Table 1",
        f"Each method of the survey beside BERT-base: [all in one table]({METHODS}/methods.md) "
        f"([page]({METHODS}/methods.html)), [Table 1]({METHODS}/table1.md) ([page]({METHODS}/table1.html)), and a page "
        "a method, with what moved in which component and unit and why.",
        _picture("Size, MACs and time of each method by component", f"{METHODS}/methods.png"),
        _methods(folder, methods),
        "From BERT-base to Q8BERT, by other kernels, and to TinyBERT4, by another structure:",
        *(
            _picture(f"From BERT-base to {method}, component by component", f"{METHODS}/{method}.png")
            for method in SHOWN
        ),
        "## Table 2",
        f"Each row of the survey's Table 2, printed beside measured: [table]({TABLE2}/table2.md), "
        f"[page]({TABLE2}/table2.html).",
        "## How good the tool is",
        "[benchmarks.md](benchmarks.md): overhead, closure, planted costs, how often a diff errs (`make bench`).\n"
        "[peers.md](peers.md): what other counters say of the same models (`make bench-peers`).",
    ]
    return "\n\n".join(parts) + "\n"


def _picture(what: str, file: str) -> str:
    return f"![{what}]({file})"


def _methods(folder: Path, methods: Methods) -> str:
    """The methods as a table of Markdown, each with its page."""
    head = ["method", "Table 1", "size %", "MACs %", "speed-up", "paper"]
    rules = ["---", "---", "---:", "---:", "---", "---"]
    found = [head, rules, *(_method(folder, row) for row in methods.rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in found)


def _method(folder: Path, row: Row) -> list[str]:
    page = f"{PAGES}/{file_name(row.name)}.html"
    name = survey_methods.name(row)
    cells = [survey_methods.cell(row, field) for field in ("columns", "size", "macs", "speedup")]
    return [f"[{name}]({page})" if (folder / page).exists() else name, *cells, formatting.line(row.paper)]


def _carried(content: bytes, rendering: Rendering) -> bytes:
    """What a page carries."""
    return schema.unpacked(content, rendering.file)


def main(folder: Path) -> None:
    """Writes all of it."""
    for rendering in renderings(folder):
        content = rendered(folder, rendering)
        if rendering.file == rendering.source:  # which alone has what was measured
            assert _carried(content, rendering) == _carried((folder / rendering.file).read_bytes(), rendering)
        write_whole(folder / rendering.file, content)
    write_whole(folder / "README.md", index(folder).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
