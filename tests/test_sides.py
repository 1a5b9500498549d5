from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bertprof
from bertprof import sides
from bertprof.errors import BertprofError, RecordError, UsageError
from bertprof.sides import DEFAULTS

REAL = Path(__file__).parent / "data" / "bert-base-uncased.json"


def test_a_file_is_a_record_and_a_folder_of_records_one_measurement(tmp_path: Path):
    assert sides.find(str(REAL)) == bertprof.load(REAL)
    breakdown = bertprof.load(REAL)
    whole = breakdown.end_to_end_ms
    assert whole is not None
    for i, name in enumerate(("b", "a", "c")):
        breakdown.end_to_end_ms = [t + i for t in whole]
        breakdown.save(tmp_path / f"{name}.json")
    (tmp_path / "note.txt").write_text("not a record")
    pooled = sides.find(str(tmp_path))
    assert isinstance(pooled, bertprof.Breakdown)
    assert pooled.processes == 3


def test_a_folder_with_a_configuration_is_a_model(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "generation.json").write_text("{}")
    assert sides.find(str(tmp_path)) == str(tmp_path)
    assert sides.find("bert-base-uncased") == "bert-base-uncased"
    assert sides.find("mymodel:build") == "mymodel:build"


def test_what_is_neither(tmp_path: Path):
    with pytest.raises(RecordError, match=r"cannot read before\.json: there is no such file"):
        sides.find("before.json")
    with pytest.raises(RecordError, match=r"holds no records \(\*\.json\)"):
        sides.find(str(tmp_path))


def test_a_model_beside_a_record_takes_its_workload():
    breakdown = bertprof.load(REAL)
    breakdown.workload.batch_size, breakdown.workload.padding, breakdown.workload.task = 3, 0.25, "masked-lm"
    side = sides.like(breakdown, "x")
    assert side == {**DEFAULTS, "model": "x", "device": "cpu", "batch_size": 3, "padding": 0.25, "task": "masked-lm"}
    # Of own code, the rest is set in it.
    side = sides.like(breakdown, "mymodel:build")
    assert side == {**DEFAULTS, "model": "mymodel:build", "device": "cpu", "batch_size": 3}
    breakdown.workload.dtype = "bfloat16"
    assert sides.like(breakdown, "mymodel:build")["dtype"] == "bfloat16"
    breakdown.workload.sequence_length = None
    assert sides.like(breakdown, "mymodel:build")["sequence_length"] == DEFAULTS["sequence_length"]
    with pytest.raises(UsageError, match="inputs of its own"):
        sides.like(breakdown, "x")


def test_one_side_is_asked_otherwise():
    pairs = ["attention=eager", "seq-length=64", "batch_size=2", "padding=0.5", "weights=False", "set.hidden_size=3"]
    side = sides.changed(DEFAULTS, pairs, "--after")
    assert (side["attention"], side["sequence_length"], side["batch_size"], side["padding"]) == ("eager", 64, 2, 0.5)
    assert side["weights"] is False
    assert side["overrides"] == {"hidden_size": "3"}
    assert DEFAULTS["overrides"] == {}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("attention", "--after attention: write it as KEY=VALUE"),
        ("=eager", "write it as KEY=VALUE"),
        ("attention=", "write it as KEY=VALUE"),
        ("colour=red", "there is no 'colour'; use one of inputs, device, batch_size"),
        ("batch_size=two", "it is a whole number"),
        ("padding=much", "it is a number"),
        ("weights=perhaps", "it is true or false"),
        ("set.=3", "there is no 'set.'"),
        ("threads=1", "there is no 'threads'"),
    ],
)
def test_what_cannot_be_asked(pair: str, message: str):
    with pytest.raises(UsageError, match=message):
        sides.changed(DEFAULTS, [pair], "--after")


@given(st.lists(st.text(), max_size=3))
def test_any_text_changes_a_side_or_is_refused(pairs: list[str]):
    with suppress(BertprofError):
        side: Any = sides.changed(DEFAULTS, pairs, "--before")
        assert set(side) == set(DEFAULTS)
