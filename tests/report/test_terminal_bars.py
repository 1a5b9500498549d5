"""The terminal's bars and its first lines: what they say, where they have room, and what an encoding cannot hold."""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from compared import REAL, distilled, real, slower, untimed
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import Color, ColorSystem

import bertprof
from bertprof import catalog
from bertprof.cli.encoding import held_by
from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.difference import Diff
from bertprof.record import Breakdown, Module
from bertprof.report import changes, lines, palette, rows, terminal
from bertprof.report.terminal import bars
from handmade import cost, made

ROOFED = Path(__file__).parents[2] / "reports" / "figure2-cpu" / "figure2.html"
BLOCKS = "█▉▊▋▌▍▎▏"
WIDTHS = (60, 80, 100, 120, 160)


def with_units(number: int, timed: bool = True) -> Breakdown:
    """So many units of attention and an FFN, which takes three times as long, between embedding and head."""

    def row(component: Component, unit: int | None, time: float) -> object:
        counts = {"parameters": 7_087_872, "parameter_bytes": 28_351_488, "macs": 10**9, "flops": 2 * 10**9}
        return cost(component, unit, [time, time] if timed else None, **counts)

    units = [
        row(component, unit, time)
        for unit in range(number)
        for component, time in ((Component.SOFTMAX_ATTENTION, 1.0), (Component.FFN, 3.0))
    ]
    return made(row(Component.EMBEDDING, None, 0.5), *units, row(Component.HEAD, None, 0.1))  # type: ignore[arg-type]


def drawn(text: str) -> dict[str, str]:
    """The bars of a table by the first word of their line; of what has none, nothing."""
    found = {}
    for line in text.splitlines():
        match = re.search(f"[{BLOCKS}]+", line)
        if match is not None:
            found[line.split()[0]] = match[0]
    return found


def eighths(bar: str) -> int:
    """The length of a bar in eighths of a character."""
    return sum(8 - BLOCKS.index(character) for character in bar)


# Bars -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "width", "expected"),
    [
        (0, 8, ""),
        (1, 8, "████████"),
        (0.5, 8, "████"),
        (0.5, 7, "███▌"),
        (1 / 64, 8, "▏"),
        (0.4 / 64, 8, ""),  # 0.4 of an eighth is none
        (63 / 64, 8, "███████▉"),
    ],
)
def test_a_bar_by_hand(length: float, width: int, expected: str):
    assert bars.drawn(length, width) == expected


@given(st.floats(0, 1), st.integers(1, 24))
def test_a_bar_is_as_long_as_its_part_to_half_an_eighth(length: float, width: int):
    bar = bars.drawn(length, width)
    assert cell_len(bar) == len(bar) <= width
    assert abs(eighths(bar) - 8 * width * length) <= 0.5


@given(st.lists(st.none() | st.floats(-1e6, 1e6)))
def test_lengths_are_against_the_longest(shares: list[float | None]):
    lengths = bars.lengths(shares)
    assert len(lengths) == len(shares)
    assert all(0 <= length <= 1 for length in lengths)
    assert max(lengths, default=0) == (1 if any(shares) else 0)


@given(
    st.lists(st.integers(2, 20), min_size=1, max_size=8),
    st.integers(0, 8),
    st.integers(-5, 120),
)
def test_a_bar_takes_no_more_than_there_is(widths: list[int], at: int, room: int):
    needed = {str(i): width for i, width in enumerate(widths)}
    wanted = [*needed]
    wanted.insert(at, bars.BAR)
    if wanted[0] == bars.BAR:  # one figure comes first
        wanted.append(wanted.pop(0))
    shown, longest = bars.placed(wanted, needed, room, {}, bars.BAR)
    assert (bars.BAR in shown) == (longest > 0)
    assert longest == 0 or bars.LEAST <= longest <= bars.MOST
    taken = sum(needed[column] for column in shown if column != bars.BAR) + (longest and longest + 2)
    assert taken <= room or shown == [wanted[0]]


# A breakdown ----------------------------------------------------------------------------------------------------------


def records() -> Iterator[Breakdown]:
    yield bertprof.load(ROOFED)
    for number in (1, 24, 48):
        for timed in (True, False):
            yield with_units(number, timed)
    yield real()
    yield untimed(real())


@pytest.mark.parametrize("width", WIDTHS)
def test_every_view_fits(width: int):
    for breakdown in records():
        for by in rows.VIEWS if breakdown.modules is not None else rows.VIEWS[:-1]:
            for wide in (False, True):
                text = terminal.render(breakdown, by, width, wide=wide)
                assert max(map(cell_len, text.splitlines())) <= width
                # One line a row: nothing is folded.
                body = text[text.index(" ──") :].split("\n\n")[0].splitlines()[1:]
                assert len(body) == len(rows.table(breakdown, by))


@pytest.mark.parametrize("width", [80, 120])
def test_the_components_have_a_bar_of_eight_at_least(width: int):
    for breakdown in records():
        found = drawn(terminal.render(breakdown, width=width))
        assert max(map(len, found.values())) >= 8


@pytest.mark.parametrize("width", [100, 104, 108, 112, 118, 120])
def test_macs_come_before_a_bar_in_a_broad_terminal(width: int):
    """Where there is room for both, the bar is of six at least."""
    for breakdown in records():
        text = terminal.render(breakdown, width=width)
        head, _, body = text.partition(" ──")
        assert "MACs" in head.splitlines()[-1]
        assert "no room for" not in body
        longest = max(map(len, drawn(text).values()), default=0)
        assert longest >= 6 or (breakdown.peaks is not None and width < 104)  # roof % and what bounds it take the room
        assert ("bound" in head.splitlines()[-1]) == (breakdown.peaks is not None)


def test_bars_are_of_the_time_and_else_of_the_flops():
    # Per unit attention takes 1 ms and the FFN 3 ms, with the same FLOPs.
    timed = drawn(terminal.render(with_units(12), width=100))
    longest = eighths(timed["ffn"])
    assert eighths(timed["softmax-attention"]) == pytest.approx(longest / 3, abs=0.5)
    assert eighths(timed["embedding"]) == pytest.approx(longest * 0.5 / 36, abs=0.5)
    counted = drawn(terminal.render(with_units(12, timed=False), width=100))
    assert counted["ffn"] == counted["softmax-attention"]
    assert eighths(counted["head"]) == pytest.approx(eighths(counted["ffn"]) / 12, abs=0.5)


def test_a_bar_stands_behind_its_share():
    for breakdown in (real(), untimed(real())):
        line = next(
            line
            for line in terminal.render(breakdown, width=120).splitlines()
            if line.startswith(" ffn") and "█" in line
        )
        total = {True: "60.3", False: "64.8"}[breakdown.timed]
        assert re.search(rf" {total}  █+", line)


def test_the_trees_bars_are_of_the_modules_own_time_or_flops():
    def module(path: str, time: float | None, flops: int) -> Module:
        counts = {"calls": 1, "parameters": 1, "macs": 1, "flops": flops}
        return Module(path=path, type="Linear", unit=None, component=Component.FFN, time_ms=time, **counts)

    timed = [module("a", 1.0, 10), module("a.b", 3.0, 10), module("a.c", 0.0, 20)]
    counted = [module("a", None, 10), module("a.b", None, 10), module("a.c", None, 20)]
    for modules, of, expected in ((timed, "time", {"a": 1 / 3, "b": 1}), (counted, "FLOPs", {"a": 1 / 2, "b": 1 / 2})):
        samples = [4.0, 4.0] if modules is timed else None
        text = terminal.render(made(cost(time_ms=samples, flops=40), modules=modules), "module", 120)
        above, header = text[: text.index(" ──")].splitlines()[-2:]
        assert (above.split()[-1], header.split()[-1]) == (of, "own")
        found = {name: eighths(bar) for name, bar in drawn(text).items()}
        assert set(found) == {*expected, *(["c"] if modules is counted else [])}
        for name, part in expected.items():
            assert found[name] == pytest.approx(part * max(found.values()), abs=0.5)


def test_nothing_to_show_is_no_bar():
    breakdown = made(cost(Component.EMBEDDING, None, parameters=5))
    assert drawn(terminal.render(breakdown, width=120)) == {}


def test_a_bar_has_its_components_colour(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    text = terminal.render(real(), width=100, color=True)
    for component in (Component.FFN, Component.SOFTMAX_ATTENTION):
        red, green, blue = bytes.fromhex(palette.TERMINAL[component].lstrip("#"))
        assert re.search(rf"\x1b\[38;2;{red};{green};{blue}m[{BLOCKS}]+", text)
    # In the tree it is that of the module's component.
    red, green, blue = bytes.fromhex(palette.TERMINAL[Component.ATTENTION_LINEAR_IN].lstrip("#"))
    assert f"\x1b[38;2;{red};{green};{blue}m█" in terminal.render(real(), "module", width=120, color=True)
    assert "\x1b" not in terminal.render(real(), width=100)


@pytest.mark.parametrize(("term", "hues"), [("xterm-256color", True), ("xterm-16color", False), ("xterm", False)])
def test_bars_have_hues_in_a_terminal_that_has_them(term: str, hues: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("COLORTERM", raising=False)
    text = terminal.render(real(), width=100, color=True)
    assert bool(re.search(rf"\x1b\[38;[\d;]+m[{BLOCKS}]", text)) == hues
    assert hues or not re.search(rf"m[{BLOCKS}]", text)  # no other colour either


def test_the_terminals_colours_are_seen_on_black_and_on_white():
    assert set(palette.TERMINAL) == set(palette.COLORS)
    assert len(set(palette.TERMINAL.values())) == len(palette.TERMINAL)
    for color in palette.TERMINAL.values():
        parsed = Color.parse(color)
        shown = parsed.downgrade(ColorSystem.EIGHT_BIT).get_truecolor()
        assert shown == parsed.triplet  # the same with 256 colours
        seen = palette.luminance(*shown.normalized) + 0.05
        assert min(seen / 0.05, 1.05 / seen) >= 3, color
    assert palette.terminal_color_of("attention-linear") == palette.TERMINAL[Component.ATTENTION_LINEAR_IN]
    assert palette.terminal_color_of("rest") == palette.TERMINAL[Component.OTHER]


def test_the_answer_comes_before_the_table():
    for breakdown in (real(), untimed(real())):
        found = terminal.render(breakdown, width=200).splitlines()
        assert found[0].startswith("bert-base-uncased  1 × 128 tokens")
        assert found[1] == lines.headline(breakdown)


# A diff ---------------------------------------------------------------------------------------------------------------


def smaller() -> Diff:
    return Comparison(untimed(real()), distilled()).diff()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("by", changes.VIEWS)
def test_every_diff_fits(width: int, by: str):
    for diff in (smaller(), slower(), Comparison(with_units(48), with_units(24)).diff()):
        for wide in (False, True):
            text = terminal.render_diff(diff, by, width, wide=wide)
            assert max(map(cell_len, text.splitlines())) <= width


def test_bars_of_a_diff_are_of_the_change_of_the_total():
    found = drawn(terminal.render_diff(smaller(), width=120))
    # DistilBERT: half of the units, 28.33M parameters of FFNs of 43.12M, 10.63M of query, key and value
    assert eighths(found["attention-linear-in"]) == pytest.approx(eighths(found["ffn"]) * 10.63 / 28.33, abs=0.6)
    assert "softmax-attention" not in found
    assert {name: len(bar) for name, bar in drawn(terminal.render_diff(slower(), width=120)).items()} == {"ffn": 24}


def test_bars_of_a_diff_have_the_colour_of_their_verdict():
    assert re.search("\x1b\\[31m█+\x1b", terminal.render_diff(slower(), width=120, color=True))
    green = terminal.render_diff(smaller(), width=120, color=True)
    assert re.search("\x1b\\[32m█+", green)
    assert not re.search("\x1b\\[31m█+", green)


# The models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 92, 120])
def test_models_by_width(width: int):
    text = terminal.render_models(catalog.entries(), width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert ("distilbert-base-uncased, distilbert" in text) == (width >= 80)
    assert ("family" in text) == (width >= 92)
    if width >= 80:
        for name in itertools.chain.from_iterable(entry.aliases for entry in catalog.entries()):
            assert name in text


# What an encoding cannot hold -----------------------------------------------------------------------------------------


def test_stand_ins_are_of_one_character():
    assert held_by("utf-8", "█▍ – × é") == "█▍ – × é"
    assert held_by("ascii", "██▌▍ – ±1 × 2 → 3…") == "###. - ~1 x 2 > 3."
    assert held_by("latin-1", "≠ † Σ") == "! + S"
    # One block of eight that is not known makes all of them plain; what is known stays.
    assert held_by("cp437", "█▌ █▉ ─ ±") == "#" * 2 + " ## ─ ±"
    assert held_by("latin-1", "× ─ é") == "× - é"


@given(st.text(), st.sampled_from(["utf-8", "ascii", "latin-1", "cp437", "cp1252"]))
def test_no_text_changes_its_length(text: str, encoding: str):
    held = held_by(encoding, text.encode("utf-8", "replace").decode())
    assert len(held) == len(text)
    held.encode(encoding, "replace")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_piped_output_in_any_encoding(encoding: str):
    code = f"from bertprof.cli import app; app(['report', {str(REAL)!r}])"
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, timeout=120, check=True)
    text = found.stdout.decode(encoding)
    assert found.stderr == b""
    assert "\x1b" not in text
    ffn = next(line for line in text.splitlines() if line.startswith(" ffn"))
    assert ffn.endswith("████████" if encoding == "utf-8" else "########")
    assert max(map(len, text.splitlines())) <= 80
    assert "?" not in text
