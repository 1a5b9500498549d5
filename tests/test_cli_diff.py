"""`bertprof diff`, `report` of what it wrote and `doctor`: options, exit codes, files."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertprof
from bertprof import comparison, difference, session
from bertprof.readiness import Check
from bertprof.record import Breakdown
from conftest import TINY, failed

REAL = Path(__file__).parent / "data" / "bert-base-uncased.json"
BERTPROF = [sys.executable, "-m", "bertprof"]
SUFFIXES = ("json", "csv", "md", "html", "png", "svg")


COLUMNS = 140
"""Of the terminal in which commands run."""


def changed(path: str, change: Callable[[Breakdown], None] = lambda b: None, source: Path = REAL) -> str:
    """A record like another, changed, in the working directory."""
    breakdown = bertprof.load(source)
    breakdown.modules = None
    change(breakdown)
    breakdown.save(path)
    return path


def one_parameter_more(breakdown: Breakdown) -> None:
    ffn = next(c for c in breakdown.costs if c.component == "ffn" and c.unit == 3)
    ffn.parameters += 1


def slower(factor: float) -> Callable[[Breakdown], None]:
    def change(breakdown: Breakdown) -> None:
        for cost in breakdown.costs:
            cost.time_ms = [factor * t for t in cost.time_ms or []]
        breakdown.instrumented_ms = [factor * t for t in breakdown.instrumented_ms or []]
        breakdown.end_to_end_ms = [factor * t for t in breakdown.end_to_end_ms or []]

    return change


# Exit codes, in processes of their own -------------------------------------------------------------------------------


def exits(tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GITHUB_")}
    return subprocess.run(
        [*BERTPROF, "diff", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment
    )


def test_the_four_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    a, b = changed("a.json"), changed("b.json", one_parameter_more)
    c = changed("c.json", lambda breakdown: setattr(breakdown.workload, "sequence_length", 256))
    gate = ("--fail-on", "parameters:+0")
    assert exits(tmp_path, a, a, *gate).returncode == 0
    done = exits(tmp_path, a, b, *gate, "-o", "d.md", "-o", "d.json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    # Files are written before the command fails.
    assert difference.load(tmp_path / "d.json").gates[0].outcome == "failed"
    assert "ffn" in (tmp_path / "d.md").read_text()
    done = exits(tmp_path, a, b, "--fail-on", "fnn.parameters:+0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "did you mean ffn?" in done.stderr
    done = exits(tmp_path, a, c, "--fail-on", "macs:+0")
    assert done.returncode == 3
    assert "sequence_length is 128 before and 256 after" in " ".join(done.stdout.split())


# Gates ---------------------------------------------------------------------------------------------------------------


def test_one_parameter_in_one_row(run: Any):
    a, b = changed("a.json"), changed("b.json", one_parameter_more)
    assert run("diff", a, b).exit_code == 0
    assert run("diff", a, b, "--fail-on", "parameters:+0").exit_code == 1
    assert run("diff", a, b, "--fail-on", "unit[3].ffn.parameters:+0").exit_code == 1
    assert run("diff", a, b, "--fail-on", "unit[2].ffn.parameters:+0").exit_code == 0
    assert run("diff", a, b, "--fail-on", "parameters:+1").exit_code == 0
    assert run("diff", a, b, "--warn-on", "parameters:+0").exit_code == 0
    assert run("diff", a, b, "--fail-on", "parameters:+0", "--exit-zero").exit_code == 0
    result = run("diff", a, b, "--fail-on", "unit[*].ffn.parameters:+0", "--json")
    gates = json.loads(result.stdout)["gates"]
    assert [gate["scope"] for gate in gates if gate["outcome"] == "failed"] == ["unit[3].ffn"]
    assert len(gates) == 12


def test_gains_and_budgets(run: Any):
    def half(breakdown: Breakdown) -> None:
        for cost in breakdown.of(bertprof.Component.FFN):
            cost.macs //= 2

    a, b = changed("a.json"), changed("b.json", half)
    assert run("diff", a, b, "--require", "ffn.macs:-50%").exit_code == 0
    assert run("diff", a, b, "--require", "ffn.macs:2x").exit_code == 0
    assert run("diff", a, b, "--require", "ffn.macs:-51%").exit_code == 1
    assert run("diff", a, b, "--require", "macs:1.5x").exit_code == 1
    # BERT-base: 437,928,960 bytes
    assert run("diff", a, b, "--budget", "total.bytes:437.93MB").exit_code == 0
    assert run("diff", a, b, "--budget", "total.bytes:100MB").exit_code == 1


def test_what_matches_nothing_is_an_error(run: Any):
    a = changed("a.json")
    failed(run("diff", a, a, "--fail-on", "unit[12].ffn.macs:+0"), "there is no unit[12].ffn")
    failed(run("diff", a, a, "--fail-on", "bottleneck.macs:+0"), "there is no bottleneck")
    failed(run("diff", a, a, "--fail-on", "energy:+5%"), "energy was not measured")
    failed(run("diff", a, a, "--fail-on", "macs"), "has no limit")
    failed(run("diff", a, a, "--allow-mismatch", "colour"), "colour")


def test_records_of_one_process_are_inconclusive_and_say_the_way_out(run: Any):
    a, b = changed("a.json"), changed("b.json", slower(2.0))
    gate = ("--fail-on", "time:+5%")
    result = run("diff", a, b, *gate)
    assert result.exit_code == 0
    assert "--processes 5" in " ".join(result.stdout.split())
    assert run("diff", a, b, *gate, "--strict").exit_code == 1
    assert run("diff", a, b, *gate, "--strict", "--exit-zero").exit_code == 0


def test_folders_of_records_are_processes(run: Any, tmp_path: Path):
    for side, factor in (("before", 1.0), ("after", 2.0)):
        for i in range(5):
            changed(f"{side}/{i}.json", slower(factor * (1 + i / 100)))
    assert run("diff", "before", "before", "--fail-on", "time:+5%").exit_code == 0
    result = run("diff", "before", "after", "--fail-on", "time:+5%", "--json")
    assert result.exit_code == 1
    diff = json.loads(result.stdout)
    assert diff["times"] == "processes"
    total = next(row for row in diff["rows"] if row["scope"] == "total")["metrics"]["time"]
    assert total["ratio"] == pytest.approx(2.0)
    assert run("report", "before").exit_code == 0
    assert total["verdict"] == "slower"


MISMATCHES: list[tuple[str, Any, str]] = [
    ("workload.batch_size", 2, "macs"),
    ("workload.sequence_length", 64, "macs"),
    ("workload.padding", 0.5, "macs"),
    ("workload.task", "masked-lm", "macs"),
    ("workload.device", "cuda:0", "time"),
    ("workload.threads", 7, "time"),
    ("host.cpu", "another", "time"),
    ("host.gpu", "another", "time"),
    ("host.torch", "1.0", "time"),
]


@pytest.mark.parametrize(("field", "value", "metric"), MISMATCHES)
def test_each_mismatch_is_refused_and_let_through(field: str, value: Any, metric: str, run: Any):
    holder, _, name = field.partition(".")
    a, b = changed("a.json"), changed("b.json", lambda breakdown: setattr(getattr(breakdown, holder), name, value))
    assert name in comparison.MISMATCHES
    assert run("diff", a, b).exit_code == 0
    assert run("diff", a, b, "--fail-on", "parameters:+0").exit_code == 0
    result = run("diff", a, b, "--fail-on", f"{metric}:+5%")
    assert result.exit_code == 3
    assert f"--allow-mismatch {name}" in " ".join(result.stdout.split())
    assert run("diff", a, b, "--fail-on", f"{metric}:+5%", "--exit-zero").exit_code == 0
    result = run("diff", a, b, "--fail-on", f"{metric}:+5%", "--allow-mismatch", name)
    assert result.exit_code == 0
    assert f"{name} differs" in " ".join(result.stdout.split())
    dashed = name.replace("_", "-")
    assert run("diff", a, b, "--fail-on", f"{metric}:+5%", "--allow-mismatch", dashed).exit_code == 0


@pytest.mark.parametrize(("name", "value"), [("dtype", "bfloat16"), ("attention", "eager"), ("backend", "onnx")])
def test_what_compression_changes_is_never_refused(name: str, value: str, run: Any):
    a, b = changed("a.json"), changed("b.json", lambda breakdown: setattr(breakdown.workload, name, value))
    result = run("diff", a, b, "--fail-on", "macs:+0")
    assert result.exit_code == 0
    assert value in result.stdout


def test_the_project_sets_gates_and_the_command_line_adds(run: Any, tmp_path: Path):
    a, b = changed("a.json"), changed("b.json", one_parameter_more)
    Path("pyproject.toml").write_text('[tool.bertprof]\nfail-on = ["parameters:+0"]\nbudget = "bytes:1GB"\n')
    assert run("diff", a, b).exit_code == 1
    result = run("diff", a, b, "--fail-on", "parameters:+1", "--json")  # the same scope: the later counts
    assert result.exit_code == 0
    assert {gate["text"] for gate in json.loads(result.stdout)["gates"]} == {"parameters:+1", "bytes:1GB"}
    Path("pyproject.toml").write_text('[tool.bertprof]\nfail-on = ["time:+5%"]\nstrict = true\n')
    assert run("diff", a, changed("c.json", slower(1.5))).exit_code == 1
    Path("pyproject.toml").write_text('[tool.bertprof]\nfail-on = ["time:+5"]\nallow-mismatch = ["cpu", "moon"]\n')
    failed(run("diff", a, b), "pyproject.toml", "moon")


# Models --------------------------------------------------------------------------------------------------------------

QUICK = ("--device", "cpu", "--seq-length", "8", "--min-time", "0s")


def test_two_models_are_measured_together(run: Any, folder: Any):
    model = folder()
    outputs = [argument for suffix in SUFFIXES for argument in ("-o", f"out/d.{suffix}")]
    result = run("diff", model, model, *QUICK, "--after", "set.intermediate_size=128", "--until", "90%", *outputs)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [f"wrote out/d.{suffix}" for suffix in SUFFIXES]
    diff = difference.load("out/d.json")
    assert diff.times == "rounds"
    assert diff.before.samples == diff.after.samples
    assert diff.command is not None
    # FFN: 2·32·64 weights become 2·32·128, and 64 biases 128, in three units
    assert diff.row("ffn").metrics["parameters"].change == 3 * (2 * 32 * 64 + 64)
    assert diff.row("softmax-attention").metrics["macs"].verdict == "same"
    # The saved diff renders again, without the records.
    again = run("report", "out/d.json", "-o", "again.md")
    assert again.exit_code == 0
    assert Path("again.md").read_text() == Path("out/d.md").read_text()
    assert run("report", "out/d.json").stdout == result.stdout


def test_one_side_alone_with_eager_attention(run: Any, folder: Any):
    result = run("diff", folder(), folder(), "--no-time", "--seq-length", "8", "--after", "attention=eager", "--json")
    diff = json.loads(result.stdout)
    assert (diff["before"]["workload"]["attention"], diff["after"]["workload"]["attention"]) == ("sdpa", "eager")
    total = next(row for row in diff["rows"] if row["scope"] == "total")["metrics"]
    assert {total[m]["verdict"] for m in ("parameters", "macs", "flops")} == {"same"}
    assert diff["times"] is None


def test_a_model_beside_a_record_takes_its_workload(run: Any, folder: Any):
    model = folder()
    assert (
        run("breakdown", model, "--no-time", "--seq-length", "16", "--batch-size", "3", "-o", "b.json").exit_code == 0
    )
    result = run("diff", "b.json", model, "--fail-on", "macs:+0", "--json")
    assert result.exit_code == 0, result.output
    workload = json.loads(result.stdout)["after"]["workload"]
    assert (workload["batch_size"], workload["sequence_length"]) == (3, 16)
    result = run("diff", "b.json", model, "--after", "set.num_hidden_layers=2", "--require", "ffn.macs:-33%", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["after"]["units"] == 2
    failed(run("diff", "b.json", model, "--seq-length", "8"), "--seq-length", "takes the record's workload")
    # Also where it is what it would be anyway: the record's was asked for instead.
    failed(run("diff", "b.json", model, "--seq-length", "128"), "--seq-length", "takes the record's workload")
    failed(run("diff", "b.json", model, "--before", "attention=eager"), "--before", "that side is a record")


def test_a_record_of_a_larger_machine_is_compared_by_its_counts(run: Any):
    def elsewhere(breakdown: Breakdown) -> None:
        breakdown.workload.threads = 4096
        breakdown.workload.device = "cuda:0"

    a = changed("a.json", elsewhere)
    result = run("diff", a, "bert-base-uncased", "--no-time", "--fail-on", "parameters:+0", "--fail-on", "macs:+0")
    assert result.exit_code == 0, result.output


def test_a_record_is_read_from_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    a = changed("a.json")
    command = f"{' '.join(BERTPROF)} diff <(cat {a}) {a} --fail-on parameters:+0"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_has_had_enough_changes_no_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    a, b = changed("a.json"), changed("b.json", one_parameter_more)
    for side, code in ((a, 0), (b, 1)):
        command = f"{' '.join(BERTPROF)} diff {a} {side} --fail-on parameters:+0 | true; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--seq-length", "8"), ("--seq-length", "both sides are records")),
        (("--set", "hidden_size=3"), ("--set", "both sides are records")),
        (("--until", "2%"), ("--until", "both sides are records")),
        (("--processes", "5"), ("--processes", "both sides are records")),
        (("--no-time",), ("--no-time", "both sides are records")),
        (("--after", "attention=eager"), ("--after", "that side is a record")),
        (("--until", "2%", "--no-time"), ("--until", "--no-time excludes it")),
        (("--metric", "MNLI"), ("--metric MNLI", "--accuracy")),
        (("--accuracy", "0.9", "0.8"), ("these are shares; give points, as 90",)),
        (("--until", "2"), ("--until 2", "such as 2%")),
        (("--until", "200%"), ("--until 200%",)),
        (("--max-time", "soon"), ("--max-time soon", "not a duration")),
        (("--min-samples", "0"), ("--min-samples 0", "at least 1")),
        (("--accuracy", "nan", "3"), ("accuracy",)),
        (("-o", "d.pdf"), ("-o d.pdf",)),
        (("--by", "module"), ("--by",)),
    ],
)
def test_wrong_use(arguments: tuple[str, ...], parts: tuple[str, ...], run: Any):
    a = changed("a.json")
    failed(run("diff", a, a, *arguments), *parts)


def test_what_is_no_side(run: Any, tmp_path: Path):
    a = changed("a.json")
    # A variable that is not set must not compare the folder with itself.
    failed(run("diff", "", a), "a side of the diff is empty")
    failed(run("breakdown", "bert-base-uncased", "--no-time", "--processes", "3"), "--processes", "--no-time")
    failed(run("diff", a, "none.json"), "none.json", "there is no such file")
    failed(run("diff", a, "none.html"), "none.html", "there is no such file", "breakdown -o none.html")
    failed(run("diff", "none.json.gz", a), "none.json.gz", "there is no such file", "breakdown -o none.json`")
    (tmp_path / "empty").mkdir()
    failed(run("diff", a, "empty"), "holds no records")
    (tmp_path / "broken.json").write_text("{")
    failed(run("diff", a, "broken.json"), "broken.json is not a record")
    assert run("diff", a, a, "-o", "d.json").exit_code == 0
    failed(run("diff", a, "d.json"), "d.json", "diff")
    failed(run("report", "d.json", a), "diff")


def test_accuracy_gives_the_survey_s_ratio(run: Any):
    def small(breakdown: Breakdown) -> None:
        for cost in breakdown.costs:
            cost.parameter_bytes //= 4

    a, b = changed("a.json"), changed("b.json", small)
    result = run("diff", a, b, "--accuracy", "84.6", "81.6", "--metric", "MNLI", "--json")
    accuracy = json.loads(result.stdout)["accuracy"]
    assert accuracy["size_drop_per_accuracy_drop"] == pytest.approx(75 / 3)
    assert "MNLI" in run("diff", a, b, "--accuracy", "84.6", "81.6", "--metric", "MNLI").stdout


# Records side by side, the doctor ------------------------------------------------------------------------------------


def test_several_records_stand_side_by_side(run: Any, tmp_path: Path):
    a, b = changed("a.json"), changed("b.json", lambda breakdown: setattr(breakdown, "label", "mine"))
    result = run("report", a, b, REAL)
    assert result.exit_code == 0
    assert "mine" in result.stdout
    assert run("report", a, b, "-o", "s.md", "-o", "s.html", "-o", "s.csv", "-o", "s.png").exit_code == 0
    assert "mine" in (tmp_path / "s.md").read_text()
    failed(run("report", a, b, "-o", "s.json"), "s.json")


def test_the_doctor_prints_what_it_found(run: Any, monkeypatch: pytest.MonkeyPatch):
    asked: dict[str, Any] = {}

    def doctor(**options: Any) -> list[Check]:
        asked.update(options)
        return [Check(name="timer", value="20 ns", verdict="warn", advice="take another", figures={"step_ns": 20.0})]

    monkeypatch.setattr(session, "doctor", doctor)
    result = run("doctor", "--device", "cpu", "--threads", "1", "--processes", "2", "--min-time", "1s")
    assert result.exit_code == 0
    assert {key: asked[key] for key in ("device", "threads", "processes", "min_time_s")} == {
        "device": "cpu",
        "threads": 1,
        "processes": 2,
        "min_time_s": 1.0,
    }
    for part in ("timer", "20 ns", "take another"):
        assert part in result.stdout
    (check,) = json.loads(run("doctor", "--json").stdout)
    assert check["figures"] == {"step_ns": 20.0}


@pytest.mark.slow
def test_the_doctor_examines_this_machine(run: Any):
    result = run("doctor", "--device", "cpu", "--threads", "1", "--processes", "0", "--min-time", "0s")
    assert result.exit_code == 0, result.output
    for part in ("timer", "threads", "torch"):
        assert part in result.stdout.lower()


def test_help_names_exit_codes_and_grammar(run: Any):
    text = " ".join(run("diff", "--help").stdout.split())
    for part in ("Exit codes: 0 fine, 1 a gate failed", "--fail-on", "--until", "time:1.5x", "--allow-mismatch"):
        assert part in text
    assert run("doctor", "--help").exit_code == 0


def test_reading_and_comparing_records_imports_nothing_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    a, b = changed("a.json"), changed("b.json", slower(1.2))
    code = (
        "import sys; from bertprof.cli import app\n"
        f"try: app(['diff', '{a}', '{b}', '--fail-on', 'time:+5%', '-o', 'd.md', '-o', 'd.json', '-o', 'd.csv'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'fvcore', 'pandas', 'matplotlib', 'scipy', 'numpy'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stderr


def test_tiny_configurations_are_what_these_tests_think():
    assert TINY["bert"]["hidden_size"] == 32
    assert TINY["bert"]["intermediate_size"] == 64
