"""What is asked for beside counts and times, and what is refused before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest

import bertprof
from bertprof.errors import OutputError, UsageError
from bertprof.formatting import bytes_of
from bertprof.further import beside
from bertprof.observations import Beside


def test_without_more_said_the_peaks_of_memory_and_of_the_device_are_found():
    assert beside({}, time=True) == Beside(memory=True, peaks="cached")
    # What only counts runs nothing.
    assert beside({}, time=False) == Beside(memory=True)
    assert beside({"roofline": False}, time=True) == Beside(memory=True)


def test_everything_can_be_asked_for():
    found = beside(
        {
            "clocks": "events, graph,kernels,graph",
            "cross_check": True,
            "trace": Path("run.trace.json"),
            "peaks": True,
            "memory_limit": "32GB",
            "training": True,
            "energy": True,
        },
        time=True,
    )
    assert found == Beside(
        clocks=("events", "graph", "kernels"),
        cross_check=True,
        trace="run.trace.json",
        peaks="again",
        memory=True,
        memory_limit_bytes=32 * 10**9,
        training=True,
        energy=True,
    )
    found = beside({"clocks": ["graph"], "memory_limit": 5e9}, time=True)
    assert (found.clocks, found.memory_limit_bytes) == (("graph",), 5 * 10**9)
    assert type(found.memory_limit_bytes) is int


@pytest.mark.parametrize(
    ("text", "size"),
    [("32GB", 32 * 10**9), ("16 GiB", 16 * 2**30), ("512mb", 512 * 10**6), ("1.5kB", 1500), ("7", 7), ("0.5B", 0)],
)
def test_sizes(text: str, size: int):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1 XB", "1e9", "٣GB", "1.GB", "32 G B", "nan"])
def test_what_is_no_size(text: str):
    with pytest.raises(ValueError, match=r"^"):
        bytes_of(text)


@pytest.mark.parametrize(
    ("further", "options", "wrong"),
    [
        ({"clocks": "sun"}, {}, "--clock sun: there is no such clock; use events, graph, kernels"),
        ({"clocks": "graph,"}, {}, "there is no such clock"),
        ({"clocks": "graph"}, {"time": False}, "--clock runs the model: --no-time excludes it"),
        ({"cross_check": True}, {"time": False}, "--cross-check runs the model"),
        ({"trace": "a.trace.json"}, {"time": False}, "a trace runs the model"),
        ({"peaks": True}, {"time": False}, "--peaks runs the model"),
        ({"energy": True}, {"time": False}, "--energy runs the model"),
        ({"trace": "a.trace.json"}, {"processes": 2}, "a trace is of one process: --processes excludes it"),
        ({"peaks": True, "roofline": False}, {}, "--no-roofline excludes it"),
        ({"training": True}, {}, "give one, as --memory-limit 32GB"),
        ({"memory_limit": "much"}, {}, "--memory-limit much: not a size; write 32GB"),
        ({"memory_limit": "0GB"}, {}, "--memory-limit 0GB: that is 0 B; write 32GB"),
        ({"memory_limit": "32"}, {}, "--memory-limit 32: that is 32 B; write 32GB"),
        ({"memory_limit": -5}, {}, "--memory-limit -5: that is -5 B"),
        ({"memory_limit": "99999999999TB"}, {}, "--memory-limit 99999999999TB: that is"),
        ({"memory_limit": 1.5}, {}, "--memory-limit 1.5: not a size"),
        ({"memory_limit": True}, {}, "--memory-limit True: not a size"),
        ({"memory_limit": float("inf")}, {}, "--memory-limit inf: not a size"),
        ({"clocks": ""}, {}, "there is no such clock"),
    ],
)
def test_what_cannot_be_is_refused_at_once(further: Any, options: dict[str, Any], wrong: str):
    with pytest.raises(UsageError) as caught:
        beside(further, **{"time": True, **options})
    assert wrong in str(caught.value)


@pytest.mark.parametrize("trace", ["", "taken/run.trace.json"])
def test_a_trace_that_cannot_be_written_is_told_before_anything_runs(
    trace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        beside({"trace": trace}, time=True)


@pytest.mark.parametrize("call", [bertprof.breakdown, bertprof.profile])
def test_a_misspelt_argument_is_told(call: Any):
    with pytest.raises(TypeError, match="unexpected keyword argument 'clock'"):
        call("bert-base-uncased", *([None] if call is bertprof.profile else []), clock="graph")
