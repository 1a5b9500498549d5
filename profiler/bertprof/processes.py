"""Fresh processes: the same measurement made several times, each in a Python of its own.

The parent writes what is asked to a file, the child (`python -m bertprof.processes FILE`) answers into another: what
libraries print goes past both.
"""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bertprof import errors, pooling, record
from bertprof.errors import BertprofError, UsageError
from bertprof.record import Breakdown

Sides = Sequence[Mapping[str, Any]]


def measured(
    sides: Sides, options: Mapping[str, Any], processes: int, progress: Callable[[str, float], None]
) -> list[Breakdown]:
    """The sides measured together in each of several processes; for each side the pooled record.

    Args:
        sides: what `bertprof.measurement.measured` takes, as JSON bears it.
        options: the same, without progress.
        processes: how many, at least 2.
        progress: is told how many are done, as a share.

    Raises:
        UsageError: there are too many processes.
        BertprofError: what a process raised.
    """
    if not 2 <= processes <= pooling.MOST_PROCESSES:
        raise UsageError(f"processes is {processes}; it must be from 1 to {pooling.MOST_PROCESSES}")
    asked = {
        "sides": list(sides),
        "options": {**options, "most_samples": pooling.repeats_of_each(processes)},
        "path": sys.path,
    }
    found: list[list[Breakdown]] = []
    for number in range(processes):
        progress(f"process {number + 1} of {processes}", number / processes)
        found.append(_in_a_process(asked, f"process {number + 1} of {processes}"))
    names = [f"process {number + 1}" for number in range(processes)]
    return [pooling.pooled(records, names) for records in zip(*found, strict=True)]


def _in_a_process(asked: Mapping[str, Any], name: str) -> list[Breakdown]:
    with tempfile.TemporaryDirectory(prefix="bertprof-") as folder:
        request, answer = Path(folder) / "asked.json", Path(folder) / "answer.json"
        request.write_text(json.dumps(asked))
        done = subprocess.run(
            [sys.executable, "-m", "bertprof.processes", str(request), str(answer)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode == -signal.SIGINT or done.returncode == 130:
            raise KeyboardInterrupt
        if not answer.exists():
            raise BertprofError(f"{name} ended without an answer: {_why(done)}")
        content = json.loads(answer.read_bytes())
    if "error" in content:
        kind = getattr(errors, content["error"]["kind"], BertprofError)
        raise kind(content["error"]["text"])
    return [record.of(item, name) for item in content["records"]]


def _why(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode < 0:
        killed = f"killed by signal {-done.returncode}"
        return f"{killed}, which the system sends when memory runs out" if done.returncode == -9 else killed
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"


def main(request: Path, answer: Path) -> None:
    """The child: reads what is asked, measures, answers."""
    asked = json.loads(request.read_bytes())
    sys.path[:] = asked["path"]
    from bertprof import measurement

    try:
        found = measurement.measured(asked["sides"], **asked["options"])
        content: dict[str, Any] = {"records": [msgspec.to_builtins(one) for one in found]}
    except BertprofError as error:
        content = {"error": {"kind": type(error).__name__, "text": str(error)}}
    except Exception as error:
        content = {"error": {"kind": "BertprofError", "text": f"internal error: {type(error).__name__}: {error}"}}
    answer.write_bytes(msgspec.json.encode(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
