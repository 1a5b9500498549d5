"""What a CI system is told beside the exit code: GitHub's job summary and annotations.

Nothing is done unless the variables are set that GitHub sets (docs.github.com, "Workflow commands for GitHub Actions").
"""

import os
import sys
from collections.abc import Collection
from pathlib import Path

from bertprof.difference import Diff, Gate


def tell(diff: Diff, *, strict: bool = False) -> None:
    """Appends the diff to the job's summary and annotates the run with the gates that did not pass.

    What cannot be written is said on stderr and stops nothing: the exit code is what counts.

    Args:
        diff: the comparison.
        strict: what is inconclusive has failed.
    """
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        from bertprof.report.markdown import render_diff

        try:
            with Path(summary).open("a", encoding="utf-8") as stream:
                stream.write(render_diff(diff) + "\n")
        except OSError as error:
            print(f"bertprof: cannot write the job's summary {summary}: {error.strerror or error}", file=sys.stderr)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in annotations(diff, strict=strict):
            print(line, file=sys.stderr)  # stdout may be a table or JSON; GitHub reads both


def annotations(diff: Diff, *, strict: bool = False) -> list[str]:
    """One workflow command for each gate that did not pass: an error for what makes the exit code, else a warning."""
    errors = {"failed", "not comparable", *(["inconclusive"] if strict else [])}
    return [_annotation(gate, errors) for gate in diff.gates if gate.outcome != "passed"]


def _annotation(gate: Gate, errors: Collection[str]) -> str:
    level = "error" if gate.kind != "warn-on" and gate.outcome in errors else "warning"
    title = _escaped(f"bertprof: {gate.text} {gate.outcome}").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{_escaped(gate.reason)}"


def _escaped(text: str) -> str:
    """A line break would end the command, and what follows could be another."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
