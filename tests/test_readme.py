"""Every command of the README and of the texts that lead on from it runs, and what they say of the project is so."""

import re
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from bertprof import processes, report
from bertprof.cli import app
from bertprof.components import Component
from conftest import tiny

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TEXTS = ("README.md", "docs/models.md", "docs/reports.md")


def blocks(language: str, text: str = "README.md") -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / text).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def commands(text: str) -> list[str]:
    lines = (line for block in blocks("bash", text) for line in block.splitlines())
    return [line.partition("#")[0].strip() for line in lines if line.strip()]


@pytest.mark.parametrize("text", TEXTS)
def test_commands_are_found(text: str):
    found = commands(text)
    assert len(found) >= 8
    assert {shlex.split(command)[0] for command in found} <= {"make", "bertprof"}


def hurried(arguments: list[str]) -> None:
    """Changes a command so that it measures no longer than it must, on whatever device there is."""
    if "cuda" in arguments and not torch.cuda.is_available():
        arguments[arguments.index("cuda")] = "cpu"
    if "--processes" in arguments:
        arguments[arguments.index("--processes") + 1] = "2"
    records_only = arguments[0] == "diff" and all(Path(side).suffix == ".json" for side in arguments[1:3])
    if arguments[0] in ("breakdown", "survey", "diff", "doctor") and not (
        records_only or {"--no-time", "--record"} & set(arguments)
    ):
        arguments += ["--min-time", "0s"]
    if arguments[0] == "doctor":
        arguments += ["--processes", "0"]
    if "--until" in arguments:
        arguments += ["--max-time", "0s"]


def in_this_process(command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    """What a process of its own would answer; that there are such is for test_processes.py, test_segments.py and
    test_ci.py."""
    *_, request, answer, _ = command
    processes.main(request, answer, "-1")
    return subprocess.CompletedProcess(command, 0, "", "")


@pytest.mark.slow
@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize("text", TEXTS)
def test_every_bertprof_command_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(**{**vars(subprocess), "run": in_this_process}))
    # What the commands ask for: a checkpoint, the model of the text, the setting of the text.
    tiny("bert", max_position_embeddings=200).save_pretrained("my-checkpoint")
    for model in (block for block in blocks("python", text) if block.startswith("# mymodel.py")):
        Path("mymodel.py").write_text(model)
    for setting in blocks("toml", text):
        Path("pyproject.toml").write_text(setting)
    for command in commands(text):
        program, *arguments = shlex.split(command)
        if program != "bertprof":
            continue
        hurried(arguments)
        with torch.random.fork_rng():  # the text's own model draws its weights
            result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{command}\n{result.output}"
        assert result.stdout or arguments[0] == "report"
        for output in (tmp_path / a for a in arguments if Path(a).suffix in report.RENDERERS):
            assert output.stat().st_size > 500


def test_make_targets_exist():
    makes = [command for command in commands("README.md") if command.startswith("make")]
    assert makes == ["make run", "make test"]
    named = re.findall(
        r"`(make [a-z-]+)`", "".join((ROOT / text).read_text() for text in (*TEXTS, "reports/README.md"))
    )
    assert {"make check", "make bench", "make bench-peers", "make reports", "make published"} <= set(named)
    for command in dict.fromkeys([*makes, *named]):
        done = subprocess.run(
            [*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert ".venv" in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize(
    ("text", "timed", "leaves"),
    [("README.md", 2, "distilbert.json"), ("docs/models.md", 1, ""), ("docs/reports.md", 0, "units.pdf")],
)
def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, timed: int, leaves: str):
    monkeypatch.chdir(tmp_path)
    (code,) = (block for block in blocks("python", text) if block.startswith("import bertprof"))
    code = code.replace('device="cpu")', 'device="cpu", min_time_s=0)').replace(
        "dtype=torch.long))", "dtype=torch.long), min_time_s=0)"
    )
    assert code.count("min_time_s=0") == timed
    with torch.random.fork_rng():
        exec(compile(code, text, "exec"), {})
    assert (tmp_path / leaves).exists()


@pytest.mark.parametrize("text", [*TEXTS, "docs/methods.md", "docs/measuring.md", "docs/ci.md"])
def test_files_and_links_exist(text: str):
    found = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / text).read_text())
    assert [t for t in found if not t.startswith("http") and not (ROOT / text).parent.joinpath(t).exists()] == []


def test_the_map_names_files_that_exist_and_none_is_forgotten():
    (tree,) = [block for block in blocks("") if "profiler/bertprof/" in block]
    for path in (ROOT / "profiler" / "bertprof").rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py", "errors.py", "files.py", "formatting.py", "host.py"):
            assert path.name in tree or path.parent.name in ("report", "survey"), path


def test_every_component_is_explained():
    for component in Component:
        assert f"`{component}`" in README
