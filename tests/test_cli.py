"""The command line, in process where that is enough and as a process where it matters."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import bertprof

REAL = Path(__file__).parent / "data" / "bert-base-uncased.json"
BERTPROF = [sys.executable, "-m", "bertprof"]


def failed(result: Result, *parts: str) -> None:
    """The command failed with exit 2, one line on stderr that holds `parts`, and nothing on stdout."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("bertprof: ")
    for part in parts:
        assert part in lines[0]
    assert "Traceback" not in result.stderr


def test_breakdown_writes_what_is_asked_for(run: Any, folder: Any, tmp_path: Path):
    suffixes = ("json", "csv", "md", "html", "png", "svg")
    outputs = [argument for suffix in suffixes for argument in ("-o", f"out/b.{suffix}")]
    result = run("breakdown", folder(), "--device", "cpu", "--seq-length", 8, "--min-time", "0s", *outputs)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(f"b.{s}" for s in suffixes)
    assert result.stderr.splitlines() == [f"wrote out/b.{suffix}" for suffix in suffixes]
    assert "total" in result.stdout
    breakdown = bertprof.load(tmp_path / "out" / "b.json")
    assert breakdown.timed
    with (tmp_path / "out" / "b.csv").open() as handle:
        assert len(list(csv.DictReader(handle))) == len(breakdown.costs)


def test_breakdown_without_time_is_exact_and_the_same_for_both_attentions(run: Any, tmp_path: Path):
    for attention in ("sdpa", "eager"):
        result = run("breakdown", "bert-base-uncased", "--no-time", "--attention", attention, "-o", f"{attention}.json")
        assert result.exit_code == 0, result.output
    records = [bertprof.load(tmp_path / f"{attention}.json") for attention in ("sdpa", "eager")]
    found = [[(str(c.component), c.unit, c.parameters, c.macs, c.flops) for c in b.costs] for b in records]
    assert found[0] == found[1]
    assert records[0].total("macs") == 11_174_215_680


def test_long_sequences_with_a_longer_table(run: Any, tmp_path: Path):
    arguments = ("--no-time", "--seq-length", 4096, "--set", "max_position_embeddings=4096", "-o", "b.json")
    result = run("breakdown", "bert-base-uncased", *arguments)
    assert result.exit_code == 0, result.output
    breakdown = bertprof.load(tmp_path / "b.json")
    # 12 units of 12·H² on each of S tokens and 2·S²·H, and the pooler
    assert breakdown.total("macs") == 12 * (12 * 768**2 * 4096 + 2 * 4096**2 * 768) + 768**2
    assert breakdown.total("parameters") == 109_482_240 + (4096 - 512) * 768


@pytest.mark.parametrize("by", ["group", "component", "unit", "module"])
def test_views(by: str, run: Any):
    result = run("report", REAL, "--by", by)
    assert result.exit_code == 0
    first = {"group": "embedding", "component": "embedding", "unit": "unit 0", "module": "(model)"}[by]
    assert any(line.strip().startswith(first) for line in result.stdout.splitlines()[4:8])


def test_json_goes_to_stdout_and_is_the_record(run: Any, folder: Any):
    result = run("breakdown", folder(), "--no-time", "--seq-length", 8, "--json", "--label", "mine")
    data = json.loads(result.stdout)
    assert data["label"] == "mine"
    assert data["schema"] == "bertprof.breakdown"


def test_task_and_options_reach_the_record(run: Any, folder: Any, tmp_path: Path):
    result = run(
        *("breakdown", folder(), "--no-time", "--task", "masked-lm", "--batch-size", 3, "--seq-length", 8),
        *("--dtype", "bfloat16", "--set", "num_hidden_layers=2", "-o", "b.json"),
    )
    assert result.exit_code == 0, result.output
    breakdown = bertprof.load(tmp_path / "b.json")
    w = breakdown.workload
    assert (w.task, w.batch_size, w.sequence_length, w.dtype) == ("masked-lm", 3, 8, "bfloat16")
    assert breakdown.units == 2


def test_models_lists_the_catalogue(run: Any):
    result = run("models")
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if line.split()[:1] == ["bert-base-uncased"]]
    assert line.split() == ["bert-base-uncased", "bert", "12", "768", "12", "109,482,240"]
    assert len(json.loads(run("models", "--json").stdout)) == len(bertprof.catalog.entries())


def test_survey_figure2_on_a_saved_record(run: Any, tmp_path: Path):
    outputs = ("-o", "f.md", "-o", "f.html", "-o", "f.png", "-o", "f.json")
    result = run("survey", "figure2", "--record", REAL, *outputs)
    assert result.exit_code == 0, result.output
    assert "FFN is the bottleneck" in result.stdout
    assert "holds?" in (tmp_path / "f.md").read_text()
    assert "holds?" in (tmp_path / "f.html").read_text()
    assert bertprof.load(tmp_path / "f.json") == bertprof.load(REAL)


def test_survey_figure2_defaults_to_bert_base_at_256_tokens(run: Any, tmp_path: Path):
    result = run("survey", "figure2", "--no-time", "-o", "f.json")
    assert result.exit_code == 0, result.output
    workload = bertprof.load(tmp_path / "f.json").workload
    assert (workload.model, workload.sequence_length) == ("bert-base-uncased", 256)
    assert result.stdout.count("not measured") == 3


def test_survey_figure2_says_when_a_record_is_of_another_model(run: Any, tmp_path: Path):
    breakdown = bertprof.load(REAL)
    breakdown.workload.model = "other"
    breakdown.save(tmp_path / "b.json")
    result = run("survey", "figure2", "--record", "b.json")
    assert result.exit_code == 0
    assert "about bert-base-uncased; this record is of another model" in result.stderr
    breakdown.workload.model = "google-bert/bert-base-uncased"
    breakdown.save(tmp_path / "b.json")
    assert run("survey", "figure2", "--record", "b.json").stderr == ""


def test_survey_figure2_does_not_ignore_options(run: Any):
    failed(run("survey", "figure2", "--record", REAL, "--seq-length", 3), "--record", "do not apply")
    failed(run("survey", "figure2", "--seq-length", 513), "--seq-length 513", "512 positions")


def test_standard_output_that_is_full_or_closed():
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*BERTPROF, "report", str(REAL)], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["bertprof: cannot write to standard output: No space left on device"]
    closed = f"{' '.join(BERTPROF)} report {REAL} >&-"
    done = subprocess.run(closed, shell=True, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_same_output_twice_is_written_once(run: Any):
    assert run("report", REAL, "-o", "b.md", "-o", "b.md").stderr == "wrote b.md\n"


def test_version_and_help(run: Any):
    assert run("--version").stdout == f"bertprof {bertprof.__version__}\n"
    for command in ((), ("breakdown",), ("report",), ("models",), ("methods",), ("survey",), ("survey", "figure2")):
        result = run(*command, "--help")
        assert result.exit_code == 0
        assert "Usage: " in result.stdout


BAD_ARGUMENTS: list[tuple[list[Any], list[str]]] = [
    (["bert-base-uncasd"], ["no known model", "did you mean bert-base-uncased", "`bertprof models`"]),
    ([""], ["empty"]),
    (["bert-base-uncased", "--seq-length", "0"], ["--seq-length 0", "at least 1"]),
    (["bert-base-uncased", "--seq-length", "513"], ["512 positions", "--set max_position_embeddings=513"]),
    (["roberta-base", "--seq-length", "513"], ["512 positions", "--set max_position_embeddings=515"]),
    (["bert-base-uncased", "--batch-size", "-3"], ["--batch-size -3", "at least 1"]),
    (["bert-base-uncased", "--threads", "0"], ["threads is 0"]),
    (["bert-base-uncased", "--device", "tpu"], ["--device tpu", "auto, cpu, cuda"]),
    (["bert-base-uncased", "-o", "b.pdf"], ["-o b.pdf", ".json, .html"]),
    (["bert-base-uncased", "-o", "b"], ["-o b", "no suffix"]),
    (["bert-base-uncased", "--dtype", "int3"], ["'int3'", "float32"]),
    (["bert-base-uncased", "--attention", "flash"], ["'flash'", "sdpa, eager"]),
    (["bert-base-uncased", "--task", "juggling"], ["'juggling'", "masked-lm"]),
    (["bert-base-uncased", "--min-time", "soon"], ["--min-time soon", "2s"]),
    (["bert-base-uncased", "--min-time", "-1s"], ["--min-time -1s"]),
    (["bert-base-uncased", "--min-time", "nan"], ["--min-time nan"]),
    (["bert-base-uncased", "--set", "hidden_size=banana"], ["hidden_size=banana", "whole number"]),
    (["bert-base-uncased", "--set", "hidden_sizes=768"], ["hidden_sizes", "did you mean hidden_size?"]),
    (["bert-base-uncased", "--set", "hidden_size"], ["KEY=VALUE"]),
    (["bert-base-uncased", "--batch-size", "many"], ["--batch-size"]),
    (["bert-base-uncased", "--frobnicate"], ["--frobnicate"]),
    (["bert-base-uncased", "--by", "colour"], ["--by"]),
    ([], ["model"]),
    (["bert-base-uncased", "--threads", "100000"], ["threads is 100000", "cores of this machine"]),
    (["bert-base-uncased", "--batch-size", "100000000000000000"], ["tokens"]),
    (["x" * 5000], ["longer than 1,000 characters"]),
    (["a\0b"], ["null character"]),
    (["roberta-base", "--set", "pad_token_id=70000"], ["pad_token_id is 70000", "50265"]),
    (["./nowhere"], ["neither a folder nor"]),
]


@pytest.mark.parametrize(("arguments", "parts"), BAD_ARGUMENTS, ids=lambda value: "-".join(map(str, value))[:40])
def test_bad_arguments(arguments: list[str], parts: list[str], run: Any, tmp_path: Path):
    failed(run("breakdown", *arguments), *parts)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_no_folder_behind(run: Any, tmp_path: Path):
    failed(run("breakdown", "bert-base-uncasd", "-o", "new/deep/b.json"), "no known model")
    assert list(tmp_path.iterdir()) == []


def test_no_gpu(run: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    failed(run("breakdown", "bert-base-uncased", "--device", "cuda"), "--device cuda", "use --device cpu")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["without config.json"]),
        ("{", ["config.json", "JSON"]),
        ('{"model_type": "bert", "hidden_size": -5}', ["hidden_size is -5"]),
        ('{"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}', ["asks for code"]),
        ('{"model_type": "t800"}', ["'t800'", "known families"]),
    ],
)
def test_bad_folders(content: str | None, parts: list[str], run: Any, tmp_path: Path):
    (tmp_path / "m").mkdir()
    if content is not None:
        (tmp_path / "m" / "config.json").write_text(content)
    failed(run("breakdown", tmp_path / "m"), *parts)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda text: text[: len(text) // 2], ["not a record", "cut short"]),
        (lambda text: text.replace('"macs":', '"mac":', 1), ["`macs`", "$.costs[0]"]),
        (lambda text: text.replace('"flops":0', '"flops":"many"', 1), ["Expected `int`", "$.costs["]),
        (lambda text: text.replace('"1.0"', '"2.0"', 1), ["version 2.0", "upgrade"]),
    ],
)
def test_bad_records(change: Callable[[str], str], parts: list[str], run: Any, tmp_path: Path):
    (tmp_path / "b.json").write_text(change(REAL.read_text()))
    failed(run("report", "b.json"), "b.json", *parts)
    failed(run("survey", "figure2", "--record", "b.json"), "b.json", *parts)


def test_an_output_folder_that_is_not_writable_is_told_before_any_work(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bertprof.session, "breakdown", lambda *args, **options: pytest.fail("work was begun"))
    (tmp_path / "file").write_text("")
    failed(run("breakdown", "bert-base-uncased", "-o", "file/b.json"), "cannot write file/b.json")
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        failed(run("breakdown", "bert-base-uncased", "-o", "locked/b.json"), "cannot write", "Permission denied")


def test_an_error_of_ours_that_should_not_be(run: Any, monkeypatch: pytest.MonkeyPatch):
    def broken(*args: Any, **options: Any) -> None:
        raise ZeroDivisionError("planted\nin two lines")

    monkeypatch.setattr(bertprof.session, "breakdown", broken)
    failed(run("breakdown", "bert-base-uncased"), "internal error: ZeroDivisionError: planted in two lines", "--debug")
    debugged = run("breakdown", "bert-base-uncased", "--debug")
    assert debugged.exit_code == 2
    assert "Traceback" in debugged.stderr


def test_a_word_that_is_none_of_several(run: Any):
    result = run("report", REAL, "--by", "foo")
    failed(result, "Invalid value for '--by': 'foo' is not one of 'group', 'component', 'unit', 'cell', 'module' (see")


def test_without_arguments_it_explains_itself(run: Any):
    result = run()
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_a_narrow_code_page_gets_the_figures_too(tmp_path: Path):
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    command = [*BERTPROF, "report", str(REAL)]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"56.67M" in done.stdout


# As a process --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_unknown_name_without_any_network_settings_is_answered_without_noise():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [*BERTPROF, "breakdown", "bert-base-uncasd"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "did you mean bert-base-uncased" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.05, 0.4, 1.5, 8.0])
def test_interrupted_whenever_it_ends_with_130_and_no_half_file(after_s: float, tmp_path: Path):
    arguments = ["bertprof", "breakdown", "bert-base-uncased", "--min-time", "100s", "-o", "b.json"]
    # Before that line Python itself is starting, and an interrupt is Python's own.
    code = f"import sys, bertprof.__main__ as m; sys.argv = {arguments!r}; print('started', flush=True); m.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == ""
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_padding_and_wide_columns(run: Any, folder: Any):
    path = folder()
    usual = run("breakdown", path, "--no-time", "--seq-length", 20, "--padding", 0.3)
    assert usual.exit_code == 0
    assert "1 × 20 tokens, 30 % padded" in usual.stdout
    assert "useful MACs" in usual.stdout
    assert "FLOP/B" not in usual.stdout
    wide = run("breakdown", path, "--no-time", "--seq-length", 20, "--wide")
    assert all(name in wide.stdout for name in ("moved", "FLOP/B", "activations"))


@pytest.mark.parametrize("value", ["1", "-0.1", "1.5", "nan"])
def test_a_padding_that_is_none(value: str, run: Any, folder: Any):
    failed(run("breakdown", folder(), "--no-time", f"--padding={value}"), "padding is")


def test_the_projects_anatomy(run: Any, folder: Any, tmp_path: Path):
    path = folder()
    (tmp_path / "pyproject.toml").write_text("[tool.bertprof.anatomy]\n'pooler.*' = 'other'\n'nothing' = 'ffn'\n")
    result = run("breakdown", path, "--no-time", "--seq-length", 8, "--json")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert "head" not in {cost["component"] for cost in data["costs"]}
    caveats = {caveat["code"]: caveat["text"] for caveat in data["caveats"]}
    assert "'nothing' matches no module" in caveats["anatomy-unmatched"]
    assert "pooler.dense" in caveats["unrecognised-modules"]
    (tmp_path / "pyproject.toml").write_text("[tool.bertprof.anatomy]\n'[' = 'ffn'\n")
    failed(run("breakdown", path, "--no-time", "--seq-length", 8), "'[' is no regular expression")


def test_weights_of_a_known_name_are_not_read_on_paper(run: Any):
    failed(run("breakdown", "bert-base-uncased", "--no-time", "--weights"), "exclude each other")


@pytest.mark.slow
def test_a_model_of_17_billion_parameters_on_paper(tmp_path: Path):
    """No weights are built: its process stays under 1.5 GB, of which torch and transformers take a third."""
    command = [*BERTPROF, "breakdown", "turing-nlg-17b", "--no-time", "--seq-length", "1024", "-o", "t.json"]
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    peak_kib = int(done.stdout)  # in KiB on Linux, in bytes on macOS, where the bar is then looser
    assert peak_kib < 1.5e9 / 1024 or sys.platform == "darwin"
    found = bertprof.load(tmp_path / "t.json")
    layers, hidden, tokens = 78, 4256, 1024
    assert found.total("parameters") == 17_176_845_728
    assert found.total("macs") == layers * (12 * tokens * hidden**2 + 2 * tokens**2 * hidden)
    assert found.total("time_ms") is None


def test_a_model_that_does_not_fit_is_refused_before_it_is_built(run: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bertprof.measure.host.available_bytes", lambda: 10**9)
    failed(run("breakdown", "turing-nlg-17b", "--min-time", "0s"), "needs 68.71 GB", "1.000 GB are free", "--no-time")


def test_a_batch_that_does_not_fit_is_refused_before_it_runs(run: Any, folder: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bertprof.measure.host.available_bytes", lambda: 2_000_000)
    result = run("breakdown", folder(), "--batch-size", 300, "--seq-length", 40, "--min-time", "0s")
    # GELU reads and writes 300 · 40 · 64 numbers of four bytes, and so much is queries, keys, values and result.
    failed(result, "alone reads and writes 6.144 MB", "2.000 MB are free", "reduce batch size")


HEAVY = ("torch", "transformers", "fvcore", "pandas", "matplotlib", "scipy", "numpy")


@pytest.mark.parametrize(
    "arguments",
    [
        None,
        ["--help"],
        ["models"],
        ["methods"],
        ["methods", "heads"],
        ["breakdown", "--help"],
        ["report", str(REAL), "-o", "b.md"],
        ["report", str(REAL)],
    ],
    ids=lambda arguments: "import" if arguments is None else " ".join(arguments[:1]),
)
def test_reading_is_light(arguments: list[str] | None, tmp_path: Path):
    call = "import bertprof" if arguments is None else f"from bertprof.cli import app; app({arguments!r})"
    code = (
        f"import sys\ntry:\n    {call}\nexcept SystemExit as done:\n    assert not done.code\n"
        f"print('heavy:', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_public_names_come_when_asked_for():
    assert set(bertprof.__all__) <= set(dir(bertprof))
    for name in bertprof.__all__:
        assert getattr(bertprof, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        bertprof.nonsense  # noqa: B018
