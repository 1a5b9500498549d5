"""Segments of a sequence: how they are asked for, recorded, shown and compared."""

import json
from pathlib import Path
from typing import Any

import pytest

import bertprof
from bertprof import conditions, pooling, record, sides
from bertprof.errors import BertprofError, RecordError, UsageError
from bertprof.record import Breakdown
from bertprof.sides import DEFAULTS
from conftest import failed

REAL = Path(__file__).parent / "data" / "bert-base-uncased.json"


COLUMNS = 140
"""Of the terminal in which commands run."""


def recorded(segments: list[int] | None) -> Breakdown:
    breakdown = bertprof.load(REAL)
    breakdown.workload.segments = segments
    return breakdown


# Asked for ------------------------------------------------------------------------------------------------------------


def test_they_overrule_the_length():
    side = sides.asked_of("bert-base-uncased", None, {"segments": (24, 296), "sequence_length": 64})
    assert (side["segments"], side["sequence_length"]) == ([24, 296], 320)
    side = sides.asked_of("bert-base-uncased", None, {})
    assert (side["segments"], side["sequence_length"]) == (None, 128)
    assert DEFAULTS["segments"] is None


@pytest.mark.parametrize("segments", [[], [320], [24, 0], [24, -1], [24, 1.5], [True, 3], [24, "296"]])
def test_what_are_no_segments(segments: Any):
    listed = ",".join(map(str, segments))
    with pytest.raises(UsageError, match=f"--segments {listed}: give the lengths of two segments or more"):
        sides.asked_of("bert-base-uncased", None, {"segments": segments})


def test_as_text():
    assert sides.lengths("24,296", "x") == sides.lengths(" 24 / 296", "x") == [24, 296]
    for text in ("24,", "a,b", "24;296", "", "24,-296", "1.5,2", "1" * 10 + ",2"):
        with pytest.raises(UsageError, match=r"^x: give the lengths of two segments or more, such as 24,296$"):
            sides.lengths(text, "x")


def test_of_one_side():
    assert sides.changed(DEFAULTS, ["segments=24/296"], "--after")["sequence_length"] == 320
    side = sides.changed(DEFAULTS, ["segments=24,296"], "--before")
    assert (side["segments"], side["sequence_length"]) == ([24, 296], 320)
    # Segments overrule a length, whichever is named first; a length of its own leaves out those of both sides.
    for pairs in (["segments=3/4", "seq-length=64"], ["seq-length=64", "segments=3/4"]):
        both = sides.changed(side, pairs, "--after")
        assert (both["segments"], both["sequence_length"]) == ([3, 4], 7)
    alone = sides.changed(side, ["seq-length=64"], "--after")
    assert (alone["segments"], alone["sequence_length"]) == (None, 64)
    assert sides.changed(side, ["batch-size=2"], "--after")["segments"] == [24, 296]
    for pair in ("segments=24", "segments=a/b", "segments=0/4"):
        with pytest.raises(UsageError, match="give the lengths of two segments or more"):
            sides.changed(DEFAULTS, [pair], "--after")


def test_a_model_beside_a_record_has_its_segments():
    assert sides.like(recorded([24, 104]), "x")["segments"] == [24, 104]
    assert sides.like(recorded(None), "x")["segments"] is None


def test_own_code_makes_its_own_inputs():
    side = sides.asked_of("mymodel:build", None, {"segments": [3, 4]})
    with pytest.raises(UsageError, match="--segments: mymodel:build is your own code, in which that is to be set"):
        sides.checked(side, None, 2.0, False)


# Recorded and shown ---------------------------------------------------------------------------------------------------


def test_a_breakdown_records_and_shows_them(run: Any, folder: Any):
    result = run("breakdown", folder(), "--segments", "4,12", "--seq-length", 30, "--no-time", "-o", "b.json")
    assert result.exit_code == 0, result.output
    assert "1 × 16 tokens (4 + 12)" in result.stdout
    workload = bertprof.load("b.json").workload
    assert (workload.segments, workload.sequence_length) == ([4, 12], 16)
    result = run("report", "b.json", "-o", "b.md", "-o", "b.html")
    assert result.exit_code == 0, result.output
    for path in ("b.md", "b.html"):
        assert "1 × 16 tokens (4 + 12)" in Path(path).read_text().replace("\\", "")


def test_what_is_measured_in_other_processes_has_them(run: Any, folder: Any):
    asked = ("--segments", "4,12", "--processes", 2, "--min-time", "0s", "--device", "cpu")
    result = run("breakdown", f"{folder()}+decompose-attention=2+cache-segment=2", *asked, "-o", "b.json")
    assert result.exit_code == 0, result.output
    found = bertprof.load("b.json")
    assert (found.processes, found.workload.segments) == (2, [4, 12])


@pytest.mark.parametrize("text", ["24", "a,b", "24,0", "0", "24,-3", "24;3"])
def test_what_cannot_be_read(run: Any, folder: Any, text: str):
    failed(run("breakdown", folder(), "--segments", text), "--segments", "give the lengths of two segments or more")


def test_beyond_the_positions(run: Any, folder: Any):
    said = "--segments 24,17, 41 tokens, is beyond the model's 40 positions"
    failed(run("breakdown", folder(), "--segments", "24,17", "--no-time"), said)


def test_an_older_record_has_none():
    breakdown = bertprof.load(REAL)
    assert breakdown.workload.segments is None


@pytest.mark.parametrize("segments", [[], [128], [64, 65], [8, 100]])
def test_segments_that_are_not_those_of_the_sequence_are_refused(segments: list[int]):
    content = json.loads(record.encode(recorded([64, 64])))
    assert content["workload"]["sequence_length"] == 128
    content["workload"]["segments"] = segments
    with pytest.raises(RecordError, match=r"segments of \d+ tokens, of a sequence of 128 - at `\$.workload.segments`"):
        record.decode(json.dumps(content).encode(), "b.json")


@pytest.mark.parametrize("segments", [5, "24,296"])
def test_what_is_no_list_of_lengths(segments: object):
    with pytest.raises(UsageError, match="give a list of lengths, such as"):
        bertprof.breakdown("bert-base-uncased", segments=segments, time=False)  # type: ignore[arg-type]


def test_records_of_other_segments_are_not_pooled(tmp_path: Path):
    for i, segments in enumerate(([24, 104], [64, 64])):
        recorded(segments).save(tmp_path / f"{i}.json")
    with pytest.raises(BertprofError, match="segments"):
        pooling.load(tmp_path)


# Compared -------------------------------------------------------------------------------------------------------------


def keys(before: Breakdown, after: Breakdown) -> dict[str, tuple[str, str]]:
    return {found.key: (found.before, found.after) for found in conditions.mismatches(before, after)}


def test_other_segments_are_other_work():
    assert keys(recorded([24, 104]), recorded([64, 64])) == {"segments": ("24 + 104", "64 + 64")}
    assert keys(recorded([24, 104]), recorded([24, 104])) == {}
    # What has none does the same work for all of one length.
    assert keys(recorded(None), recorded([64, 64])) == keys(recorded([64, 64]), recorded(None)) == {}
    mismatch, *rest = conditions.mismatches(recorded([24, 104]), recorded([64, 64]), ("segments",))
    assert mismatch.allowed
    assert rest == []


def test_both_sides_of_a_diff_or_one(run: Any, folder: Any):
    path = folder()
    both = (path, f"{path}+decompose-attention=2+cache-segment=2", "--no-time")
    result = run("diff", *both, "--segments", "4,12", "--require", "macs:-30%", "-o", "d.json", "-o", "d.md")
    assert result.exit_code == 0, result.output
    assert "1 × 16 tokens (4 + 12)" in result.stdout
    assert "recipes decompose-attention=2, cache-segment=2" in result.stdout
    shown = " ".join(result.stdout.split())
    assert "segment 2 (12 tokens): its embedding and lower 2 units are computed beforehand and not counted" in shown
    result = run("diff", *both, "--segments", "4,12", "--before", "segments=8/8", "--fail-on", "macs:+1%")
    assert result.exit_code == 3, result.output
    assert "segments" in result.output
    assert "8 + 8" in result.output
    # Of one side alone, at the same length: what has none is a base for all.
    result = run("diff", *both, "--seq-length", 16, "--after", "segments=4/12", "--fail-on", "macs:+1%")
    assert result.exit_code == 0, result.output


def test_in_python(folder: Any):
    before, after = f"{folder()}+decompose-attention=2", f"{folder()}+decompose-attention=2+cache-segment=1"
    found = bertprof.compare(before, after, segments=(4, 12), time=False)
    assert (found.before.workload.segments, found.after.workload.segments) == ([4, 12], [4, 12])
    assert bertprof.breakdown(str(folder()), segments=(4, 12), time=False).workload.segments == [4, 12]
