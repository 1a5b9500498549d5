"""Comparing in Python: live modules and names, measured together."""

from pathlib import Path
from typing import Any

import pytest
import torch

import bertprof
from bertprof.errors import DeviceError, UsageError
from bertprof.measure import host, noise, profiler
from bertprof.measurement import Plan
from bertprof.pairs import interleaved
from bertprof.record import Caveat
from conftest import tiny

IDS = torch.ones(1, 8, dtype=torch.long)
QUICK: dict[str, Any] = {"min_time_s": 0.0, "threads": 1}


def test_live_models_are_compared_and_left_as_they_were(untouched: Any):
    before = untouched(tiny("bert"))
    after = untouched(tiny("bert", intermediate_size=128))
    after.train()
    diff = bertprof.compare(before, after, IDS, **QUICK)
    assert after.training
    after.eval()
    assert diff.times == "rounds"
    assert diff.before.samples == diff.after.samples == 10
    # FFN: 2·32·64 weights become 2·32·128, and 64 biases 128, in three units
    assert diff.row("ffn").metrics["parameters"].change == 3 * (2 * 32 * 64 + 64)
    assert diff.row("total").metrics["parameters"].change == 3 * (2 * 32 * 64 + 64)


def test_a_model_beside_itself(untouched: Any):
    model = untouched(tiny("bert"))
    before, after = interleaved(model, model, IDS, plan=Plan(**QUICK))
    assert before.run == after.run is not None
    assert before.end_to_end_ms != after.end_to_end_ms
    counts = bertprof.diff(before, after).row("total").metrics
    assert {counts[m].verdict for m in ("parameters", "bytes", "macs", "flops")} == {"same"}


def test_the_yardstick_is_that_of_the_rounds_of_both():
    before, after = interleaved(tiny("bert"), tiny("bert"), IDS, plan=Plan(**QUICK))
    assert before.yardstick_ms == after.yardstick_ms is not None
    assert before.peak_memory_bytes is None


def test_more_rounds_are_kept_of_a_comparison_than_of_a_record(monkeypatch: pytest.MonkeyPatch):
    from bertprof.measure import timing

    monkeypatch.setattr(timing, "FEWEST_ROUNDS", 130)
    before, _ = interleaved(tiny("bert"), tiny("bert"), IDS, plan=Plan(**QUICK))
    assert len(before.end_to_end_ms or []) == 130
    alone = bertprof.profile(tiny("bert"), IDS, **QUICK)
    assert len(alone.end_to_end_ms or []) == 100


def test_gates_of_a_comparison():
    diff = bertprof.compare(
        tiny("bert"),
        tiny("bert", intermediate_size=128),
        IDS,
        fail_on=["parameters:+0"],
        budget="bytes:1GB",
        accuracy=(84.6, 81.6),
        **QUICK,
    )
    assert [gate.outcome for gate in diff.gates] == ["failed", "passed"]
    assert diff.exit_code() == 1
    assert diff.accuracy is not None
    # It became larger: points are lost, none saved
    assert diff.accuracy.size_drop < 0


def test_a_precision_that_was_not_reached_is_said():
    pair = (tiny("bert"), tiny("bert", intermediate_size=128))
    diff = bertprof.compare(*pair, IDS, until=1e-6, max_time_s=0.0, **QUICK)
    (caveat,) = [caveat for caveat in diff.caveats if caveat.code == "precision-not-reached"]
    assert "not to the ± 0.0001 % that was asked for; sample longer (--max-time)" in caveat.text
    assert caveat.value is not None
    assert caveat.value > 1e-6
    diff = bertprof.compare(*pair, IDS, until=0.99, max_time_s=60, **QUICK)
    assert [caveat for caveat in diff.caveats if caveat.code == "precision-not-reached"] == []


def test_names_are_compared_without_time():
    diff = bertprof.compare("bert-base-uncased", "distilbert-base-uncased", time=False)
    assert diff.times is None
    assert diff.row("head").metrics["parameters"].verdict == "removed"
    assert "12 units → 6" in " ".join(diff.text().split())


def test_a_misspelt_argument_does_not_pass_in_silence():
    model = tiny("bert")
    one = bertprof.profile(model, IDS, time=False)
    for call in (
        lambda: bertprof.diff(one, one, fail_onn=["parameters:+0"]),
        lambda: bertprof.diff(one, one, strict=True),
        lambda: bertprof.compare(model, model, IDS, fail_onn=["parameters:+0"]),
        lambda: bertprof.compare("bert-base-uncased", "bert-base-uncased", sequence_lenght=64, time=False),
    ):
        with pytest.raises(TypeError, match="got an unexpected keyword argument"):
            call()
    with pytest.raises(UsageError, match="attention, batch_size: a live module is measured as it is"):
        bertprof.compare(model, model, IDS, batch_size=8, attention="eager")


def test_records_may_be_named_by_their_files(tmp_path: Path):
    one = bertprof.profile(tiny("bert"), IDS, time=False)
    one.save(tmp_path / "a.json")
    diff = bertprof.diff(tmp_path / "a.json", str(tmp_path / "a.json"), fail_on="parameters:+0")
    assert [gate.outcome for gate in diff.gates] == ["passed"]
    with pytest.raises(KeyError, match="fnn; there is total, "):
        diff.row("fnn")


def test_values_of_overrides_need_no_quotes():
    one = bertprof.breakdown("bert-base-uncased", overrides={"num_hidden_layers": 1}, time=False)
    assert one.units == 1


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((tiny("bert"), "bert-base-uncased", IDS), {}, "both sides must be live modules, or both names"),
        ((tiny("bert"), tiny("bert"), IDS), {"processes": 2}, "only names can be measured in processes"),
        (("bert-base-uncased", "bert-base-uncased"), {"until": 2.0}, "until is 2.0; it is a share"),
        (("bert-base-uncased", "bert-base-uncased"), {"until": 0.0}, "until is 0.0; it is a share"),
        (("bert-base-uncased", "bert-base-uncased"), {"min_time_s": -1}, "the least time is -1 s"),
        (("bert-base-uncased", "bert-base-uncased", "m:f"), {}, "--inputs goes with a model of the form"),
    ],
)
def test_wrong_use(arguments: tuple[Any, ...], options: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        bertprof.compare(*arguments, **options)


def test_models_that_do_not_fit_together_are_refused_before_any_is_built(monkeypatch: pytest.MonkeyPatch):
    # BERT-base has 109,482,240 parameters of 4 bytes, DistilBERT 66,362,880: 703.4 MB together
    monkeypatch.setattr(host, "available_bytes", lambda: 703_000_000)
    monkeypatch.setattr(profiler, "_check_memory", lambda *args: pytest.fail("the first was about to be built"))
    with pytest.raises(DeviceError, match=r"bert-base-uncased and distilbert-base-uncased need 703\.4 MB"):
        bertprof.compare("bert-base-uncased", "distilbert-base-uncased", device="cpu", **QUICK)


def test_what_spoils_a_measurement_is_a_caveat_of_both_records(monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []

    def caveats(bare_ms: Any, watch: noise.Watch) -> list[Caveat]:
        seen.append(len(bare_ms))
        return [Caveat(code="other-load", text="planted", value=1.0)]

    monkeypatch.setattr(noise, "caveats", caveats)
    for one in interleaved(tiny("bert"), tiny("bert"), IDS, plan=Plan(**QUICK)):
        assert "other-load" in [caveat.code for caveat in one.caveats]
    assert seen == [10, 10]


def test_the_machine_is_looked_at_before_and_after_the_rounds_only(monkeypatch: pytest.MonkeyPatch):
    from bertprof.measure import timing

    order: list[str] = []
    sample = timing.sample

    def noted(name: str, original: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            order.append(name)
            return original(*args, **options)

        return call

    monkeypatch.setattr(noise.Watch, "start", noted("start", noise.Watch.start))
    monkeypatch.setattr(noise.Watch, "stop", noted("stop", noise.Watch.stop))
    monkeypatch.setattr(timing, "sample", noted("sample", sample))
    bertprof.profile(tiny("bert"), IDS, **QUICK)
    assert order == ["start", "sample", "stop"]


def test_a_diff_saves_itself_and_shows_itself_in_a_notebook(tmp_path: Path):
    diff = bertprof.compare(tiny("bert"), tiny("bert"), IDS, **QUICK)
    diff.save(tmp_path / "d.json")
    assert bertprof.difference.load(tmp_path / "d.json") == diff
    assert "<table" in diff._repr_html_()
    assert str(diff) == diff.text()
    assert len(diff.frame("component")) > 0
