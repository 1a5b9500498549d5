"""A page as a tree, for tests that read figures back from it."""

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "hr", "img", "input", "link", "source"}
CLOSED_BY = {"td": {"td", "th", "tr"}, "th": {"td", "th", "tr"}, "tr": {"tr"}, "option": {"option"}}
"""Elements whose end may be left out, and what begins where they end; so does all in which they stand."""


@dataclass
class Node:
    """An element: its attributes, and what is in it."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    inside: list["Node | str"] = field(default_factory=list)

    def all(self, tag: str = "", **attributes: str) -> list["Node"]:
        """The elements below it of a tag and with these attributes, `class_name` among the classes; in order."""
        found = []
        for child in self.inside:
            if isinstance(child, Node):
                if tag in ("", child.tag) and child._has(attributes):
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def one(self, tag: str = "", **attributes: str) -> "Node":
        (found,) = self.all(tag, **attributes)
        return found

    def _has(self, attributes: dict[str, str]) -> bool:
        for name, value in attributes.items():
            if name == "class_name":
                if value not in self.attributes.get("class", "").split():
                    return False
            elif self.attributes.get(name.replace("_", "-")) != value:
                return False
        return True

    @property
    def text(self) -> str:
        """All that is read in it, with single spaces."""
        return " ".join("".join(each if isinstance(each, str) else f"{each.text} " for each in self.inside).split())


@dataclass
class Table:
    """A grid as a program sees it: its headers' attributes, and the texts and values of each row, by its name."""

    heads: list[dict[str, str]]
    texts: dict[str, dict[str, str]]
    values: dict[str, dict[str, Any]]


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Node("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        while tag in CLOSED_BY.get(self.open[-1].tag, ()):
            self.open.pop()
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        while self.open[-1].tag != tag and self.open[-1].tag in CLOSED_BY:
            self.open.pop()
        assert self.open[-1].tag == tag, f"</{tag}> in <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def tree(content: str) -> Node:
    """The whole page; every element in it must be closed where it belongs."""
    builder = _Builder()
    builder.feed(content)
    builder.close()
    (root,) = builder.open
    return root


def table_of(node: Node) -> Table:
    """The only grid below a node; its rows have as many values and cells as there are headers."""
    grid = node.one("table", class_name="grid")
    first, *heads = grid.one("tr", class_name="heads").all("th")
    assert "data-name" in first.attributes
    names = [head.attributes["data-name"] for head in heads]
    assert len(set(names)) == len(names)
    texts, values = {}, {}
    for row in grid.all("tr"):
        if "data-values" in row.attributes:
            label = row.one("th").text
            assert label not in texts
            texts[label] = dict(zip(names, [cell.text for cell in row.all("td")], strict=True))
            values[label] = dict(zip(names, json.loads(row.attributes["data-values"]), strict=True))
    return Table([head.attributes for head in heads], texts, values)
