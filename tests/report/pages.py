"""A page as a test reads it."""

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """The rows of a page's tables, its tags, and what it would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self._cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        addresses = [value or "" for name, value in attrs if name in ("src", "href") and tag != "use"]
        self.fetched += [address for address in addresses if not address.startswith(("data:", "#"))]
        self.fetched += [name for name, _ in attrs if name.startswith("on")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr", "thead", "tbody", "tfoot", "table"):  # the first three may be omitted
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())


def parsed(content: str) -> Page:
    found = Page()
    found.feed(content)
    found.close()
    return found


@dataclass
class Grid:
    """A table of the page as `bertprof.report.page.grid` lays it out, read back: texts, and what a program reads."""

    caption: str = ""
    headers: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    rows: list[tuple[str, list[str], list[Any]]] = field(default_factory=list)

    def column(self, name: str) -> dict[str, tuple[str, Any]]:
        """Of one column, row → its text and its value."""
        i = self.names.index(name) - 1
        return {label: (texts[i], values[i]) for label, texts, values in self.rows}


class _Grids(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Grid] = []
        self._into: list[str] | None = None  # what is read: the last of these texts
        self._note = False
        self._heads = False
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "table":
            self._inside = "grid" in (given.get("class") or "").split()
            self.found += [Grid()] if self._inside else []
        if not self._inside:
            return
        grid = self.found[-1]
        if tag == "caption":
            self._into = [""]
        elif tag == "tr":
            self._heads = given.get("class") == "heads"
            if "data-values" in given:
                grid.rows.append(("", [], json.loads(given["data-values"] or "")))
        elif tag == "th" and self._heads:
            name = given.get("data-name") or ""
            grid.names.append(name)
            grid.hidden += [name] if "hidden" in given else []
            grid.headers.append("")
            self._into = grid.headers
        elif tag in ("td", "th") and grid.rows:
            self._into = grid.rows[-1][1]
            self._into.append("")
        elif tag == "small":
            self._note = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "table"
        if tag == "caption" and self._into is not None:
            self.found[-1].caption = self._into[-1]
        if tag == "small":
            self._note = False
        elif tag in ("caption", "td", "th", "tr", "thead", "tbody", "tfoot", "table"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None and not self._note:
            self._into[-1] = " ".join(f"{self._into[-1]} {data}".split())


def grids(content: str) -> list[Grid]:
    """The tables of a page that its script sorts and copies."""
    found = _Grids()
    found.feed(content)
    found.close()
    for grid in found.found:
        grid.rows = [(texts[0], texts[1:], values) for _, texts, values in grid.rows]
    return found.found
