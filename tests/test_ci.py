"""What CI is told; the action and the documented workflows, run as far as a shell can."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import bertprof
from bertprof import ci, difference, limits
from bertprof.comparison import METRICS
from bertprof.difference import Gate

ROOT = Path(__file__).parents[1]
REAL = ROOT / "tests" / "data" / "bert-base-uncased.json"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
WORKFLOWS = [
    yaml.safe_load(b) for b in re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs/ci.md").read_text(), re.M | re.S)
]


def uses(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps that use the action."""
    return [step for job in workflow["jobs"].values() for step in job["steps"] if "bertprof@" in step.get("uses", "")]


def gate(**fields: Any) -> Gate:
    known = {"kind": "fail-on", "text": "time:+5%", "origin": "o", "scope": "total", "metric": "time"}
    return Gate(**{**known, "outcome": "failed", "change": None, "reason": "r", **fields})


@pytest.fixture
def diff() -> difference.Diff:
    breakdown = bertprof.load(REAL)
    return bertprof.diff(breakdown, breakdown)


# What the command tells ----------------------------------------------------------------------------------------------


def test_failed_gates_are_errors_and_doubts_are_warnings(diff: difference.Diff):
    diff.gates = [
        gate(outcome="passed"),
        gate(reason="too slow"),
        gate(outcome="not comparable"),
        gate(outcome="inconclusive"),
        gate(kind="warn-on"),
    ]
    assert ci.annotations(diff) == [
        "::error title=bertprof%3A time%3A+5%25 failed::too slow",
        "::error title=bertprof%3A time%3A+5%25 not comparable::r",
        "::warning title=bertprof%3A time%3A+5%25 inconclusive::r",
        "::warning title=bertprof%3A time%3A+5%25 failed::r",
    ]


def test_a_doubt_that_fails_the_job_is_an_error(diff: difference.Diff):
    diff.gates = [gate(outcome="inconclusive"), gate(outcome="inconclusive", kind="warn-on")]
    assert diff.exit_code(strict=True) == 1
    assert [line.split()[0] for line in ci.annotations(diff, strict=True)] == ["::error", "::warning"]


def test_text_of_a_record_cannot_be_a_command(diff: difference.Diff):
    diff.gates = [gate(text="a,b:c\n::stop-commands::x", reason="100%\r\n::error::planted")]
    (line,) = ci.annotations(diff)
    assert len(line.splitlines()) == 1
    assert line.endswith("::100%25%0D%0A::error::planted")
    assert "title=bertprof%3A a%2Cb%3Ac%0A%3A%3Astop" in line


def test_nothing_is_told_outside_of_ci(diff: difference.Diff, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    diff.gates = [gate()]
    ci.tell(diff)
    assert capsys.readouterr() == ("", "")


def test_the_summary_is_appended_to(
    diff: difference.Diff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    diff.gates = [gate(outcome="inconclusive")]
    ci.tell(diff, strict=True)
    assert summary.read_text().startswith("before\n<!-- bertprof:diff -->\n")
    assert capsys.readouterr() == ("", "::error title=bertprof%3A time%3A+5%25 inconclusive::r\n")


def test_a_summary_that_cannot_be_written_stops_nothing(
    diff: difference.Diff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    ci.tell(diff)
    assert "cannot write the job's summary" in capsys.readouterr().err


# The action ----------------------------------------------------------------------------------------------------------


def test_no_value_of_the_workflow_stands_inside_of_a_script():
    """Texts of others reach a script by its environment only: inside of it, they would be code."""
    for step in STEPS.values():
        assert "${{" not in step["run"]


def bash(script: str, cwd: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    path = f"{cwd / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=cwd,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


def compare(
    tmp_path: Path, before: str, after: str, options: str, working_directory: str = "."
) -> tuple[dict[str, str], str]:
    assert STEPS["Compare"]["working-directory"] == "${{ inputs.working-directory }}"
    output = tmp_path / "output"
    output.write_text("")
    done = bash(
        STEPS["Compare"]["run"],
        tmp_path / working_directory,
        BEFORE=before,
        AFTER=after,
        OPTIONS=options,
        RUNNER_TEMP=str(tmp_path / "temporary"),
        GITHUB_OUTPUT=str(output),
        GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"),
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in output.read_text().splitlines()), done.stderr


@pytest.mark.slow
def test_the_action_compares_and_goes_on_to_the_comment(tmp_path: Path):
    shutil.copy(REAL, tmp_path / "a.json")
    more = bertprof.load(REAL)
    more.costs[-1].parameters += 1
    more.modules = None
    more.save(tmp_path / "b.json")
    outputs, _ = compare(tmp_path, "a.json", "a.json", "")
    assert outputs["exit-code"] == "0"
    # Blanks, empty lines and what a shell would expand
    outputs, stderr = compare(
        tmp_path, "a.json", "b.json", "\n   --fail-on=unit[*].macs:+0 \n\n--fail-on=parameters:+0\n"
    )
    assert outputs["exit-code"] == "1"
    assert "::error title=bertprof%3A parameters%3A+0 failed::" in stderr
    assert Path(outputs["markdown"]).read_text().startswith("<!-- bertprof:diff -->")
    assert difference.load(outputs["json"]).exit_code() == 1
    assert difference.load(outputs["html"]).exit_code() == 1
    assert (tmp_path / "summary.md").read_text().count("<!-- bertprof:diff -->") == 2
    # What cannot be compared at all leaves no report of an earlier run behind.
    outputs, _ = compare(tmp_path, "a.json", "--version", "")
    assert outputs["exit-code"] == "2"
    assert not Path(outputs["markdown"]).exists()


def there(user: str, body: str) -> dict[str, Any]:
    return {"user": {"type": user}, "body": body}


MINE = "<!-- bertprof:diff speed/times -->\n### before"


@pytest.mark.skipif(shutil.which("jq") is None, reason="GitHub's command has jq built in; here it is a program")
@pytest.mark.parametrize(
    ("comments", "edited"),
    [
        ([], None),
        ([there("Bot", MINE), there("Bot", MINE)], 0),
        # What a person wrote, what another job wrote, what only begins like it, what quotes it
        ([there("User", MINE), there("Bot", "<!-- bertprof:diff cost/counts -->\n")], None),
        ([there("Bot", "<!-- bertprof:diff speed/times-2 -->\n"), there("Bot", f"> {MINE}"), there("Bot", MINE)], 2),
    ],
)
def test_the_action_comments_once_and_then_edits_its_own(
    comments: list[dict[str, Any]], edited: int | None, tmp_path: Path
):
    (tmp_path / "bin").mkdir()
    (tmp_path / "comments.json").write_text(json.dumps([{"id": i, **one} for i, one in enumerate(comments)]))
    gh = tmp_path / "bin" / "gh"
    gh.write_text('#!/bin/bash\necho "$@" >> calls\nif [ "$2" = --paginate ]; then jq -r "$5" comments.json; fi\n')
    gh.chmod(0o755)
    (tmp_path / "diff.md").write_text("<!-- bertprof:diff -->\n### now\n\ntext\n")
    env = {"NUMBER": "5", "GITHUB_REPOSITORY": "o/r", "MARKDOWN": "diff.md", "KEY": "speed/times"}
    done = bash(STEPS["Comment"]["run"], tmp_path, **env)
    assert (done.returncode, done.stdout) == (0, "")
    asked, told = (tmp_path / "calls").read_text().splitlines()
    assert asked.startswith("api --paginate repos/o/r/issues/5/comments --jq")
    if edited is None:
        assert told == "api --silent --method POST repos/o/r/issues/5/comments -F body=@diff.md.comment"
    else:
        assert told == f"api --silent --method PATCH repos/o/r/issues/comments/{edited} -F body=@diff.md.comment"
    assert (tmp_path / "diff.md.comment").read_text() == "<!-- bertprof:diff speed/times -->\n### now\n\ntext\n"
    assert (tmp_path / "diff.md").read_text().startswith("<!-- bertprof:diff -->\n")


def test_a_key_is_plain_text_whatever_the_workflow_is_called(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    gh = tmp_path / "bin" / "gh"
    gh.write_text("#!/bin/bash\n")
    gh.chmod(0o755)
    (tmp_path / "diff.md").write_text("<!-- bertprof:diff -->\ntext\n")
    env = {"NUMBER": "5", "GITHUB_REPOSITORY": "o/r", "MARKDOWN": "diff.md", "KEY": 'a "b")) é--> $(x)\n/.c_1'}
    assert bash(STEPS["Comment"]["run"], tmp_path, **env).returncode == 0
    assert (tmp_path / "diff.md.comment").read_text() == "<!-- bertprof:diff a-b-x-/.c_1 -->\ntext\n"


def test_the_comment_of_a_job_is_its_own():
    """The renderer's marker is the same for all; the documented workflows must not take one another's comment."""
    assert ACTION["inputs"]["key"]["default"] == "${{ github.workflow }}/${{ github.job }}"
    assert STEPS["Comment"]["env"]["KEY"] == "${{ inputs.key }}"
    keys = {use["with"].get("key", (flow["name"], *flow["jobs"])) for flow in WORKFLOWS for use in uses(flow)}
    assert len(keys) == len(WORKFLOWS)


def test_a_comment_that_may_not_be_written_is_a_warning(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    gh = tmp_path / "bin" / "gh"
    gh.write_text("#!/bin/bash\nexit 1\n")
    gh.chmod(0o755)
    (tmp_path / "diff.md").write_text("x")
    env = {"NUMBER": "5", "GITHUB_REPOSITORY": "o/r", "MARKDOWN": "diff.md", "KEY": "speed/times"}
    done = bash(STEPS["Comment"]["run"], tmp_path, **env)
    assert done.returncode == 0
    assert done.stdout.startswith("::warning title=bertprof::the comment could not be written")
    assert bash(STEPS["Comment"]["run"], tmp_path, **{**env, "MARKDOWN": "none.md"}).stdout == ""


@pytest.mark.parametrize("code", ["0", "1", "2", "3"])
def test_the_verdict_is_the_exit_code(code: str, tmp_path: Path):
    assert bash(STEPS["Verdict"]["run"], tmp_path, CODE=code).returncode == int(code)


# The documented grammar -----------------------------------------------------------------------------------------------


def test_every_gate_and_metric_in_the_text_is_one():
    text = (ROOT / "docs/ci.md").read_text()
    tables = text[text.index("## What a gate can say") : text.index("## Counts against")]
    scopes, metrics, kinds = (
        re.findall(r"^\| (`.*?) \|.*\|$", t, re.M) for t in tables.split("\n\n") if t.startswith("| ")
    )
    named = re.findall(r"`([^`]+)`", " ".join(metrics))
    assert sorted(named) == sorted(METRICS)
    for scope in re.findall(r"`([^`]+)`", " ".join(scopes)):
        assert limits.parse("fail-on", f"{scope}.parameters:+0").scope == scope
    assert re.findall(r"`--([^`]+)`", " ".join(kinds)) == list(limits.KINDS)
    for line in tables.splitlines():
        option = re.match(r"\| `--([\w-]+)`, `[\w-]+` \| (.*?) \|", line)
        for limit in re.findall(r"`([^`]+)`", option[2]) if option else ():
            metric = "bytes" if "B" in limit else "time" if "m" in limit else "macs"
            limits.parse(option[1], f"{metric}:{limit}")


# The documented workflows --------------------------------------------------------------------------------------------

MODEL = """
import torch
from torch import nn

WIDTH = {width}


def build():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, WIDTH, batch_first=True)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


def inputs(batch_size=1, sequence_length=4):
    return torch.zeros(batch_size, sequence_length, 16)
"""


def test_the_workflows_use_inputs_that_the_action_has():
    assert len(WORKFLOWS) == 2
    for workflow in WORKFLOWS:
        (use,) = uses(workflow)
        assert set(use["with"]) <= set(ACTION["inputs"])
        assert {name for name, field in ACTION["inputs"].items() if field.get("required")} <= set(use["with"])
        assert workflow["permissions"]["pull-requests"] == "write"


@pytest.mark.slow
def test_counts_against_a_saved_record(tmp_path: Path):
    (saved,) = re.findall(r"^(bertprof breakdown .* --no-time .*)$", (ROOT / "docs/ci.md").read_text(), re.M)
    (tmp_path / "mymodel.py").write_text(MODEL.format(width=32))
    assert bash(saved, tmp_path).returncode == 0
    (use,) = uses(WORKFLOWS[0])
    asked = [use["with"][key] for key in ("before", "after", "options")]
    assert compare(tmp_path, *asked)[0]["exit-code"] == "0"
    (tmp_path / "mymodel.py").write_text(MODEL.format(width=33))
    outputs, stderr = compare(tmp_path, *asked)
    assert outputs["exit-code"] == "1", stderr
    gates = json.loads(Path(outputs["json"]).read_text())["gates"]
    assert [g["outcome"] for g in gates] == ["failed", "failed"]
    # One column of 16 weights in, one of 16 out, and a bias
    assert gates[0]["change"]["change"] == 33


@pytest.mark.slow
def test_times_of_two_revisions_alternated(tmp_path: Path):
    job = WORKFLOWS[1]["jobs"]["times"]
    steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    origin, after = tmp_path / "origin", tmp_path / "after"
    origin.mkdir()
    git = "git -c user.name=t -c user.email=t@t -c commit.gpgsign=false -c init.defaultBranch=main"
    (origin / "mymodel.py").write_text(MODEL.format(width=32))
    made = bash(f"{git} init -q && {git} add -A && {git} commit -qm one", origin)
    assert made.returncode == 0, made.stderr
    made = bash(f"{git} clone -q origin after && cd after && {git} checkout -qb change", tmp_path)
    assert made.returncode == 0, made.stderr
    (after / "mymodel.py").write_text(MODEL.format(width=64))
    assert bash(f"{git} commit -qam two", after).returncode == 0
    done = bash(steps["Check out the revision before"], tmp_path, GITHUB_BASE_REF="main")
    assert done.returncode == 0, done.stderr
    assert "WIDTH = 32" in (tmp_path / "before" / "mymodel.py").read_text()
    # Three of the five in the text are enough to see that it runs, at no least time.
    measure = steps["Measure both in turn"].replace("1 2 3 4 5", "1 2 3").replace(" -o ", " --min-time 0s -o ")
    done = bash(measure, tmp_path)
    assert done.returncode == 0, done.stderr
    wrote = re.findall(r"wrote \.\./records/(\w+)/(\d)\.json", done.stderr)
    assert wrote == [("before", "1"), ("after", "1"), ("after", "2"), ("before", "2"), ("before", "3"), ("after", "3")]
    (use,) = uses(WORKFLOWS[1])
    options = use["with"]["options"].replace("+10%", "+100000%").replace("+20%", "+100000%")
    asked = (use["with"]["before"], use["with"]["after"], options, use["with"]["working-directory"])
    outputs, stderr = compare(tmp_path, *asked)
    assert outputs["exit-code"] == "0", stderr
    diff = difference.load(outputs["json"])
    assert len(diff.gates) == 2
    assert diff.times == "processes"
    assert (diff.before.processes, diff.after.processes) == (3, 3)
    change = diff.row("ffn").metrics["macs"]
    assert (change.before, change.after) == (128 * 2 * 16 * 32, 128 * 2 * 16 * 64)
    # The project's gates count too: 32 columns more of 16 weights in, 16 out and a bias are 1,056.
    (after / "pyproject.toml").write_text('[tool.bertprof]\nfail-on = ["parameters:+1055"]\n')
    outputs, stderr = compare(tmp_path, *asked)
    assert outputs["exit-code"] == "1"
    assert "::error title=bertprof%3A parameters%3A+1055 failed::" in stderr
