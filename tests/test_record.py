import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bertprof
import handmade
from bertprof import record
from bertprof.components import Component
from bertprof.errors import RecordError
from bertprof.record import Breakdown, Checkpoint
from bertprof.sampling import Estimate
from handmade import breakdowns, cost

REAL = Path(__file__).parent / "data" / "bert-base-uncased.json"
"""A real record of version 1.0."""
NULLABLE = ("nonzero_parameters", "useful_macs", "bytes_moved", "activation_bytes")


def test_a_real_record_comes_back_as_it_was_but_of_this_version(tmp_path: Path):
    breakdown = bertprof.load(REAL)
    breakdown.save(tmp_path / "again.json")
    old, new = REAL.read_text().splitlines(), (tmp_path / "again.json").read_text().splitlines()
    assert [line for line in new if line not in old] == [
        ' "schema_version": "1.6",',
        ' "command": null,',
        *(line for line in new if line.startswith((' "workload": ', ' "host": '))),
        ' "checkpoint": null,',
        ' "kept_units": null,',
        *(line for line in new if line.startswith('  {"unit":')),
        ' "end_to_end_p95_ms": null,',
        ' "run": null,',
        *(f' "{field}": null,' for field in ("resident_peak_bytes", "clocks", "peaks", "memory_limit_bytes", "fits")),
        ' "energy": null,',
    ]
    later = ("segments", "gpu_before", "gpu_after", "activation_peak_bytes", "allocated_peak_bytes")

    def as_before(line: str) -> str:
        for field in later:
            line = line.replace(f'"{field}":null,', "")
        return line

    assert [as_before(line) for line in new if as_before(line) in old] == old[:2] + old[3:]
    assert bertprof.load(tmp_path / "again.json") == breakdown


def test_an_older_record_lacks_what_came_later():
    breakdown = bertprof.load(REAL)
    assert '"schema_version": "1.0"' in REAL.read_text()
    assert breakdown.checkpoint is None
    assert breakdown.run is None
    assert [breakdown.total(metric) for metric in NULLABLE] == [None] * 4


def test_what_an_older_record_always_had_it_must_have():
    with pytest.raises(RecordError, match=r"missing required field `yardstick_ms` - at `\$`"):
        record.decode(changed(yardstick_ms=DELETE), "b.json")


@pytest.mark.parametrize(
    ("version", "missing"),
    [("1.0", None), ("1.1", "checkpoint"), ("1.2", "checkpoint"), ("1.3", "checkpoint"), ("1.4", "segments")],
)
def test_from_its_version_on_a_field_has_to_be_there(version: str, missing: str | None):
    if missing is None:
        assert record.decode(changed(schema_version=version), "b.json").schema_version == "1.6"
        return
    where = r"\$.workload" if missing == "segments" else r"\$"
    with pytest.raises(RecordError, match=rf"missing required field `{missing}` - at `{where}`"):
        record.decode(changed(schema_version=version), "b.json")
    if version == "1.1":
        assert record.decode(changed(schema_version=version, checkpoint=None), "b.json").run is None
        return
    whole: dict[str, Any] = {"checkpoint": None, "end_to_end_p95_ms": 120.0, "run": "r"}
    if version != "1.2":
        whole["kept_units"] = list(range(12))
    if version == "1.4":
        whole["workload__segments"] = None
    for field in whole.keys() - {"workload__segments"}:
        lacking = {key: value for key, value in whole.items() if key != field}
        with pytest.raises(RecordError, match=rf"missing required field `{field}` - at `\$`"):
            record.decode(changed(schema_version=version, **lacking), "b.json")
    read = record.decode(changed(schema_version=version, **whole), "b.json")
    assert (read.run, read.p95_ms) == ("r", 120.0)


def test_the_command_came_with_1_6():
    newest = json.loads(record.encode(bertprof.load(REAL)))
    del newest["command"]
    with pytest.raises(RecordError, match=r"missing required field `command` - at `\$`"):
        record.decode(json.dumps(newest).encode(), "b.json")
    assert record.decode(json.dumps({**newest, "schema_version": "1.5"}).encode(), "b.json").command is None


def test_a_checkpoint_is_read_and_its_fields_are_required():
    files = {"format": "safetensors", "files": 2, "file_bytes": 10, "load_time_ms": None}
    read = record.decode(changed(schema_version="1.1", checkpoint=files), "b.json")
    assert read.checkpoint == Checkpoint(format="safetensors", files=2, file_bytes=10, load_time_ms=None)
    for name in files:
        less = {key: value for key, value in files.items() if key != name}
        with pytest.raises(RecordError, match=rf"missing required field `{name}` - at `\$.checkpoint`"):
            record.decode(changed(schema_version="1.1", checkpoint=less), "b.json")


def test_a_real_record_is_that_of_bert_base():
    breakdown = bertprof.load(REAL)
    assert breakdown.total("parameters") == 109_482_240
    assert breakdown.total("parameter_bytes") == 4 * 109_482_240
    assert breakdown.total("macs") == 11_174_215_680
    assert breakdown.units == 12
    parameters = {str(c): sum(x.parameters for x in breakdown.of(c)) for c in Component if breakdown.of(c)}
    assert parameters == {
        "embedding": 23_835_648,
        "attention-linear-in": 21_261_312,
        "softmax-attention": 0,
        "attention-linear-out": 7_087_104,
        "ffn": 56_669_184,
        "add-norm": 38_400,
        "head": 590_592,
        "other": 0,
    }
    assert breakdown.modules is not None
    assert sum(m.parameters for m in breakdown.modules) == breakdown.total("parameters")
    assert sum(m.macs for m in breakdown.modules) == breakdown.total("macs")
    assert sum(m.flops for m in breakdown.modules) == breakdown.total("flops")
    assert breakdown.total("flops") == sum(o.flops for c in breakdown.costs for o in c.operators.values())


def test_in_a_real_record_every_repeat_closes():
    breakdown = bertprof.load(REAL)
    assert breakdown.instrumented_ms is not None
    assert breakdown.end_to_end_ms is not None
    assert 10 <= len(breakdown.instrumented_ms) == len(breakdown.end_to_end_ms) <= 100
    for i, total in enumerate(breakdown.instrumented_ms):
        assert sum(c.time_ms[i] for c in breakdown.costs if c.time_ms is not None) == pytest.approx(total, abs=1e-9)


def test_shares_and_times_are_derived_and_add_up():
    ffn = cost(Component.FFN, 0, [6.0, 12.0])
    head = cost(Component.HEAD, None, [2.0, 4.0])
    breakdown = handmade.made(head, ffn, end_to_end_ms=[7.0, 15.0])
    assert breakdown.time_share([ffn]) == pytest.approx((0.75, 0.75, 0.75))
    # median of 8 and 16 is 12: 0.75 · 12 and 0.25 · 12
    time = breakdown.time_of([ffn])
    assert time is not None
    assert time.value == pytest.approx(9.0)
    rest = breakdown.time_of([head])
    assert rest is not None
    assert time.value + rest.value == pytest.approx(12.0)
    assert breakdown.end_to_end_time_ms == Estimate(11.0, 7.0, 15.0)
    assert breakdown.residual == pytest.approx(12 / 11 - 1)
    # 8/7 and 16/15, paired
    assert breakdown.overhead == pytest.approx(((8 / 7 + 16 / 15) / 2, 16 / 15, 8 / 7))
    assert breakdown.time_share([]) == pytest.approx((0, 0, 0))


@given(st.lists(st.none() | st.integers(0, 2**62), max_size=5))
def test_a_total_is_not_known_where_a_part_is_not(counts: list[int | None]):
    breakdown = handmade.made(*(cost(Component.FFN, i, bytes_moved=count) for i, count in enumerate(counts)))
    assert breakdown.total("bytes_moved") == (None if None in counts else sum(count or 0 for count in counts))


def test_without_time_nothing_is_made_up():
    breakdown = handmade.made(cost(Component.FFN, 0, parameters=3))
    assert not breakdown.timed
    assert breakdown.time_share(breakdown.costs) is None
    assert breakdown.time_of(breakdown.costs) is None
    assert breakdown.overhead is None
    assert breakdown.residual is None


@given(breakdowns())
def test_any_record_comes_back_as_it_was(breakdown: Breakdown):
    assert record.decode(record.encode(breakdown), "x") == breakdown


def test_each_cost_stands_on_a_line_of_its_own():
    lines = REAL.read_text().splitlines()
    assert sum(line.startswith('  {"unit":') for line in lines) == len(bertprof.load(REAL).costs)


DELETE = object()


def changed(**changes: Any) -> bytes:
    """The real record with some fields replaced: a path of keys joined by `__` → value, DELETE to remove it."""
    data = json.loads(REAL.read_text())
    for path, value in changes.items():
        *parents, last = [int(k) if k.isdecimal() else k for k in path.split("__")]
        place = data
        for key in parents:
            place = place[key]
        if value is DELETE:
            del place[last]
        else:
            place[last] = value
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"costs__0__macs": DELETE}, r"missing required field `macs` - at `\$.costs\[0\]`"),
        ({"costs__1__flops": "many"}, r"Expected `int`, got `str` - at `\$.costs\[1\].flops`"),
        ({"costs__1__component": "engine"}, r"Invalid enum value 'engine' - at `\$.costs\[1\].component`"),
        ({"costs__1__parameters": -1}, r"`int` >= 0 - at `\$.costs\[1\].parameters`"),
        ({"workload": DELETE}, "missing required field `workload`"),
        ({"workload__batch_size": 0}, r">= 1 - at `\$.workload.batch_size`"),
        ({"schema": "something.else"}, 'no "schema": "bertprof.breakdown"'),
        ({"schema_version": "2.3"}, "record version 2.3; this bertprof reads up to 1.6: upgrade it"),
        ({"schema_version": 1}, "no usable schema_version"),
        ({"schema_version": "x"}, "no usable schema_version"),
        ({"schema_version": "1"}, "no usable schema_version"),
        ({"schema_version": "1.0.0"}, "no usable schema_version"),
        ({"schema_version": "9" * 9999 + ".0"}, "no usable schema_version"),
        ({"end_to_end_ms": None}, r"null where instrumented_ms has \d+ - at `\$.end_to_end_ms`"),
        ({"costs__2__time_ms": [1.0]}, r"1 samples where instrumented_ms has \d+ - at `\$.costs\[2\].time_ms`"),
        ({"instrumented_ms": None}, r"87 samples where instrumented_ms is null - at `\$.end_to_end_ms`"),
        ({"instrumented_ms": None, "end_to_end_ms": None}, r"instrumented_ms is null - at `\$.costs\[0\].time_ms`"),
        ({"end_to_end_ms__3": 0}, r"Expected `float` >= 0.0001 - at `\$.end_to_end_ms"),
        ({"end_to_end_ms": []}, r"Expected `array` of length >= 1 - at `\$.end_to_end_ms`"),
        ({"caveats": DELETE}, r"missing required field `caveats` - at `\$`"),
        ({"workload__padding": DELETE}, r"missing required field `padding` - at `\$.workload`"),
        ({"modules__3__flops": DELETE}, r"missing required field `flops` - at `\$.modules\[3\]`"),
        ({"costs__0__bytes_moved": DELETE}, r"missing required field `bytes_moved` - at `\$.costs\[0\]`"),
        ({"costs__1__component": "embedding"}, r"a second row of that unit and component - at `\$.costs\[1\]`"),
        ({"costs__1__time_ms__4": 99.0}, r"the rows sum to \d+\.\d+ ms, not to .* - at `\$.instrumented_ms\[4\]`"),
        ({"modules__4__parameters": 1}, r"the modules' parameters sum to \d+, .* - at `\$.modules`"),
        ({"costs__0__macs": 10**400}, r"\$.costs\[0\].macs"),
        ({"end_to_end_ms__0": 1e300}, r"\$.end_to_end_ms"),
        ({"costs__0__nonzero_parameters": 23835649}, r"23835649 of 23835648 .* `\$.costs\[0\].nonzero_parameters`"),
        ({"costs__2__useful_macs": 589825}, r"589825 of 589824 macs - at `\$.costs\[2\].useful_macs`"),
        ({"workload__sequence_length": 0}, r">= 1 - at `\$.workload.sequence_length`"),
        ({"checkpoint": {}}, r"missing required field `format` - at `\$.checkpoint`"),
        ({"workload__clock": None}, r"null in a record with times - at `\$.workload.clock`"),
        ({"costs__0__unit": 2**62}, r"Expected `int` <= 9999 - at `\$.costs\[0\].unit`"),
        ({"costs__0__unit": 10_000}, r"Expected `int` <= 9999 - at `\$.costs\[0\].unit`"),
        ({"workload__batch_size": 10**10}, r"<= 1000000000 - at `\$.workload.batch_size`"),
        ({"costs__0__flops": 2**62}, r"the rows' flops sum to \d+, more than 4611686018427387904 - at `\$.costs`"),
        ({"costs__0__bytes_moved": 2**62, "costs__1__bytes_moved": 1}, r"the rows' bytes_moved sum to .* `\$.costs`"),
        ({"processes": 0}, r">= 1 - at `\$.processes`"),
        ({"processes": 2}, r"87 samples, not as many from each of 2 processes - at `\$.instrumented_ms`"),
        ({"processes": 88}, r"87 samples, not as many from each of 88 processes - at `\$.instrumented_ms`"),
        ({"yardstick_ms": {}}, r"no component; .* - at `\$.yardstick_ms`"),
        ({"yardstick_ms": {"ffn": []}}, r"0 samples where instrumented_ms has 87 - at `\$.yardstick_ms.ffn`"),
        ({"yardstick_ms": {"engine": []}}, r"Invalid enum value 'engine' - at `key` in `\$.yardstick_ms`"),
        ({"costs__0__energy_mj": []}, r"no samples; .* - at `\$.costs\[0\].energy_mj`"),
        (
            {"costs__0__device_time_ms": [1, 2], "costs__3__device_time_ms": [1]},
            r"1 samples where costs\[0\].device_time_ms has 2 - at `\$.costs\[3\].device_time_ms`",
        ),
        ({"host__clocks": {"sm": -1}}, r">= 0 - at `\$.host.clocks\[...\]`"),
        ({"kept_units": []}, r"length >= 1 - at `\$.kept_units`"),
        ({"kept_units": [0, 2]}, r"2 indices of 12 units, which must rise - at `\$.kept_units`"),
        ({"kept_units": [0, *range(11)]}, r"12 indices of 12 units, which must rise - at `\$.kept_units`"),
        ({"kept_units": [1, 0, *range(2, 12)]}, r"which must rise - at `\$.kept_units`"),
        ({"kept_units": list(range(9989, 10_001))}, r"<= 9999 - at `\$.kept_units\[11\]`"),
    ],
)
def test_an_invalid_record_is_refused_with_the_path_of_the_field(changes: dict[str, Any], message: str):
    with pytest.raises(RecordError, match=message) as caught:
        record.decode(changed(**changes), "b.json")
    assert "b.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_fields_of_a_newer_minor_version_are_tolerated():
    newer = json.loads(record.encode(bertprof.load(REAL)))
    newer |= {"schema_version": "1.7", "weather": "fine"}
    newer["costs"][0]["colour"] = "blue"
    read = record.decode(json.dumps(newer).encode(), "b.json")
    assert read.total("parameters") == 109_482_240
    # What is written again is what this version knows, and says so.
    assert b'"schema_version": "1.6"' in record.encode(read)


@pytest.mark.parametrize(
    ("field", "where"),
    [
        *((name, "$") for name in ("resident_peak_bytes", "clocks", "peaks", "memory_limit_bytes", "fits", "energy")),
        *((name, "$.host") for name in ("gpu_before", "gpu_after")),
        *((name, "$.costs[0]") for name in ("activation_peak_bytes", "allocated_peak_bytes")),
    ],
)
def test_a_record_of_this_version_has_every_field(field: str, where: str):
    whole = json.loads(record.encode(bertprof.load(REAL)))
    holder = {"$": whole, "$.host": whole["host"], "$.costs[0]": whole["costs"][0]}[where]
    del holder[field]
    with pytest.raises(RecordError, match=re.escape(f"missing required field `{field}` - at `{where}`")):
        record.decode(json.dumps(whole).encode(), "b.json")


CLOCK = {
    "clock": "graph",
    "unavailable": None,
    "forwards": 3,
    "total_ms": 4.0,
    "parts": [{"component": "ffn", "time_ms": 3.0, "busy_ms": None, "idle_ms": None, "launches": None}],
    "unattributed_ms": 1.0,
}
PEAKS = {
    "dtype": "float32",
    "threads": 1,
    "flops_per_s": 1e11,
    "bandwidths": [{"working_set_bytes": size, "bytes_per_s": 1e10} for size in (250_000, 10**6)],
    "launch_ns": 900.0,
    "measured": "2026-11-23T00:00:00+00:00",
}
FIT = {
    "mode": "inference",
    "batch_size": 1,
    "parameter_bytes": 60,
    "gradient_bytes": None,
    "optimizer_bytes": None,
    "activation_bytes": 40,
    "fits": True,
}
ENERGY = {
    "unavailable": None,
    "method": "replay",
    "reason": None,
    "eager_mj": None,
    "counter_period_ms": 100.0,
    "total_mj": [5.0],
    "power_mw": {"ffn": 300_000},
    "total_power_mw": 250_000,
    "eager_power_mw": None,
}


UNTOLD = {**dict.fromkeys(CLOCK), "clock": "kernels", "unavailable": "why", "forwards": 0, "parts": []}
ON_CPU = {"device": "cpu"}


def training(**changes: Any) -> dict[str, Any]:
    """A record's one batch size that is trained, of 60 + 60 + 240 + 40 bytes, with these changes."""
    fit = {**FIT, "mode": "training", "gradient_bytes": 60, "optimizer_bytes": 240, **changes}
    return {"memory_limit_bytes": 400, "fits": [fit]}


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"clocks": [CLOCK], "peaks": PEAKS, "memory_limit_bytes": 100, "fits": [FIT], "energy": ENERGY}, None),
        ({**ON_CPU, "clocks": [UNTOLD, {**CLOCK, "clock": "profiler"}], **training(), "energy": ENERGY}, None),
        ({"clocks": [{**CLOCK, "unavailable": "why"}]}, "unavailable and tells something - at `$.clocks[0]`"),
        ({"clocks": [{**UNTOLD, "forwards": 3}]}, "unavailable and tells something - at `$.clocks[0]`"),
        ({"clocks": [{**UNTOLD, "parts": CLOCK["parts"]}]}, "unavailable and tells something - at `$.clocks[0]`"),
        ({"clocks": [{**CLOCK, "total_ms": None}]}, "neither told nor unavailable - at `$.clocks[0]`"),
        ({"clocks": [{**CLOCK, "parts": []}]}, "neither told nor unavailable - at `$.clocks[0]`"),
        ({"clocks": [{**CLOCK, "total_ms": 4.1}]}, "sum to 4.0000 ms, not to 4.1000 - at `$.clocks[0].parts`"),
        ({"clocks": [CLOCK, {**UNTOLD, "clock": "graph"}]}, "a second graph clock - at `$.clocks[1]`"),
        # Twice 3 ms and 1 unattributed are 7.
        (
            {"clocks": [{**CLOCK, "total_ms": 7.0, "parts": 2 * CLOCK["parts"]}]},
            "a second part of that component - at `$.clocks[0].parts[1]`",
        ),
        ({**ON_CPU, "clocks": [CLOCK]}, "a graph clock where there is no GPU - at `$.clocks[0].clock`"),
        (
            {**ON_CPU, "clocks": [{**CLOCK, "clock": "kernels"}]},
            "a kernels clock where there is no GPU - at `$.clocks[0].clock`",
        ),
        ({**ON_CPU, "row": {"device_time_ms": [1.0]}}, "times of a GPU on cpu - at `$.costs[0].device_time_ms`"),
        ({"clocks": [{**CLOCK, "clock": "sun"}]}, "`$.clocks[0].clock`"),
        ({"peaks": {**PEAKS, "bandwidths": PEAKS["bandwidths"][::-1]}}, "do not rise - at `$.peaks.bandwidths`"),
        ({"peaks": {**PEAKS, "bandwidths": []}}, "`$.peaks.bandwidths`"),
        ({"peaks": {**PEAKS, "flops_per_s": 0.0}}, "`$.peaks.flops_per_s`"),
        ({"peaks": {**PEAKS, "flops_per_s": 5e-324}}, "`$.peaks.flops_per_s`"),
        ({"peaks": {**PEAKS, "launch_ns": 5e-324}}, "`$.peaks.launch_ns`"),
        ({"peaks": {**PEAKS, "launch_ns": 1e16}}, "`$.peaks.launch_ns`"),
        # 60 + 40 bytes are above 99
        ({"memory_limit_bytes": 99, "fits": [FIT]}, "100 bytes against a limit of 99 - at `$.fits[0].fits`"),
        ({"fits": [FIT]}, "100 bytes against a limit of None - at `$.fits[0].fits`"),
        (training(gradient_bytes=None), "null of training - at `$.fits[0].gradient_bytes`"),
        (training(optimizer_bytes=None), "null of training - at `$.fits[0].optimizer_bytes`"),
        (training(mode="inference"), "a number of inference - at `$.fits[0].gradient_bytes`"),
        (training(mode="inference", gradient_bytes=None), "a number of inference - at `$.fits[0].optimizer_bytes`"),
        ({"energy": {**ENERGY, "total_mj": None}}, "neither measured nor unavailable - at `$.energy`"),
        ({"energy": {**ENERGY, "unavailable": "why"}}, "unavailable and tells something - at `$.energy`"),
        (
            {"energy": {**ENERGY, "unavailable": "why", "total_mj": None}},
            "unavailable and tells something - at `$.energy`",
        ),
        ({"energy": {**ENERGY, "total_mj": []}}, "no samples; null where there are none - at `$.energy.total_mj`"),
        (
            {"energy": {**ENERGY, "eager_mj": [5.0, 6.0]}},
            "2 samples where energy.total_mj has 1 - at `$.energy.eager_mj`",
        ),
        (
            {"energy": ENERGY, "row": {"energy_mj": [1.0, 2.0]}},
            "1 samples where costs[0].energy_mj has 2 - at `$.energy.total_mj`",
        ),
        ({"row": {"energy_mj": [1.0]}}, "energy of a row, and none of the whole - at `$.costs[0].energy_mj`"),
        (
            {"energy": {**dict.fromkeys(ENERGY), "unavailable": "why"}, "row": {"energy_mj": [1.0]}},
            "energy of a row, and none of the whole - at `$.costs[0].energy_mj`",
        ),
    ],
)
def test_what_stands_beside_counts_and_times_agrees_with_itself(fields: dict[str, Any], wrong: str | None):
    document = json.loads(record.encode(bertprof.load(REAL)))
    document["workload"]["device"] = fields.get("device", "cuda:0")
    document["costs"][0].update(fields.get("row", {}))
    whole = json.dumps({**document, **fields}).encode()
    if wrong is None:
        read = record.decode(whole, "b.json")
        assert read == record.decode(record.encode(read), "b.json")
        assert read.fits is not None
        assert read.fits[0].total_bytes == (400 if read.fits[0].mode == "training" else 100)
        return
    with pytest.raises(RecordError, match=re.escape(wrong)):
        record.decode(whole, "b.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1}'])
def test_what_is_no_record_at_all(content: bytes):
    with pytest.raises(RecordError, match=r"b\.json is not a record"):
        record.decode(content, "b.json")


def test_a_record_cut_short_anywhere():
    content = REAL.read_bytes()
    for length in range(0, len(content) - 2, 997):
        with pytest.raises(RecordError):
            record.decode(content[:length], "b.json")


def test_an_error_stays_short_whatever_the_record_holds():
    for changes in ({"costs__1__component": "x" * 10**6}, {"host__clocks": {"y" * 10**6: -1}}):
        with pytest.raises(RecordError) as caught:
            record.decode(changed(**changes), "b.json")
        assert len(str(caught.value)) < 500
        assert "at `$." in str(caught.value)


def test_save_renders_by_suffix(tmp_path: Path):
    breakdown = bertprof.load(REAL)
    breakdown.save(tmp_path / "b.md")
    assert (tmp_path / "b.md").read_text().startswith("## bert")
    with pytest.raises(bertprof.BertprofError, match="use one of"):
        breakdown.save(tmp_path / "b.txt")


def test_missing_files_and_folders(tmp_path: Path):
    with pytest.raises(RecordError, match=r"cannot read .*No such file"):
        bertprof.load(tmp_path / "none.json")
    with pytest.raises(RecordError, match="cannot read"):
        bertprof.load(tmp_path)


def test_at_a_prompt_it_is_one_line():
    breakdown = record.load(REAL)
    counts = "12 units, 109,482,240 parameters, 11,174,215,680 MACs"
    assert repr(breakdown).startswith(f"<Breakdown of 'bert-base-uncased': {counts}, ")
    breakdown.label = "a\nb"
    assert "\n" not in repr(breakdown)
