"""The list of methods: what it shows at which width, and that the docs show the same."""

from pathlib import Path

import pytest

from bertprof.compress.methods import COLUMNS, METHODS, Method
from bertprof.report import methods as listing

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def row(text: str, start: str) -> list[str]:
    """The words of the line that begins so."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return line.split()


def test_the_list_says_what_a_method_can_change():
    shown = listing.render(METHODS.values(), 80)
    assert row(shown, "method")[-4:] == ["P", "B", "M", "T"]
    assert row(shown, "heads=N,...")[-4:] == ["✓"] * 4
    assert [word for word in row(shown, "vocabulary=N") if word == "✓"] == ["✓"] * 2
    assert listing.LEGEND in shown


def test_more_where_there_is_room():
    narrow, wide = (listing.render(METHODS.values(), width) for width in (80, 120))
    assert "targets" not in narrow
    assert "paper" not in narrow
    for text in ("targets", "paper", "Michel et al. 2019", "attention-linear"):
        assert text in wide
    for method in METHODS.values():
        assert listing.usage(method) in narrow
        for option in method.options:
            assert f",{option}=" in narrow


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_one_in_full(method: Method):
    shown = " ".join(listing.render_one(method, 300).split())
    assert shown.startswith(f"{method.name}: {method.help}")
    for text in (method.value, method.example, *method.papers, *method.choices, listing.changes(method)):
        assert text in shown
    for column in method.columns:
        assert f"{column} {COLUMNS[column]}" in shown
    for name, option in method.options.items():
        assert f",{name}=" in shown
        assert option.help in shown
        assert all(choice in shown for choice in option.choices)
        assert not option.default or option.choices or f"(default {option.default})" in shown


def test_words_are_exact():
    assert listing.usage(METHODS["int8"]) == "int8"
    assert listing.usage(METHODS["share-units"]) == "share-units[=WORD]"
    assert listing.options(METHODS["bits"]) == [",embedding=BITS", ",head=BITS", ",groups=N"]
    assert listing.targets(METHODS["fp16"]) == "all"
    assert listing.targets(METHODS["heads"]) == "attention-linear, softmax-attention"
    assert listing.changes(METHODS["heads"]) == "parameters, bytes, MACs, time"


def test_colour_only_when_asked():
    assert "\x1b[" not in listing.render(METHODS.values(), 100)
    assert "\x1b[" in listing.render(METHODS.values(), 100, color=True)


def test_the_docs_show_the_same_table():
    assert listing.render_markdown(METHODS.values()) in DOCS.read_text()


def test_every_method_has_its_section():
    headings = [line for line in DOCS.read_text().splitlines() if line.startswith("#")]
    for name in METHODS:
        assert any(f"`{name}" in heading for heading in headings), name
