"""`bertprof survey table2` on the command line: options, files, errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from bertprof import session
from bertprof.report.table2 import PARTS
from bertprof.survey import systems, table2
from conftest import failed
from tabled import BASE, by_hand


@pytest.fixture
def saved(tmp_path: Path) -> str:
    by_hand().save(tmp_path / "t.json")
    return "t.json"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was to be measured; nothing is."""
    calls: list[dict[str, Any]] = []

    def measured(**options: Any) -> table2.Table2:
        calls.append(options)
        return by_hand()

    monkeypatch.setattr(session, "survey_table2", measured)
    return calls


def test_options_reach_the_measurement(run: Any, asked: list[dict[str, Any]]):
    result = run("survey", "table2", "--device", "cpu", "--batch-size", 2, "--seq-length", 64, "--min-time", "500ms")
    assert result.exit_code == 0, result.output
    run("survey", "table2", "--no-time", "--threads", 1)
    first, second = asked
    assert (first["device"], first["batch_size"], first["sequence_length"]) == ("cpu", 2, 64)
    assert (first["min_time_s"], first["time"], first["threads"]) == (0.5, True, None)
    assert (second["time"], second["threads"], second["sequence_length"]) == (False, 1, 128)
    assert first["command"].split()[0] == "bertprof"  # behind it stands the command line of whoever runs this


def test_files_are_written_and_the_table_is_shown(run: Any, asked: list[dict[str, Any]], tmp_path: Path):
    outputs = [part for suffix in ("json", "md", "html", "csv") for part in ("-o", f"out/t.{suffix}")]
    result = run("survey", "table2", *outputs)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [f"wrote out/t.{suffix}" for suffix in ("json", "md", "html", "csv")]
    assert result.stdout == by_hand().text(120)
    assert "\x1b" not in result.stdout
    assert table2.load(tmp_path / "out" / "t.json") == by_hand()


def test_a_saved_table_is_shown_by_both_commands(run: Any, saved: str, tmp_path: Path):
    assert run("survey", "table2", "--record", saved).stdout == run("report", saved).stdout == by_hand().text(120)
    result = run("report", saved, "-o", "t.md", "-o", "t.html")
    assert result.exit_code == 0, result.output
    assert "ΔMS/ΔA" in (tmp_path / "t.md").read_text()


def test_a_table_of_the_first_version_is_shown(run: Any):
    result = run("survey", "table2", "--record", Path(__file__).parent / "data" / "table2-1.0.json")
    assert result.exit_code == 0, result.output
    assert "DeFormer" in result.stdout
    assert "not run: it decomposes attention" in " ".join(result.stdout.split())
    assert PARTS["later"] not in result.stdout


def test_json(run: Any, saved: str):
    result = run("survey", "table2", "--record", saved, "--json")
    data = json.loads(result.stdout)
    assert (data["schema"], len(data["rows"])) == ("bertprof.table2", 14)


def test_what_cannot_be(run: Any, saved: str, asked: list[dict[str, Any]], tmp_path: Path):
    failed(run("survey", "table2", "-o", "t.png"), "t.png", "no figure", ".html")
    failed(run("report", saved, "-o", "t.svg"), "t.svg", "no figure")
    failed(run("survey", "table2", "-o", "t.txt"), "'.txt'")
    failed(run("survey", "table2", "--record", saved, "--seq-length", 3), "--record", "do not apply")
    failed(run("survey", "table2", "--record", "missing.json"), "missing.json")
    failed(run("survey", "table2", "--seq-length", 513), "--seq-length 513", "512 positions")
    failed(run("survey", "table2", "--seq-length", 0), "--seq-length 0")
    failed(run("survey", "table2", "--batch-size", 0), "--batch-size 0")
    failed(run("survey", "table2", "--min-time", "long"), "--min-time long")
    failed(run("report", saved, "--by", "unit"), "no view by 'unit'")
    failed(run("report", saved, saved), "a table of the survey was given with other files")
    failed(run("diff", saved, saved), "is the survey's Table 2")
    BASE.save(tmp_path / "b.json")
    failed(run("survey", "table2", "--record", "b.json"), "is the record of one model, not the survey's Table 2")
    assert asked == []


def test_a_device_that_is_not_there_fails_once(run: Any):
    failed(run("survey", "table2", "--device", "cuda:99"), "cuda:99")


@pytest.mark.slow
@pytest.mark.usefixtures("few_rounds")
def test_two_real_rows_end_to_end(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = {"BERT-base", "TinyBERT4", "Zhao"}
    rows = tuple(
        s if s.name in kept else s._replace(model=None, uncached=None, why_not="not now") for s in systems.SYSTEMS
    )
    monkeypatch.setattr(systems, "SYSTEMS", rows)
    result = run("survey", "table2", "--device", "cpu", "--seq-length", 16, "--min-time", "0s", "-o", "t.json")
    assert result.exit_code == 0, result.output
    table = table2.load(tmp_path / "t.json")
    measured = [row.system for row in table.rows if row.speed is not None]
    assert measured == ["Zhao", "TinyBERT4", "Zhao"]
    assert all(row.failed is None for row in table.rows)
    assert table.workload.clock == "host"
