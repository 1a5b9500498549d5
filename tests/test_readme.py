"""Every command of the README runs, and what it says of the project is so."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bertprof import report
from bertprof.cli import app
from bertprof.components import Component
from conftest import tiny

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


COMMANDS = [line.partition("#")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]


def test_commands_are_found():
    assert len(COMMANDS) >= 10
    assert {shlex.split(command)[0] for command in COMMANDS} == {"make", "bertprof"}


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


@pytest.mark.slow
@pytest.mark.usefixtures("few_rounds")
def test_every_bertprof_command_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    # What the commands ask for: a checkpoint, the model of the text, the setting of the text.
    tiny("bert", max_position_embeddings=200).save_pretrained("my-checkpoint")
    (model,) = (block for block in blocks("python") if block.startswith("# mymodel.py"))
    Path("mymodel.py").write_text(model)
    (setting,) = blocks("toml")
    Path("pyproject.toml").write_text(setting)
    for command in COMMANDS:
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
    makes = [command for command in COMMANDS if command.startswith("make")]
    assert makes == ["make run", "make test"]
    for command in [*makes, "make check", "make bench", "make reports"]:
        done = subprocess.run(
            [*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert ".venv" in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("few_rounds")
def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (code,) = (block for block in blocks("python") if block.startswith("import bertprof"))
    code = code.replace('device="cpu")', 'device="cpu", min_time_s=0)').replace(
        "dtype=torch.long))", "dtype=torch.long), min_time_s=0)"
    )
    assert code.count("min_time_s=0") == 3
    with torch.random.fork_rng():
        exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "distilbert.json").exists()


def test_files_and_links_exist():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_map_names_files_that_exist_and_none_is_forgotten():
    (tree,) = [block for block in blocks("") if "profiler/bertprof/" in block]
    for path in (ROOT / "profiler" / "bertprof").rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py", "errors.py", "files.py", "formatting.py", "host.py"):
            assert path.name in tree or path.parent.name in ("report", "survey"), path


def test_every_component_is_explained():
    for component in Component:
        assert f"`{component}`" in README
