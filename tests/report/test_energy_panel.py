"""The panel of energy, on records by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import handmade
from bertprof.components import Component
from bertprof.observations import Energy
from bertprof.record import Breakdown
from bertprof.report import energy, markdown, page, terminal

FFN, SOFTMAX, HEAD = Component.FFN, Component.SOFTMAX_ATTENTION, Component.HEAD

TOTAL_MJ = [400.0, 398.0, 402.0, 401.0, 399.0]


POWER_MW = {FFN: 250_000, SOFTMAX: 199_960, HEAD: 50_000}


def measured(tokens: int | None = 8, **fields: object) -> Breakdown:
    """Two units' FFN of 100 mJ each, a softmax attention of 200, and a head that draws nothing. The graph clock has
    next to no time for them: power is not reckoned by it."""
    rows = ((FFN, 0, 100.0), (FFN, 1, 100.0), (SOFTMAX, 0, 200.0), (HEAD, None, 0.0))
    costs = [
        handmade.cost(
            component,
            unit,
            [1.0, 1.0],
            energy_mj=[mj * share for share in (1.0, 1.02, 0.98, 1.01, 0.99)],
            device_time_ms=[1e-3] * 30,
        )
        for component, unit, mj in rows
    ]
    how = {
        "method": "replay",
        "counter_period_ms": 99.87,
        "total_mj": TOTAL_MJ,
        "eager_mj": [480.0] * 5,
        "power_mw": POWER_MW,
        "total_power_mw": 222_222,
        "eager_power_mw": 110_000,
        **fields,
    }
    workload = {"batch_size": 2, "sequence_length": tokens, "device": "cuda:0"}
    return handmade.made(*costs, workload=workload, energy=Energy(**how))


def test_components_have_their_energy_share_and_power():
    found = energy.panel(measured())
    assert found is not None
    assert found.title == "Energy of one forward"
    assert found.headers == ("component", "mJ", "share %", "W")
    # Of 98 to 102 %, ± 4.
    assert list(found.rows) == [(SOFTMAX, "200.0 ± 4.0", "50.0", "200.0"), (FFN, "200.0 ± 4.0", "50.0", "250.0")]
    assert found.total == ("total", "400.0 ± 8.0", "100.0", "")
    assert found.notes == [
        "By NVML's counter, which steps every 100 ms: each component replayed by itself for seconds; W is the board's "
        "mean power meanwhile; 5 trials, ± half their range, of a component with that of its share. What the board "
        "draws while it idles is in all of it.",
        "A whole forward replayed, without gaps between launches: 400.0 ± 2.0 mJ at 222.2 W; the sum of the components "
        "is +0.0 % off it.",
        # 480 mJ / (2 · 8) tokens = 30 mJ a token.
        "A whole forward as torch launches it, run after run: 480.000 mJ at 110.0 W, 30.0 J per 1,000 tokens.",
    ]


def test_components_are_shares_of_the_whole_as_in_every_other_report():
    """The medians of parts do not add up to that of the whole: here 10 and 10 to 60."""
    samples = {FFN: [10.0, 50.0, 10.0], SOFTMAX: [50.0, 10.0, 10.0]}  # of 60, 60 and 20: half of it each
    costs = [handmade.cost(component, 0, [1.0, 1.0], energy_mj=mj) for component, mj in samples.items()]
    whole = [60.0, 60.0, 20.0]
    breakdown = handmade.made(
        *costs,
        workload={"device": "cuda:0"},
        energy=Energy(method="replay", counter_period_ms=100.0, total_mj=whole, eager_mj=whole),
    )
    found = energy.panel(breakdown)
    assert found is not None
    amounts = [float(str(row[1]).partition(" ")[0]) for row in found.rows]
    assert amounts == [30.0, 30.0]
    assert [row[2] for row in found.rows] == ["50.0", "50.0"]
    assert amounts == [breakdown.median_of(breakdown.of(component), "energy_mj") for component in samples]


def test_the_residual_is_shown():
    found = energy.panel(measured(total_mj=[320.0] * 5))
    assert found is not None
    assert found.notes[1].endswith("320.000 mJ at 222.2 W; the sum of the components is +25.0 % off it.")


def test_power_that_was_not_recorded_is_not_shown():
    found = energy.panel(measured(power_mw=None, total_power_mw=None, eager_power_mw=None))
    assert found is not None
    assert found.headers == ("component", "mJ", "share %")
    assert {len(row) for row in (*found.rows, found.total)} == {3}
    assert not any(" W is " in note or " W;" in note or " W," in note for note in found.notes)
    found = energy.panel(measured(power_mw={FFN: 250_000}))
    assert found is not None
    assert [row[3] for row in found.rows] == ["", "250.0"]


def test_what_was_given_out_by_time_says_so():
    shared = {"method": "busy-share", "power_mw": None}
    as_run = {"eager_mj": None, "total_power_mw": 100_000, "eager_power_mw": None}
    found = energy.panel(measured(**shared, reason="it cannot be captured: too bad", **as_run))
    assert found is not None
    assert found.headers == ("component", "mJ", "share %")  # the power would be the same in each
    how, whole = found.notes
    assert "the whole's, given out by the time in which each component kept the GPU busy, since it cannot be" in how
    assert whole.startswith("A whole forward as torch launches it, run after run: 400.0 ± 2.0 mJ at 100.0 W, 25.0 J")
    found = energy.panel(measured(**shared, reason="the GPU was at its power limit"))
    assert found is not None
    assert found.notes[1] == "A whole forward replayed, without gaps between launches: 400.0 ± 2.0 mJ at 222.2 W."


def test_inputs_that_are_no_tokens():
    found = energy.panel(measured(tokens=None))
    assert found is not None
    assert found.notes[2].endswith("480.000 mJ at 110.0 W.")


def test_records_of_several_processes_have_more_trials():
    one = measured()
    for cost in one.costs:
        cost.energy_mj = (cost.energy_mj or []) * 2
    found = energy.panel(one)
    assert found is not None
    assert "10 trials, ± half the 95 % interval of their median" in found.notes[0]


def test_why_there_is_none_is_one_line():
    cost = handmade.cost(FFN, 0, [1.0])
    found = energy.panel(handmade.made(cost, energy=Energy(unavailable="energy is read by NVML")))
    assert found is not None
    assert (found.rows, found.headers, found.total) == ((), (), ())
    assert found.notes == ["unavailable: energy is read by NVML"]
    assert energy.panel(handmade.made(cost)) is None


@pytest.mark.parametrize("render", [terminal.render, markdown.render, page.render])
def test_every_format_shows_it(render: object):
    text = render(measured())  # type: ignore[operator]
    assert "Energy of one forward" in text
    assert "200.0 ± 4.0" in text
    assert "30.0 J per 1,000 tokens" in text


@given(handmade.breakdowns(), st.none() | st.text(max_size=20), st.none() | st.lists(st.floats(0, 1e6)))
def test_any_record_can_be_shown(breakdown: Breakdown, reason: str | None, eager_mj: list[float] | None):
    if breakdown.energy is not None:
        breakdown.energy.reason, breakdown.energy.eager_mj = reason, eager_mj
    found = energy.panel(breakdown)
    if found is not None:
        assert {len(row) for row in (*found.rows, found.total) if row} <= {len(found.headers)}
        assert all(note.isprintable() for note in found.notes)
