"""Names that mean harm stay names, in every format and of every kind of report."""

import csv
import functools
import html
import io
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from harm import BIDI, NAMES, named, named_diff
from hypothesis import assume, example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bertprof import formatting, report
from bertprof.report import Document, markdown, terminal
from bertprof.report.template import isolated

KINDS = ("breakdown", "diff", "several")


@functools.cache
def rendered(kind: str, name: str, suffix: str) -> str:
    path = Path(f"x{suffix}")
    if kind == "several":
        return report.render_several([named(name), named("plain")], path).decode()
    document: Document = named(name) if kind == "breakdown" else named_diff(name)
    return report.render(document, path).decode()


every = pytest.mark.parametrize("harm", NAMES)
of_all = pytest.mark.parametrize("kind", KINDS)


class Elements(HTMLParser):
    """What a page is made of: its tags with the names of their attributes; and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.text = ""
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "bdi":  # what keeps a name from changing the order of other words
            self.elements.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        if not self.elements or self.elements[-1][0] not in ("script", "style"):
            self.text += data


def seen(name: str) -> str:
    """The beginning of a name as a reader is to see it."""
    return formatting.line(name, 1_000_000)[:20]


@every
@of_all
def test_a_page_has_no_element_of_a_name(kind: str, harm: str):
    page = Elements(rendered(kind, NAMES[harm], ".html"))
    assert page.elements == Elements(rendered(kind, "a name", ".html")).elements
    assert seen(NAMES[harm]) in " ".join(page.text.split())
    assert not set(page.text) & set(BIDI)
    assert not [c for c in page.text if unicodedata.category(c) == "Cc" and c != "\n"]


@every
@of_all
def test_markdown_has_nothing_of_a_name_but_its_letters(kind: str, harm: str):
    content = rendered(kind, NAMES[harm], ".md")
    found, plain = (Elements(_read(text)) for text in (content, rendered(kind, "a name", ".md")))
    assert found.elements == plain.elements
    outside = re.sub(r"^(`{3,}).*?^\1$", "", content, flags=re.MULTILINE | re.DOTALL)
    # Of these some readers make mathematics and mentions.
    assert not re.search(r"(?<!\\)\$|@(?!<!-- -->)", outside)
    assert not set(content) & set(BIDI)
    assert not [c for c in content if unicodedata.category(c) == "Cc" and c != "\n"]


ANYTHING = st.text(st.sampled_from("ab1 \\`*_[]()<>#+-!|~$&;:=.@{}^é\n"), min_size=1, max_size=14)
PLACES = {
    "paragraph": ("{}", "<p>", "</p>"),
    "second line": ("x  \n{}", "<p>x<br />\n", "</p>"),
    "item": ("- {}", "<ul>\n<li>", "</li>\n</ul>"),
    "heading": ("## {}", "<h2>", "</h2>"),
    "cell": (
        "| x |\n| --- |\n| {} |",
        "<table>\n<thead>\n<tr>\n<th>x</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>",
        "</td>",
    ),
    "bold cell": ("| x |\n| --- |\n| **{}** |", "<td><strong>", "</strong></td>"),
}


@pytest.mark.parametrize("place", PLACES)
@given(text=ANYTHING)
@example(text="&lt;b&gt;")
@example(text="[a](b) ![c](d)")
@example(text="[a]: b")
@example(text="1. a")
@example(text="--")
@example(text="===")
@example(text=":-")
@example(text="a #")
@example(text="__a__b _c_ d_e")
@example(text="-87.2 % [-90.0, -85.1] (attention-linear-in)")
def test_any_text_reads_as_it_is_wherever_it_stands_in_markdown(place: str, text: str):
    assume(text.strip())
    form, before, behind = PLACES[place]
    found = _read(form.format(markdown.escape(text)))
    inside = found[found.index(before) + len(before) :].partition(behind)[0].replace("@&lt;!-- --&gt;", "@")
    wanted = html.escape(" ".join(text.split()), quote=False)
    assert inside.replace("@<!-- -->", "@") == wanted, found


@pytest.mark.parametrize(
    "text",
    [
        "attention-linear-in",
        "-87.2 % [-90.0, -85.1]",
        "+1,536",
        "nonzero_share",
        "x (int8) + y!",
        "bert #3",
        "a & b; {c}",
    ],
)
def test_what_is_not_special_where_it_stands_is_left_as_it_is(text: str):
    assert markdown.escape(text) == text


def _read(content: str) -> str:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(content)


@every
@of_all
def test_a_picture_has_no_script(kind: str, harm: str):
    root = ElementTree.fromstring(rendered(kind, NAMES[harm], ".svg"))
    for element in root.iter():
        assert element.tag.rpartition("}")[2] not in (
            "script",
            "foreignObject",
            "a",
            "image",
            "style",
            "set",
            "animate",
        ) or (element.tag.endswith("style") and "font" not in (element.text or ""))
        for key, value in element.attrib.items():
            assert not key.lower().startswith("on")
            assert not key.endswith("href") or value.startswith("#")
    text = "".join(root.itertext())
    assert not set(text) & set(BIDI)


@every
@of_all
def test_a_spreadsheet_has_as_many_cells_and_no_formula(kind: str, harm: str):
    found, plain = (
        list(csv.reader(io.StringIO(rendered(kind, name, ".csv"), newline=""))) for name in (NAMES[harm], "a name")
    )
    assert [len(line) for line in found] == [len(line) for line in plain]
    for cell in (cell for line in found for cell in line):
        assert not cell.startswith(("=", "@", "\t", "\r")), cell[:50]
        assert not cell.startswith(("+", "-")) or re.fullmatch(r"[+-][\d.e+-]+", cell), cell[:50]


@every
@of_all
@pytest.mark.parametrize("width", [60, 120])
def test_a_terminal_obeys_no_name(kind: str, harm: str, width: int):
    name = NAMES[harm]
    for color in (False, True):
        match kind:
            case "breakdown":
                found = terminal.render(named(name), "component", width, color)
            case "diff":
                found = terminal.render_diff(named_diff(name), "component", width, color)
            case _:
                found = terminal.render_several([named(name), named("plain")], "component", width, color)
        shown = re.sub(r"\x1b\[[\d;]*m", "", found) if color else found
        assert [c for c in shown if not c.isprintable() and c != "\n"] == []


def test_what_changes_the_order_of_others_is_no_text():
    """None of them is printable, so `formatting.plain` puts a sign in their place."""
    assert formatting.plain(BIDI) == "\ufffd" * len(BIDI)


def test_a_machine_from_right_to_left_leaves_the_order_of_its_line():
    name = NAMES["right-to-left"].split()[0]
    assert f" · <bdi>{name}" in rendered("breakdown", NAMES["right-to-left"], ".html")


def test_a_name_from_right_to_left_leaves_the_order_of_a_sentence():
    name = "\u0646\u0645\u0648 \u0630\u062c"
    assert isolated(f"{name} → {name}: 12 <ms>") == f"<bdi>{name}</bdi> → <bdi>{name}</bdi>: 12 &lt;ms&gt;"
    assert isolated("bert → é 12") == "bert → é 12"
    assert f"<h1><bdi>{name}</bdi> → <bdi>{name}</bdi>" in re.sub(r" \([^)]*\)", "", rendered("diff", name, ".html"))
