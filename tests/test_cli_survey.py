"""`bertprof survey table1` and `survey methods` on the command line: options, files, errors."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from bertprof import documents, session
from bertprof.cli.survey import file_name
from bertprof.difference import Diff
from bertprof.survey import approaches, methods
from conftest import failed, run_light
from surveyed import BASE, by_hand

COMMANDS = ("table1", "methods")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What was to be measured, and for which view; nothing is."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def measured(view: Any) -> Any:
        def of(**options: Any) -> methods.Methods:
            calls.append((view, options))
            return by_hand(view)

        return of

    for view in COMMANDS:
        monkeypatch.setattr(session, f"survey_{view}", measured(view))
    return calls


@pytest.mark.parametrize("command", COMMANDS)
def test_options_reach_the_measurement(run: Any, asked: list[tuple[str, dict[str, Any]]], command: str):
    result = run("survey", command, "--device", "cpu", "--batch-size", 2, "--seq-length", 64, "--min-time", "500ms")
    assert result.exit_code == 0, result.output
    run("survey", command, "--no-time", "--threads", 1)
    (view, first), (_, second) = asked
    assert view == command
    assert (first["device"], first["batch_size"], first["sequence_length"]) == ("cpu", 2, 64)
    assert (first["min_time_s"], first["time"], first["threads"]) == (0.5, True, None)
    assert (second["time"], second["threads"], second["sequence_length"]) == (False, 1, 128)
    assert first["command"].split()[0] == "bertprof"  # behind it stands the command line of whoever runs this


@pytest.mark.parametrize("command", COMMANDS)
def test_files_are_written_and_the_document_is_shown(run: Any, asked: Any, tmp_path: Path, command: Any):
    suffixes = ("json", "md", "html", "csv", "png", "svg")
    result = run("survey", command, *(part for suffix in suffixes for part in ("-o", f"out/m.{suffix}")))
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [f"wrote out/m.{suffix}" for suffix in suffixes]
    assert result.stdout == by_hand(command).text(120)
    assert "\x1b" not in result.stdout
    assert methods.load(tmp_path / "out" / "m.json") == by_hand(command)


def test_either_command_shows_what_the_other_saved(run: Any, tmp_path: Path):
    for saved_by, shown_by in (COMMANDS, COMMANDS[::-1]):
        by_hand(saved_by).save(tmp_path / "m.json")
        shown = run("survey", shown_by, "--record", "m.json", "-o", "again.json")
        assert shown.stdout == by_hand(shown_by).text(120)  # type: ignore[arg-type]
        # It is then of that view, and `report` shows what a file was made for.
        assert run("report", "again.json").stdout == shown.stdout
        assert run("report", "m.json").stdout == by_hand(saved_by).text(120)
    assert run("report", "m.json", "-o", "m.html").exit_code == 0
    assert "Each method as a whole" in (tmp_path / "m.html").read_text()


def test_json(run: Any, tmp_path: Path):
    by_hand().save(tmp_path / "m.json")
    data = json.loads(run("survey", "table1", "--record", "m.json", "--json").stdout)
    assert (data["schema"], data["view"], len(data["rows"])) == ("bertprof.methods", "table1", 25)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(run: Any, tmp_path: Path, command: str, width: int, monkeypatch: Any):
    by_hand().save(tmp_path / "m.json")
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run("survey", command, "--record", "m.json").stdout.splitlines()
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("command", COMMANDS)
def test_what_cannot_be(run: Any, asked: list[Any], tmp_path: Path, command: str):
    by_hand().save(tmp_path / "m.json")
    failed(run("survey", command, "-o", "t.txt"), "'.txt'")
    failed(run("survey", command, "--record", "m.json", "--seq-length", 3), "--record", "do not apply")
    failed(run("survey", command, "--record", "m.json", "--no-time"), "--record", "do not apply")
    failed(run("survey", command, "--record", "missing.json"), "missing.json")
    failed(run("survey", command, "--seq-length", 513), "--seq-length 513", "512 positions")
    failed(run("survey", command, "--seq-length", 0), "--seq-length 0")
    failed(run("survey", command, "--batch-size", 0), "--batch-size 0")
    failed(run("survey", command, "--min-time", "long"), "--min-time long")
    failed(run("report", "m.json", "--by", "unit"), "no view by 'unit'")
    failed(run("report", "m.json", "m.json"), "given with other files")
    failed(run("diff", "m.json", "m.json"), "is the survey's methods")
    failed(run("survey", "table2", "--record", "m.json"), "is the survey's methods, not the survey's Table 2")
    BASE.save(tmp_path / "b.json")
    failed(run("survey", command, "--record", "b.json"), "is the record of one model, not the survey's methods")
    assert asked == []


def test_a_device_that_is_not_there_fails_once(run: Any):
    failed(run("survey", "methods", "--device", "cuda:99"), "cuda:99")


@pytest.mark.slow
def test_showing_a_saved_one_is_light(tmp_path: Path):
    by_hand().save(tmp_path / "m.json")
    run_light(tmp_path, "survey", "methods", "--record", "m.json", "-o", "m.md", "-o", "m.csv")


@pytest.mark.slow
@pytest.mark.usefixtures("few_rounds")
def test_two_real_methods_end_to_end(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = {"TinyBERT4", "Zhao's vocabulary"}
    rows = tuple(a if a.name in kept else a._replace(model=None, why_not="not now") for a in approaches.APPROACHES)
    monkeypatch.setattr(approaches, "APPROACHES", rows)
    result = run("survey", "table1", "--device", "cpu", "--seq-length", 16, "--min-time", "0s", "-o", "m.json")
    assert result.exit_code == 0, result.output
    document = methods.load(tmp_path / "m.json")
    assert [each.name for each in document.rows if each.measured is not None] == ["TinyBERT4", "Zhao's vocabulary"]
    assert all(each.failed is None for each in document.rows)
    assert document.workload.clock == "host"


def test_each_method_has_a_page(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = {"Zhao's vocabulary": ("--segments 24,296",), "TinyBERT4": ()}
    rows = tuple(
        a._replace(model=None, why_not="not now")
        if a.name not in kept
        else a
        if not kept[a.name]
        else a._replace(segments=(24, 296))
        for a in approaches.APPROACHES
    )
    monkeypatch.setattr(approaches, "APPROACHES", rows)
    result = run("survey", "methods", "--no-time", "--batch-size", 2, "--pages", "pages", "-o", "m.json")
    assert result.exit_code == 0, result.output
    assert [path.name for path in sorted((tmp_path / "pages").iterdir())] == [
        "tinybert4.html",
        "zhao-s-vocabulary.html",
    ]
    document = methods.load(tmp_path / "m.json")
    for row in (row for row in document.rows if row.measured is not None):
        diff = documents.load_any(tmp_path / "pages" / f"{file_name(row.name)}.html")
        assert isinstance(diff, Diff)
        assert methods.measured_of(diff) == row.measured
        assert diff.command is not None
        assert diff.command.startswith(f"bertprof diff bert-base-uncased {shlex.quote(row.model or '')}")
        assert diff.command.endswith(f"{''.join(f' {words}' for words in kept[row.name])} --batch-size 2 --no-time")


def test_saved_methods_hold_no_pages(run: Any, tmp_path: Path):
    by_hand().save(tmp_path / "m.json")
    failed(run("survey", "methods", "--record", "m.json", "--pages", "pages"), "--pages", "measure again")
    (tmp_path / "file").write_text("")
    failed(run("survey", "methods", "--no-time", "--pages", "file"), "file")
