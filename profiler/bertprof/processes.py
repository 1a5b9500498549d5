"""Fresh processes: the same measurement made several times, each in a Python of its own.

The parent writes what is asked to a file, the child answers into another: what libraries print goes past both.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bertprof import errors, measurement, pooling, record
from bertprof.errors import BertprofError, UsageError
from bertprof.measurement import Plan, Progress
from bertprof.observations import Beside
from bertprof.record import Breakdown
from bertprof.sides import Side


def measured(asked: Sequence[Side], plan: Plan, processes: int, progress: Progress) -> list[Breakdown]:
    """The sides measured together in each of several processes; for each side the pooled record.

    Args:
        asked: the sides.
        plan: how to measure them in each process.
        processes: how many, at least 2.
        progress: is told how many are done, as a share.

    Raises:
        UsageError: there are too many processes.
        BertprofError: what a process raised.
    """
    if not 2 <= processes <= pooling.MOST_PROCESSES:
        raise UsageError(f"processes is {processes}; it must be from 1 to {pooling.MOST_PROCESSES}")
    each = plan._replace(most_samples=pooling.repeats_of_each(processes))
    beside = each.beside._asdict()
    request = {"sides": list(asked), "plan": {**each._asdict(), "beside": beside}, "path": sys.path}
    found: list[list[Breakdown]] = []
    for number in range(processes):
        progress(f"process {number + 1} of {processes}", number / processes)
        found.append(_in_a_process(request, f"process {number + 1} of {processes}"))
    names = [f"process {number + 1}" for number in range(processes)]
    return [pooling.pooled(records, names) for records in zip(*found, strict=True)]


_CHILD = """
import json, sys
sys.path[:] = json.load(open(sys.argv[1]))["path"]
from bertprof import processes
processes.main(*sys.argv[1:])
"""
"""What a child runs: nothing is imported before its path is that of the parent."""


def _in_a_process(asked: Mapping[str, Any], name: str) -> list[Breakdown]:
    # The child ends when the pipe does, and so with its parent, however that ends: it would disturb what comes next.
    alive, held = os.pipe()
    inherited: dict[str, Any] = {"pass_fds": (alive,)} if os.name == "posix" else {}
    try:
        with tempfile.TemporaryDirectory(prefix="bertprof-") as folder:
            request, answer = Path(folder) / "asked.json", Path(folder) / "answer.json"
            request.write_text(json.dumps(asked))
            done = subprocess.run(
                [sys.executable, "-P", "-c", _CHILD, str(request), str(answer), str(alive if inherited else -1)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                **inherited,
            )
            if done.returncode == -signal.SIGINT or done.returncode == 130:
                raise KeyboardInterrupt
            if not answer.exists():
                raise BertprofError(f"{name} ended without an answer: {_why(done)}")
            content = json.loads(answer.read_bytes())
    finally:
        os.close(alive)
        os.close(held)
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


def main(request: str, answer: str, alive: str) -> None:
    """The child: reads what is asked, measures, answers.

    Args:
        request: the file with what is asked.
        answer: the file for what was found.
        alive: the number of a pipe that is open as long as the parent lives; below 0 where there is none.
    """
    if int(alive) >= 0:
        threading.Thread(target=_end_with, args=(int(alive),), daemon=True).start()
    asked = json.loads(Path(request).read_bytes())
    try:
        plan = Plan(**{**asked["plan"], "beside": Beside(**asked["plan"]["beside"])})
        found = measurement.measured(asked["sides"], plan)
        content: dict[str, Any] = {"records": [msgspec.to_builtins(one) for one in found]}
    except BertprofError as error:
        content = {"error": {"kind": type(error).__name__, "text": str(error)}}
    except Exception as error:
        content = {"error": {"kind": "BertprofError", "text": f"internal error: {type(error).__name__}: {error}"}}
    Path(answer).write_bytes(msgspec.json.encode(content))


def _end_with(alive: int) -> None:
    """Waits for the end of the parent, which closes the pipe, and ends."""
    os.read(alive, 1)
    os._exit(1)
