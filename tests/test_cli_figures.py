"""`--figure`, `--width-mm` and the command that a record remembers."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import bertprof
from bertprof import record
from bertprof.report import figures
from conftest import failed

REAL = Path(__file__).parent / "data" / "bert-base-uncased.json"


@pytest.fixture
def saved(run: Any, tmp_path: Path) -> Path:
    shutil.copy(REAL, tmp_path / "bert.json")
    return tmp_path


def width_mm(svg: Path) -> float:
    """The width attribute of an SVG in points, 72 an inch of 25.4 mm."""
    head = svg.read_text().split("<svg", 1)[1]
    return float(head.split('width="', 1)[1].split("pt", 1)[0]) / 72 * 25.4


def test_a_figure_is_chosen_and_sized(run: Any, saved: Path):
    for name in ("figure2", "stack", "units"):
        assert run("report", "bert.json", "--figure", name, "-o", f"{name}.svg", "--width-mm", 120).exit_code == 0
        assert width_mm(saved / f"{name}.svg") == pytest.approx(120, abs=0.1)
    run("report", "bert.json", "-o", "usual.svg")
    assert width_mm(saved / "usual.svg") == pytest.approx(figures.WIDTH_MM, abs=0.1)
    contents = {(saved / f"{name}.svg").read_bytes() for name in ("figure2", "stack", "units", "usual")}
    assert len(contents) == 4


def test_a_diff_and_several_records_have_theirs(run: Any, saved: Path):
    run("diff", "bert.json", "bert.json", "-o", "d.json", "-o", "w.svg", "--figure", "waterfall")
    assert run("report", "d.json", "--figure", "waterfall", "-o", "again.svg").exit_code == 0
    assert (saved / "w.svg").read_bytes() == (saved / "again.svg").read_bytes()
    assert run("report", "bert.json", "bert.json", "--figure", "stack", "-o", "s.png").exit_code == 0


@pytest.mark.parametrize("command", ["breakdown", "diff", "report"])
def test_the_help_names_every_figure(run: Any, command: str):
    text = run(command, "--help").stdout.split("--figure", 1)[1].split("--width-mm")[0]
    of_commands = ("a breakdown", "a diff", "several records")
    assert set(re.findall(r"[a-z0-9]+", text)) >= {name for kind in of_commands for name in figures.OF[kind]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--figure", "pie", "-o", "x.png"), ("--figure 'pie'", "figure2", "waterfall")),
        (
            ("--figure", "waterfall", "-o", "x.png"),
            ("no such figure of a breakdown", "figure2, stack, units, roofline"),
        ),
        (("--figure", "units"), ("--figure units", "-o")),
        (("--figure", "units", "-o", "x.html"), ("no .png or .svg",)),
        (("--width-mm", "20", "-o", "x.png"), ("--width-mm 20", "60 to 400")),
        (("--width-mm", "nan", "-o", "x.png"), ("--width-mm nan",)),
        (
            (
                "--width-mm",
                "100",
            ),
            ("--width-mm 100", "-o"),
        ),
    ],
)
def test_what_cannot_be_drawn_is_said_and_nothing_is_written(run: Any, saved: Path, arguments: Any, says: Any):
    failed(run("report", "bert.json", *arguments), *says)
    assert [path.name for path in saved.iterdir()] == ["bert.json"]


def test_of_a_measurement_it_is_refused_before_anything_is_measured(run: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bertprof.session, "breakdown", None)  # would fail in another way
    failed(run("breakdown", "bert-base-uncased", "--figure", "pairs", "-o", "x.png"), "no such figure of a breakdown")
    failed(run("diff", "bert-base-uncased", "x", "--figure", "figure2", "-o", "x.png"), "no such figure of a diff")


def test_a_record_remembers_its_command(run: Any, saved: Path, monkeypatch: pytest.MonkeyPatch):
    arguments = ["breakdown", "bert-base-uncased", "--no-time", "--label", "a b", "-o", "x.json"]
    monkeypatch.setattr("sys.argv", ["bertprof", *arguments])
    assert run(*arguments).exit_code == 0
    assert (
        record.load(saved / "x.json").command
        == "bertprof breakdown bert-base-uncased --no-time --label 'a b' -o x.json"
    )
    assert json.loads(REAL.read_bytes()).get("command") is None
    assert bertprof.breakdown("bert-base-uncased", time=False).command is None


def test_a_saved_diff_has_the_views_of_a_diff(run: Any, saved: Path):
    run("diff", "bert.json", "bert.json", "-o", "d.json")
    shown = run("report", "d.json", "--by", "cell")
    assert shown.exit_code == 0
    assert "unit[11].ffn" in shown.stdout
    failed(run("report", "bert.json", "--by", "cell"), "no view by 'cell'", "group, component, unit, module")
    failed(run("report", "d.json", "--by", "module"), "no view by 'module'", "cell")


def test_a_page_is_read_as_its_record_is(run: Any, saved: Path):
    run("report", "bert.json", "-o", "bert.html")
    assert run("report", "bert.html").stdout == run("report", "bert.json").stdout
    assert run("diff", "bert.html", "bert.json", "--fail-on", "parameters:+0").exit_code == 0
