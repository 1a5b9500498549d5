"""Every renderer of a Diff: on real ones, on the largest, on any two records and on one that means harm."""

import csv
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import get_args

import matplotlib.image
import pytest
from compared import HOSTILE, distilled, gate, hostile, largest, real, slower, untimed
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import parsed

from bertprof import difference
from bertprof.comparison import Comparison
from bertprof.difference import Change, Diff, Times, Verdict
from bertprof.errors import UsageError
from bertprof.report import RENDERERS, changes, markdown, page, render, terminal
from bertprof.report.findings import findings
from handmade import pairs

TEXTS = (".md", ".html", ".csv", ".json")


def smaller() -> Diff:
    diff = Comparison(untimed(real()), distilled()).diff()
    diff.command = "bertprof diff a.json b.json"
    return diff


def text(diff: Diff, suffix: str, by: str = "component", wide: bool = False) -> str:
    return render(diff, Path(f"x{suffix}"), by, wide=wide).decode()


@pytest.mark.parametrize("by", changes.VIEWS)
@pytest.mark.parametrize("wide", [False, True])
def test_every_view_in_every_text(by: str, wide: bool):
    for diff in (smaller(), slower()):
        for suffix in (".md", ".html"):
            content = text(diff, suffix, by, wide)
            for row in changes.table(diff, by):
                assert markdown.escape(row.scope) in content or row.scope in content


@pytest.mark.parametrize("suffix", RENDERERS)
def test_the_same_diff_gives_the_same_bytes(suffix: str):
    diff = slower()
    assert render(diff, Path(f"x{suffix}")) == render(diff, Path(f"x{suffix}"))


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_a_view_that_a_diff_does_not_have(suffix: str):
    with pytest.raises(UsageError, match="a diff has no view by 'module'"):
        text(slower(), suffix, "module")


def test_json_is_the_diff():
    diff = slower()
    diff.gates = [gate("failed")]
    assert difference.decode(text(diff, ".json").encode(), "x") == diff


def test_it_shows_itself_and_saves_itself(tmp_path: Path):
    diff = slower()
    assert str(diff) == diff.text() == terminal.render_diff(diff)
    assert diff._repr_html_() == page.diff_fragment(diff)
    assert diff.figure()._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    diff.save(tmp_path / "d.md")
    assert (tmp_path / "d.md").read_text() == markdown.render_diff(diff)


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_findings_and_caveats_stand_in_every_text(suffix: str):
    diff = smaller()
    diff.caveats = [difference.Caveat(code="x", text="something to know")]
    contents = (plain(text(diff, suffix)), terminal.render_diff(diff, width=400), plain(page.diff_fragment(diff)))
    for content in contents:
        assert "something to know" in content
        for finding in findings(diff):
            assert finding.head in content
            assert finding.detail in content


def plain(content: str) -> str:
    """Markdown or HTML as it is read."""
    return re.sub(r"\\(.)", r"\1", re.sub(r"<[^>]*>", "", content))


# CSV ------------------------------------------------------------------------------------------------------------------


def test_csv_has_every_figure_with_all_digits():
    diff = smaller()
    found = list(csv.DictReader(io.StringIO(text(diff, ".csv"))))
    assert len(found) == sum(len(row.metrics) for row in diff.rows)
    of = {(row["scope"], row["metric"]): row for row in found}
    embedding = of["embedding", "parameters"]
    assert (embedding["before"], embedding["after"], embedding["change"]) == ("23835648", "23834112", "-1536")
    assert embedding["verdict"] == "smaller"
    assert embedding["level"] == "component"
    assert of["total", "bytes"]["measured_in"] == "bytes"
    assert of["unit[3].ffn", "macs"]["unit"] == "3"
    assert of["head", "macs"]["after"] == "0"
    assert of["softmax-attention", "parameters"]["ratio"] == ""


def test_csv_of_times_has_their_interval():
    (ffn,) = (
        row
        for row in csv.DictReader(io.StringIO(text(slower(), ".csv")))
        if (row["scope"], row["metric"]) == ("ffn", "time")
    )
    assert ffn["measured_in"] == "ms"
    assert [float(ffn[name]) for name in ("ratio", "ratio_low", "ratio_high")] == pytest.approx([1.1] * 3)
    assert float(ffn["share_of_change"]) == pytest.approx(1.0, abs=0.01)


def test_csv_is_no_formula():
    diff = slower()
    diff.rows[0].metrics["=1+1"] = diff.rows[0].metrics["time"]
    assert "'=1+1" in {row["metric"] for row in csv.DictReader(io.StringIO(text(diff, ".csv")))}


# A frame --------------------------------------------------------------------------------------------------------------


def test_frames():
    frame = smaller().frame()
    parameters = frame[frame["metric"] == "parameters"].set_index("scope")
    assert parameters["change"].sum() == 66_362_880 - 109_482_240
    assert parameters.loc["embedding", "change"] == -1536
    assert smaller().frame("cell")["unit"].dtype == "Int64"
    assert set(smaller().frame("group")["scope"]) >= {"attention-linear", "rest"}
    times = slower().frame().query("metric == 'time'").set_index("scope")
    assert times.loc["ffn", "ratio_low"] == pytest.approx(1.1)
    assert times.loc["ffn", "verdict"] == "slower"
    assert set(slower().frame("total")["scope"]) == {"total"}
    with pytest.raises(UsageError, match="'colour'"):
        slower().frame("colour")


# Markdown -------------------------------------------------------------------------------------------------------------


def sections(content: str) -> list[str]:
    return content.split("\n\n")


def test_markdown_is_for_a_pull_request():
    diff = slower()
    diff.gates = [gate("passed"), gate("failed"), gate("failed", "warn-on")]
    diff.command = "bertprof diff a b"
    found = sections(text(diff, ".md"))
    assert found[0] == markdown.MARKER == "<!-- bertprof:diff -->"
    assert found[1] == "### ❌ 1 of 3 gates failed: ffn.time; 1 only warned: ffn.time; 1 passed"
    assert found[2] == r"**bert-base-uncased → patched**"
    assert found[3].startswith(r"- latency +6.")
    assert [line.split("|")[1].strip() for line in found[4].splitlines()] == [
        *("outcome", "---", "❌ failed", "⚠️ warning", "✅ passed")
    ]
    assert found[5].startswith("both: 12 units")
    rows = [line.split("|")[1].strip() for line in found[6].splitlines()]
    assert rows == ["component", "---", "**total**", "ffn"]
    assert found[7] == "<details><summary>7 rows unchanged</summary>"
    assert [line.split("|")[1].strip() for line in found[8].splitlines()][2:4] == [
        "embedding",
        r"attention-linear-in",
    ]
    assert found[10] == "<details><summary>By unit</summary>"
    inside = [line.split("|")[1].strip() for line in found[11].splitlines()]
    # What changed inside of each unit stands below it, what did not does not.
    assert inside[2:6] == [r"unit[0]", r"unit[0].ffn", r"unit[1]", r"unit[1].ffn"]
    assert found[13] == "<details><summary>Environment and how to reproduce</summary>"
    assert found[15] == "```sh\nbertprof diff a b\n```"
    assert found[16].strip() == "</details>"


def test_markdown_without_gates_starts_with_what_is_compared():
    assert sections(text(smaller(), ".md"))[1] == r"### bert-base-uncased → distilbert-base-uncased"


def test_markdown_by_unit_folds_the_components():
    assert "<details><summary>By component</summary>" in text(slower(), ".md", by="unit")


def test_markdown_of_nothing_changed_has_no_unit_to_show():
    content = text(Comparison(real(), real()).diff(), ".md")
    assert "By unit" not in content
    assert "8 rows unchanged" in content


@pytest.mark.parametrize("ticks", ["`", "```", "`````", "a ``` b"])
def test_no_back_tick_closes_the_command(ticks: str):
    diff = slower()
    diff.command = f"bertprof diff {ticks}\n# b"
    content = text(diff, ".md")
    (fence,) = re.findall(r"^(`{3,})sh$", content, re.MULTILINE)
    assert len(fence) > max(map(len, re.findall("`+", ticks)))
    # A line break would end the command; it stands as what is no text.
    assert f"\n{fence}sh\nbertprof diff {ticks}�# b\n{fence}\n" in content


@pytest.mark.parametrize("make", [largest, hostile])
@pytest.mark.parametrize("by", changes.VIEWS)
@pytest.mark.parametrize("wide", [False, True])
def test_markdown_fits_into_a_comment(make, by: str, wide: bool):
    content = text(make(), ".md", by, wide)
    assert len(content) < 60_000
    assert content.endswith("</details>\n")
    assert content.count("\n<details>") == content.count("\n</details>") > 0


def test_what_is_left_out_is_counted():
    diff = largest()
    content = text(diff, ".md")
    counts = {what: int(count) for count, what in re.findall(r"\*(\d+) more (\w+) left out\*", content)}
    gates = sum(line.startswith(("| ❌", "| ✅")) for line in content.splitlines())
    assert gates + counts["gates"] == len(diff.gates)
    assert "✅" not in content  # failed ones stand first
    # All of 97 units and what is outside, each with its 11 components.
    shown = sum(line.startswith(("| unit[", "| outside")) for line in content.splitlines())
    assert shown + counts["rows"] == 97 + 97 * 11
    assert shown > 50


COMMENTS = (markdown.MARKER, "@<!-- -->", "<details>", "</details>", "<summary>", "</summary>")


def test_what_means_harm_is_inert_in_markdown():
    for by in changes.VIEWS:
        content = text(hostile(), ".md", by)
        command = re.search(r"^(`{3,})sh\n(.*)\n\1$", content, re.MULTILINE)
        assert command is not None
        outside = content.replace(command[0], "")
        assert "\x1b" not in content
        assert re.findall(r"(?<!\\)`", outside) == []
        assert "@somebody" not in outside
        for ours in COMMENTS:
            outside = outside.replace(ours, "")
        assert "<" not in outside
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in outside.splitlines() if line.startswith("| ")}
        # Gates and the environment have three columns, the rows five; and none has one more.
        assert columns == {4, 6}


# HTML -----------------------------------------------------------------------------------------------------------------


def test_page_carries_the_numbers_and_needs_nothing():
    diff = smaller()
    diff.gates = [gate("failed")]
    content = text(diff, ".html")
    found = parsed(content)
    of = {row[0]: row for row in reversed(found.rows) if row}
    assert of["failed"] == ["failed", "ffn.time +9 % is above +5 %", "fail-on ffn.time:+5%, command line"]
    assert of["before"] == ["before", "12 units"]
    parameters = ["23.84M", "23.83M", "-0.01 %", "0 %"]
    assert of["embedding"][1:5] == parameters
    assert of["after.unit[5]"][1:4] == ["0", "7.088M", "new"]
    assert found.fetched == []
    assert "parameters: 23,835,648 → 23,834,112" in content  # on pointing


def test_page_says_the_verdict_and_how_to_reproduce():
    diff = slower()
    diff.gates = [gate("failed"), gate("passed")]
    diff.command = "bertprof diff 'a  b' c"
    content = text(diff, ".html")
    assert '<p class="verdict worse">1 of 2 gates failed: ffn.time; 1 passed</p>' in content
    assert '<pre tabindex="0">bertprof diff &#39;a  b&#39; c</pre>' in content
    assert "\nbertprof diff 'a  b' c\n" in text(diff, ".md")
    assert '<td class="worse word"' in content


def test_what_means_harm_is_inert_in_a_notebook():
    content = page.diff_fragment(hostile())
    found = parsed(content)
    assert set(found.tags) <= set(parsed(page.diff_fragment(slower())).tags)
    assert found.fetched == []
    assert "\x1b" not in content


def test_a_notebook_has_the_columns_of_a_usual_table():
    for diff in (slower(), smaller(), largest()):
        for by in ("component", "unit"):
            rows = parsed(page.diff_fragment(diff, by)).rows
            assert {len(row) for row in rows[1:]} == {len(rows[1])}
            assert rows[1][0] == by
            of = {row[0]: row for row in rows[2:]}
            assert [*of] == [*(row.scope for row in changes.table(diff, by)), "total"]
            metric = "time" if diff.row("total").metrics.get("time") else "parameters"
            change = diff.row("total").metrics[metric]
            assert of["total"][1:3] == [changes.figure(value, metric) for value in (change.before, change.after)]


# The terminal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [30, 60, 80, 100, 140, 200])
@pytest.mark.parametrize("by", changes.VIEWS)
@pytest.mark.parametrize("wide", [False, True])
def test_terminal_stays_within_its_width(width: int, by: str, wide: bool):
    for diff in (smaller(), slower()):
        diff.gates = [gate("failed"), gate("passed")]
        content = terminal.render_diff(diff, by, width, wide=wide)
        if width >= 60:
            assert max(map(len, content.splitlines())) <= width
            rows = [line.strip().split("  ")[0] for line in content.splitlines()]
            assert {row.scope for row in changes.table(diff, by)} <= set(rows)


def header(diff: Diff, width: int) -> str:
    lines = terminal.render_diff(diff, width=width).splitlines()
    rule = next(i for i, line in enumerate(lines) if line.startswith(" ──"))
    return re.sub(" +", " ", lines[rule - 1]).strip()


def test_terminal_shows_more_where_there_is_room():
    assert header(slower(), 60) == "component Δ time verdict"
    assert header(slower(), 100) == "component time ms Δ time of Δ verdict"
    assert header(smaller(), 60) == "component Δ params of Δ Δ MACs Δ FLOPs"
    assert header(smaller(), 80) == "component parameters Δ params of Δ Δ MACs Δ FLOPs"
    assert "FLOPs Δ FLOPs of Δ" in header(smaller(), 140)
    assert "no room for MACs, FLOPs: widen" in terminal.render_diff(smaller(), width=40)


def test_terminal_rows_carry_the_numbers():
    lines = terminal.render_diff(slower(), width=120).splitlines()
    ffn = next(line for line in lines if line.startswith(" ffn"))
    change = slower().row("ffn").metrics["time"]
    assert re.split("  +", ffn.strip()) == [
        *("ffn", f"{change.before:.1f} → {change.after:.1f}", "+10.00 % [+10.00, +10.00]", "100 %", "█" * 24, "slower")
    ]
    assert next(line for line in lines if line.startswith(" total")).split()[-1] == "slower"


def test_terminal_ends_with_the_verdict():
    diff = slower()
    diff.gates = [gate("failed") for _ in range(60)]
    lines = terminal.render_diff(diff, width=100).splitlines()
    assert lines[-1] == "60 of 60 gates failed: ffn.time"
    assert lines[-2] == "and 20 more gates"
    assert lines[-3] == "failed ffn.time +9 % is above +5 % (fail-on ffn.time:+5%, command line)"


def test_colour_goes_with_words():
    diff = slower()
    diff.row("embedding").metrics["time"].verdict = "inconclusive"
    diff.row("head").metrics["time"].verdict = "faster"
    colored = terminal.render_diff(diff, width=120, color=True)
    assert "\x1b[31mslower" in colored
    assert "\x1b[33minconclusive" in colored
    assert "\x1b[32mfaster" in colored
    assert "\x1b" not in terminal.render_diff(diff, width=120)


def test_a_terminal_is_not_obeyed():
    for by in changes.VIEWS:
        assert "\x1b" not in terminal.render_diff(hostile(), by)


# Figures --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [smaller, slower, hostile, lambda: Comparison(real(), real()).diff()])
def test_png_is_an_image_and_svg_is_xml(make):
    diff = make()
    assert matplotlib.image.imread(io.BytesIO(render(diff, Path("x.png")))).ndim == 3
    assert ElementTree.fromstring(render(diff, Path("x.svg"))).tag.endswith("svg")


# Any two records ------------------------------------------------------------------------------------------------------


@given(pairs())
@settings(max_examples=20)
def test_any_two_records_in_every_text(pair):
    diff = Comparison(*pair).diff()
    diff.before.name = HOSTILE
    for by in changes.VIEWS:
        for wide in (False, True):
            content = text(diff, ".md", by, wide)
            assert len(content) < 60_000
            assert "<img" not in content
        assert "\x1b" not in terminal.render_diff(diff, by, 100)
        assert "img" not in parsed(page.diff_fragment(diff, by)).tags
    assert json.loads(text(diff, ".json"))["schema"] == "bertprof.diff"
    assert text(diff, ".csv")


@given(pairs())
@settings(max_examples=8)
def test_any_two_records_as_page_and_figure(pair):
    diff = Comparison(*pair).diff()
    diff.after.name = HOSTILE
    assert "img" not in parsed(text(diff, ".html")).tags


FIGURES = st.none() | st.integers(-(10**18), 10**18) | st.floats(-1e30, 1e30)
RATIOS = st.floats(0, 1e18)


@st.composite
def odd_changes(draw: st.DrawFn) -> Change:
    """Any change that a file may hold, however little its figures have to do with each other."""
    before, after = draw(FIGURES), draw(FIGURES)
    if before is None or after is None:
        return Change(before=before, after=after, change=None, ratio=None, verdict="n/a")
    low, ratio, high = sorted(draw(st.tuples(RATIOS, RATIOS, RATIOS)))
    sure = draw(st.booleans())
    return Change(
        before=before,
        after=after,
        change=draw(st.integers(-(10**18), 10**18) | st.floats(-1e30, 1e30)),
        ratio=ratio if sure else draw(st.none() | RATIOS),
        low=low if sure else None,
        high=high if sure else None,
        share_of_change=draw(st.none() | st.floats(-1e30, 1e30)),
        verdict=draw(st.sampled_from(get_args(Verdict))),
    )


@given(st.data())
@settings(max_examples=20)
def test_any_diff_however_odd(data):
    """What a file can hold that no comparison makes."""
    diff = slower()
    rows = [row for row in diff.rows if row.level in ("total", "component")]
    for row in rows:
        row.metrics = data.draw(
            st.dictionaries(st.sampled_from([*row.metrics, "memory", "odd"]), odd_changes(), max_size=4)
        )
    diff.rows = rows[: data.draw(st.integers(1, 4))]
    diff.times = data.draw(st.sampled_from([None, *get_args(Times)]))
    diff.yardstick_ratio = data.draw(st.none() | RATIOS)
    again = difference.decode(text(diff, ".json").encode(), "x")
    for by in changes.VIEWS:
        assert len(text(again, ".md", by)) < 60_000
        assert terminal.render_diff(again, by, wide=True)
        assert parsed(page.diff_fragment(again, by)).rows
    assert text(again, ".csv")


def test_text_and_markdown_are_light(tmp_path: Path):
    code = """if True:
        import sys
        from pathlib import Path
        from bertprof import difference, report
        diff = difference.load(sys.argv[1])
        diff.text()
        for suffix in (".md", ".csv", ".json"):
            report.render(diff, Path("x" + suffix))
        heavy = "torch transformers fvcore pandas matplotlib scipy numpy jinja2".split()
        print([name for name in heavy if name in sys.modules])
    """
    slower().save(tmp_path / "diff.json")
    found = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "diff.json"], capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"
