import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import bertprof
from bertprof import gate, limits
from bertprof.comparison import COUNTS, METRICS, Comparison
from bertprof.components import Component
from bertprof.difference import Gate
from bertprof.errors import UsageError
from bertprof.limits import KINDS
from bertprof.record import Breakdown, Caveat
from handmade import cost, made

REAL = Path(__file__).parent / "data" / "bert-base-uncased.json"


def sized(**counts: int) -> Breakdown:
    return made(cost(**counts))


def rounds(ratios: list[float], base: float = 100.0) -> Comparison:
    """A record whose ffn takes `base` ms in every round, and one of the same run that takes `ratios` times as long."""
    # A second row, so that the two are not of identical samples where all ratios are 1.
    return Comparison(
        made(cost(time_ms=[base] * len(ratios)), cost(Component.HEAD, time_ms=[1.0] * len(ratios)), run="r"),
        made(
            cost(time_ms=[base * ratio for ratio in ratios]),
            cost(Component.HEAD, time_ms=[1.0 + i / 8 for i in range(len(ratios))]),
            run="r",
        ),
    )


def check(compared: Comparison, kind: Any, *texts: str, **options: Any) -> list[Gate]:
    return gate.check([limits.parse(kind, text) for text in texts], compared, **options)


def said(compared: Comparison, kind: Any, text: str, **options: Any) -> tuple[str, str]:
    (found,) = check(compared, kind, text, **options)
    return found.outcome, found.reason


# The grammar ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "scope", "metric", "factor", "offset", "shown"),
    [
        ("fail-on", "parameters:+0", "total", "parameters", 1, 0, "+0"),
        ("fail-on", "total.flops:+5%", "total", "flops", "1.05", 0, "+5 %"),
        ("fail-on", " ffn.macs : +2.5 % ", "ffn", "macs", "1.025", 0, "+2.5 %"),
        ("warn-on", "attention-linear.parameters:+1000", "attention-linear", "parameters", 1, 1000, "+1000"),
        ("fail-on", "rest.useful_macs:+1.5M", "rest", "useful_macs", 1, 1_500_000, "+1.5 M"),
        ("fail-on", "nonzero_parameters:+1k", "total", "nonzero_parameters", 1, 1000, "+1 k"),
        ("fail-on", "flops:+2G", "total", "flops", 1, 2_000_000_000, "+2 G"),
        ("fail-on", "flops:+1T", "total", "flops", 1, 10**12, "+1 T"),
        ("fail-on", "bytes:+7", "total", "bytes", 1, 7, "+7 B"),
        ("fail-on", "bytes:+10MB", "total", "bytes", 1, 10_000_000, "+10 MB"),
        ("fail-on", "bytes_moved:+500kB", "total", "bytes_moved", 1, 500_000, "+500 kB"),
        ("fail-on", "activation_bytes:+1MiB", "total", "activation_bytes", 1, 2**20, "+1 MiB"),
        ("fail-on", "memory:+.5GiB", "total", "memory", 1, 2**29, "+.5 GiB"),
        ("fail-on", "time:+3", "total", "time", 1, 3, "+3 ms"),
        ("fail-on", "softmax-attention.time:+5ms", "softmax-attention", "time", 1, 5, "+5 ms"),
        ("fail-on", "device_time:+0.5s", "total", "device_time", 1, 500, "+0.5 s"),
        ("fail-on", "time:+250us", "total", "time", 1, "0.25", "+250 us"),
        ("fail-on", "time:+250µs", "total", "time", 1, "0.25", "+250 µs"),
        ("fail-on", "energy:+5", "total", "energy", 1, 5, "+5 mJ"),
        ("fail-on", "energy:+0.5J", "total", "energy", 1, 500, "+0.5 J"),
        ("fail-on", "ffn.share(time):+2", "ffn", "share(time)", 1, "0.02", "+2 points"),
        ("fail-on", "ffn.share(time):+2pp", "ffn", "share(time)", 1, "0.02", "+2 pp"),
        ("fail-on", "unit[3].ffn.share(time):+10%", "unit[3].ffn", "share(time)", "1.1", 0, "+10 %"),
        ("fail-on", "unit[0].bytes:+0", "unit[0]", "bytes", 1, 0, "+0 B"),
        ("fail-on", "unit[*].time:+5%", "unit[*]", "time", "1.05", 0, "+5 %"),
        ("fail-on", "unit[*].ffn.time:+5%", "unit[*].ffn", "time", "1.05", 0, "+5 %"),
        ("fail-on", "unit[11].*.time:+5%", "unit[11].*", "time", "1.05", 0, "+5 %"),
        ("fail-on", "*.time:+5%", "*", "time", "1.05", 0, "+5 %"),
        ("fail-on", "outside.bytes:+0", "outside", "bytes", 1, 0, "+0 B"),
        ("fail-on", "outside.head.bytes:+0", "outside.head", "bytes", 1, 0, "+0 B"),
        ("fail-on", "outside.*.bytes:+0", "outside.*", "bytes", 1, 0, "+0 B"),
        ("require", "ffn.time:-30%", "ffn", "time", "0.7", 0, "-30 %"),
        ("require", "ffn.time:-100%", "ffn", "time", 0, 0, "-100 %"),
        ("require", "ffn.macs:1.5x", "ffn", "macs", Fraction(2, 3), 0, "1.5x"),
        ("require", "ffn.macs:1x", "ffn", "macs", 1, 0, "1x"),
        ("require", "bytes:-10MB", "total", "bytes", 1, -10_000_000, "-10 MB"),
        ("require", "ffn.share(time):-5", "ffn", "share(time)", 1, "-0.05", "-5 points"),
        ("budget", "total.bytes:100MB", "total", "bytes", 0, 100_000_000, "100 MB"),
        ("budget", "parameters:109.5M", "total", "parameters", 0, 109_500_000, "109.5 M"),
        ("budget", "time:50ms", "total", "time", 0, 50, "50 ms"),
        ("budget", "ffn.share(time):60%", "ffn", "share(time)", 0, "0.6", "60 points"),
        ("budget", "ffn.share(time):60", "ffn", "share(time)", 0, "0.6", "60 points"),
    ],
)
def test_every_form_of_a_gate(kind, text, scope, metric, factor, offset, shown):
    assert limits.parse(kind, text, "p") == limits.Spec(
        kind, text, "p", scope, metric, limits.Limit(Fraction(factor), Fraction(offset), shown)
    )


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_a_bare_limit(metric: str):
    scope = "ffn." if metric == "share(time)" else ""
    assert limits.parse("fail-on", f"{scope}{metric}:+1").metric == metric


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("fail-on", "", r"^--fail-on '' has no limit; write \[SCOPE.\]METRIC:LIMIT, as ffn.time:\+5% or \+5ms$"),
        ("fail-on", "ffn.time", "has no limit"),
        ("fail-on", "ffn.tmie:+5%", r"no metric 'tmie' \(did you mean time\?\); there is parameters, nonzero"),
        ("fail-on", "Time:+5%", r"no metric 'Time' \(did you mean time\?\)"),
        ("fail-on", "ffn.share:+5%", r"no metric 'share' \(did you mean share\(time\)\?\)"),
        ("fail-on", "qqq:+5%", "no metric 'qqq'; there is parameters"),
        ("fail-on", ":+5%", "no metric ''; there is"),
        ("fail-on", "ffn:+5%", r"names no metric; write ffn.METRIC, METRIC one of parameters"),
        ("fail-on", "unit[3].ffn:+5%", r"names no metric; write unit\[3\].ffn.METRIC"),
        ("fail-on", ".time:+5%", "no scope ''; there is total, "),
        ("fail-on", "fnn.time:+5%", r"no scope 'fnn' \(did you mean ffn\?\); there is total, \*, embedding"),
        ("fail-on", "unit[x].time:+5%", r"no scope 'unit\[x\]'; .* of single units unit\[3\]"),
        ("fail-on", "unit[-1].time:+5%", r"no scope 'unit\[-1\]'"),
        ("fail-on", "unit[03].time:+5%", r"no scope 'unit\[03\]'"),
        ("fail-on", "unit[].time:+5%", r"no scope 'unit\[\]'"),
        ("fail-on", "unit[3].rest.time:+5%", r"no scope 'unit\[3\].rest'"),
        ("fail-on", "after.unit[3].time:+5%", r"no scope 'after.unit\[3\]'"),
        ("fail-on", "total.ffn.time:+5%", "no scope 'total.ffn'"),
        ("fail-on", "ffn.memory:+5%", "peaks do not add up; write total.memory"),
        ("fail-on", "share(time):+5%", r"the total has all of the time; write a component's, as ffn.share\(time\)"),
        ("fail-on", "time:", r"'' is no limit; write \+5% or \+5ms"),
        ("fail-on", "time:nan", "'nan' is no limit"),
        ("fail-on", "time:+inf", r"'\+inf' is no limit"),
        ("fail-on", "time:+-5%", r"'\+-5%' is no limit"),
        ("fail-on", "time:+%", r"'\+%' is no limit"),
        ("fail-on", "time:+٣%", r"is no limit"),
        ("fail-on", "time:+5 m s", "is no limit"),
        ("fail-on", f"time:+{'9' * 5000}", "is no limit|no unit"),
        ("fail-on", "bytes:+1e9", "bytes has no unit 'e9'; use one of B, kB, MB, GB, TB, KiB"),
        ("fail-on", "bytes:+1KB", "bytes has no unit 'KB'"),
        ("fail-on", "time:+5M", "time has no unit 'M'; use one of ms, s, us, µs"),
        ("fail-on", "macs:+5ms", "macs has no unit 'ms'; use one of k, M, G, T"),
        ("fail-on", "time:+1.5x", "time has no unit 'x'"),
        ("fail-on", "time:5%", r"growth that is let through starts with \+ .*; write \+5% or \+5ms"),
        ("fail-on", "ffn.macs:-5%", r"starts with \+ \(a gain is asked for by require\); write \+5% or \+1000"),
        ("warn-on", "bytes:-5MB", r"--warn-on 'bytes:-5MB': growth .*; write \+5% or \+10MB"),
        (
            "require",
            "ffn.macs:+5%",
            r"a gain starts with - or ends in x \(growth is let through by fail-on\); write -30%",
        ),
        ("require", "ffn.macs:50%", "a gain starts with - or ends in x"),
        ("require", "energy:-101%", "nothing can shrink by more than 100%; write -30%, 1.5x or -5mJ"),
        ("require", "ffn.macs:0.9x", "0.9x is no gain; write 1x or more"),
        ("require", "ffn.macs:0x", "0x is no gain"),
        ("require", "ffn.macs:-2x", "macs has no unit 'x'"),
        ("budget", "bytes:+5MB", "a budget has no sign; write 10MB"),
        ("budget", "bytes:-5MB", "a budget has no sign"),
        ("budget", "bytes:50%", "bytes has no unit '%'"),
    ],
)
def test_what_is_no_gate(kind, text: str, message: str):
    with pytest.raises(UsageError, match=message) as caught:
        limits.parse(kind, text)
    assert str(caught.value).startswith(f"--{kind} '{text[:5]}")
    assert len(str(caught.value)) < 600


def test_an_error_names_the_file():
    with pytest.raises(UsageError, match=r"^/p/pyproject.toml: require 'ffn.time:30%': a gain"):
        limits.parse("require", "ffn.time:30%", "/p/pyproject.toml")
    with pytest.raises(UsageError, match=r"^fail_on 'ffn.time:5%': growth that is let through"):
        limits.parse("fail-on", "ffn.time:5%", limits.PYTHON)
    one = sized()
    with pytest.raises(UsageError, match=r"^fail_on 'head.macs:\+0': there is no head; "):
        gate.check([limits.parse("fail-on", "head.macs:+0", limits.PYTHON)], Comparison(one, one))


scopes = st.sampled_from(["", "ffn.", "*.", "unit[*].", "unit[3].ffn.", "outside.head.", "unit[", "x."])
near = st.builds(
    lambda scope, metric, colon, sign, number, unit: f"{scope}{metric}{colon}{sign}{number}{unit}",
    scopes,
    st.sampled_from([*METRICS, "tme", "", "share("]),
    st.sampled_from([":", "", "::"]),
    st.sampled_from(["+", "-", "", "++"]),
    st.one_of(st.integers().map(str), st.floats().map(str), st.text(max_size=3)),
    st.sampled_from(["%", "", "x", "ms", "MB", "MiB", "k", " ", "%%"]),
)


@given(st.sampled_from(KINDS), st.one_of(st.text(), near))
def test_any_text_is_a_gate_or_a_usage_error(kind, text: str):
    try:
        found = limits.parse(kind, text)
    except UsageError:
        return
    assert found.metric in METRICS
    assert found.limit.factor >= 0
    assert (found.limit.offset < 0) <= (kind == "require")


# Counts ---------------------------------------------------------------------------------------------------------------


def test_one_parameter_more_in_one_row_fails():
    before, after = bertprof.load(REAL), bertprof.load(REAL)
    row = next(c for c in after.costs if c.component is Component.FFN and c.unit == 3)
    row.parameters += 1
    compared = Comparison(before, after)
    assert said(compared, "fail-on", "ffn.parameters:+0") == (
        "failed",
        "ffn.parameters 56,669,185 is 1 more than 56,669,184, +0 allowed",
    )
    assert said(compared, "fail-on", "parameters:+0")[0] == "failed"
    assert said(compared, "fail-on", "ffn.parameters:+1")[0] == "passed"
    assert said(compared, "fail-on", "bytes:+0")[0] == "passed"
    found = check(compared, "fail-on", "unit[*].ffn.parameters:+0")
    assert [g.scope for g in found if g.outcome == "failed"] == ["unit[3].ffn"]
    assert len(found) == 12


@pytest.mark.parametrize(
    ("kind", "text", "before", "after", "outcome", "reason"),
    [
        ("fail-on", "parameters:+0", 100, 100, "passed", "100 is as before, +0 allowed"),
        ("fail-on", "parameters:+0", 100, 99, "passed", "99 is 1 less than 100, +0 allowed"),
        ("fail-on", "parameters:+0", 0, 1, "failed", "1 is 1 more than 0, +0 allowed"),
        ("fail-on", "parameters:+5%", 100, 105, "passed", "105 is 5 more than 100 (+5.0 %), +5 % allowed"),
        ("fail-on", "parameters:+5%", 100, 106, "failed", "106 is 6 more than 100 (+6.0 %), +5 % allowed"),
        ("fail-on", "parameters:+5%", 0, 1, "failed", "1 is 1 more than 0, +5 % allowed"),
        ("warn-on", "parameters:+1k", 100, 1100, "passed", "1,100 is 1,000 more than 100, +1 k allowed"),
        ("warn-on", "parameters:+1k", 100, 1101, "failed", "1,101 is 1,001 more than 100, +1 k allowed"),
        # 2⁵³ + 1 is no float, 5 % of 2⁵⁸ neither.
        ("fail-on", "parameters:+0", 2**53, 2**53 + 1, "failed", None),
        ("fail-on", "parameters:+5%", 20 * 2**55, 21 * 2**55, "passed", None),
        ("fail-on", "parameters:+5%", 20 * 2**55, 21 * 2**55 + 1, "failed", None),
        ("require", "parameters:-50%", 100, 50, "passed", "50 is 50 less than 100 (-50.0 %), -50 % asked"),
        ("require", "parameters:-50%", 100, 51, "failed", "51 is 49 less than 100 (-49.0 %), -50 % asked"),
        ("require", "parameters:-50%", 100, 100, "failed", "100 is as before, -50 % asked"),
        ("require", "parameters:1.5x", 150, 100, "passed", "100 is 50 less than 150, 1.5x asked"),
        ("require", "parameters:1.5x", 149, 100, "failed", "100 is 49 less than 149, 1.5x asked"),
        ("require", "parameters:3x", 1, 0, "passed", None),
        ("require", "parameters:-10", 100, 90, "passed", None),
        ("require", "parameters:-10", 100, 91, "failed", None),
        ("require", "parameters:-10", 5, 0, "failed", "0 is 5 less than 5, -10 asked"),
        ("budget", "parameters:109.5k", 0, 109_500, "passed", "109,500 is within the budget of 109.5 k"),
        ("budget", "parameters:109.5k", 0, 109_501, "failed", "109,501 is above the budget of 109.5 k"),
    ],
)
def test_counts_are_judged_exactly(kind, text, before, after, outcome, reason):
    found = said(Comparison(sized(parameters=before), sized(parameters=after)), kind, text)
    assert found[0] == outcome
    assert reason is None or found[1] == f"total.parameters {reason}"


def test_bytes_say_so():
    compared = Comparison(sized(parameter_bytes=400), sized(parameter_bytes=100_000_001))
    assert said(compared, "budget", "total.bytes:100MB") == (
        "failed",
        "total.bytes 100,000,001 B is above the budget of 100 MB",
    )


def test_memory_is_exact_too():
    compared = Comparison(made(cost(), peak_memory_bytes=1000), made(cost(), peak_memory_bytes=1051))
    assert said(compared, "fail-on", "memory:+5%") == (
        "failed",
        "total.memory 1,051 B is 51 B more than 1,000 B (+5.1 %), +5 % allowed",
    )
    assert said(compared, "fail-on", "memory:+51B")[0] == "passed"


counts = st.integers(0, 2**62)


@given(counts, counts, st.integers(0, 10**6), st.sampled_from(sorted(COUNTS)))
@example(56_669_184, 56_669_185, 0, "parameters")
@example(2**61, 2**61 + 1, 0, "macs")
@example(2**53 + 1, 2**53 + 2, 1, "macs")
def test_of_counts_every_kind_agrees_with_integers(before: int, after: int, thousandths: int, metric: str):
    """N is so many thousandths of a percent: after ≤ before·(1 + N/100) is 10⁵·after ≤ before·(10⁵ + thousandths)."""
    fields = {COUNTS[metric]: before}, {COUNTS[metric]: after}
    if metric == "nonzero_parameters":
        fields = ({**fields[0], "parameters": before}, {**fields[1], "parameters": after})
    compared = Comparison(*(made(cost(**one)) for one in fields))
    percent = f"{thousandths // 1000}.{thousandths % 1000:03}"

    def passes(kind: Any, limit: str) -> bool:
        return said(compared, kind, f"{metric}:{limit}")[0] == "passed"

    assert passes("fail-on", f"+{percent}%") == (100_000 * after <= before * (100_000 + thousandths))
    assert passes("warn-on", f"+{thousandths}") == (after <= before + thousandths)
    assert passes("budget", str(thousandths)) == (after <= thousandths)
    if before or after:
        assert passes("require", f"-{thousandths}") == (after <= before - thousandths)
        if thousandths <= 100_000:
            assert passes("require", f"-{percent}%") == (100_000 * after <= before * (100_000 - thousandths))
        if thousandths >= 1000:
            assert passes("require", f"{percent}x") == (after * thousandths <= before * 1000)


def test_a_gain_is_not_asked_of_what_is_not_there():
    compared = Comparison(made(cost(macs=10), cost(Component.EMBEDDING)), made(cost(macs=5), cost(Component.EMBEDDING)))
    with pytest.raises(UsageError, match=r"embedding.macs is 0 before and after, nothing can be gained"):
        check(compared, "require", "embedding.macs:-50%")
    assert [g.scope for g in check(compared, "require", "*.macs:-50%")] == ["ffn"]
    assert said(compared, "fail-on", "embedding.macs:+0") == ("passed", "embedding.macs 0 is as before, +0 allowed")


def test_rows_of_one_side():
    before, after = made(cost(Component.HEAD, parameters=7)), made(cost(Component.RECURRENT, parameters=9))
    compared = Comparison(before, after)
    found = check(compared, "fail-on", "*.parameters:+100%")
    assert [(g.scope, g.outcome) for g in found] == [("recurrent", "failed"), ("head", "passed")]
    assert said(compared, "fail-on", "recurrent.parameters:+9")[0] == "passed"
    assert said(compared, "require", "head.parameters:-100%")[0] == "passed"
    assert said(compared, "require", "recurrent.parameters:-1%")[0] == "failed"
    assert said(compared, "budget", "head.parameters:0")[0] == "passed"


# Which gate prevails --------------------------------------------------------------------------------------------------


def test_the_most_specific_scope_wins_and_among_equals_all_count():
    one = made(*(cost(c, u, parameters=1) for u in (0, 1) for c in (Component.FFN, Component.ADD_NORM)))
    texts = ["unit[1].ffn.parameters:+1", "unit[*].ffn.parameters:+2", "unit[*].*.parameters:+3"]
    texts += ["unit[1].*.parameters:+4", "*.parameters:+5", "ffn.parameters:+6", "ffn.parameters:+7"]
    texts += ["unit[1].bytes:+8", "unit[*].bytes:+9"]
    assert {(g.scope, g.metric, g.text[-1]) for g in check(Comparison(one, one), "fail-on", *texts)} == {
        ("unit[1].ffn", "parameters", "1"),
        ("unit[0].ffn", "parameters", "2"),
        ("unit[0].add-norm", "parameters", "3"),
        ("unit[1].add-norm", "parameters", "4"),
        ("add-norm", "parameters", "5"),
        ("ffn", "parameters", "6"),
        ("ffn", "parameters", "7"),
        ("unit[1]", "bytes", "8"),
        ("unit[0]", "bytes", "9"),
    }
    assert len(check(Comparison(one, one), "fail-on", *texts)) == 9


def judged(*asked: tuple[str, str, str]) -> list[tuple[str, str, str]]:
    """What prevails of gates (kind, text, origin) where one parameter of two became three, in one unit's ffn."""
    before, after = (made(cost(unit=0, parameters=n)) for n in (2, 3))
    specs = [limits.parse(kind, text, origin) for kind, text, origin in asked]  # type: ignore[arg-type]
    return [(g.text, g.origin, g.outcome) for g in gate.check(specs, Comparison(before, after))]


ASKED = (limits.COMMAND_LINE, limits.PYTHON)


@pytest.mark.parametrize("origin", [*ASKED, "/p/pyproject.toml"])
def test_of_several_limits_on_a_row_none_is_dropped(origin: str):
    tight, loose = "parameters:+0", "total.parameters:+200%"
    for texts in ((tight, loose), (loose, tight)):
        found = judged(*(("fail-on", text, origin) for text in texts))
        assert found == [(text, origin, "failed" if text == tight else "passed") for text in texts]
    # Neither scope is the more specific one.
    crossed = [("fail-on", text, origin) for text in ("unit[*].ffn.parameters:+0", "unit[0].*.parameters:+9")]
    assert [outcome for *_, outcome in judged(*crossed)] == ["failed", "passed"]


def test_a_gate_written_twice_is_one():
    assert len(judged(*[("fail-on", "parameters:+0", "/p")] * 2)) == 1


@pytest.mark.parametrize("origin", ASKED)
def test_what_is_given_for_once_replaces_the_projects_gates_of_the_same_scope(origin: str):
    project = [("fail-on", text, "/p") for text in ("total.parameters:+0", "parameters:+5%", "macs:+0")]
    given = [("fail-on", text, origin) for text in ("parameters:+1", "parameters:+100%")]
    for order in ([*project, *given], [*given, *project]):
        assert sorted(judged(*order)) == sorted(
            [("macs:+0", "/p", "passed"), *((text, origin, "passed") for _, text, _ in given)]
        )
    # Another kind, and another scope as written, stay; the more specific scope wins whoever wrote it.
    assert judged(*project[:1], ("warn-on", "parameters:+1", origin)) == [
        ("total.parameters:+0", "/p", "failed"),
        ("parameters:+1", origin, "passed"),
    ]
    assert judged(("fail-on", "ffn.parameters:+0", "/p"), ("fail-on", "*.parameters:+1", origin)) == [
        ("ffn.parameters:+0", "/p", "failed")
    ]
    assert judged(("fail-on", "*.parameters:+0", "/p"), ("fail-on", "ffn.parameters:+1", origin)) == [
        ("ffn.parameters:+1", origin, "passed")
    ]


def test_kinds_and_metrics_do_not_displace_each_other():
    one = sized(parameters=1)
    specs = [limits.parse(kind, "parameters:+0") for kind in ("fail-on", "warn-on")]
    specs += [limits.parse("fail-on", "macs:+0", "/p"), limits.parse("budget", "parameters:1")]
    found = gate.check(specs, Comparison(one, one))
    assert [(g.kind, g.metric, g.origin) for g in found] == [
        ("fail-on", "parameters", "command line"),
        ("warn-on", "parameters", "command line"),
        ("fail-on", "macs", "/p"),
        ("budget", "parameters", "command line"),
    ]


def test_each_wildcard_names_its_rows():
    one = made(cost(Component.FFN, 0), cost(Component.ADD_NORM, 1), cost(Component.HEAD), cost(Component.EMBEDDING))
    compared = Comparison(one, one)

    def rows(scope: str) -> list[str]:
        return [g.scope for g in check(compared, "fail-on", f"{scope}.macs:+0")]

    assert rows("*") == ["embedding", "ffn", "add-norm", "head"]
    assert rows("unit[*]") == ["unit[0]", "unit[1]"]
    assert rows("unit[*].*") == ["unit[0].ffn", "unit[1].add-norm"]
    assert rows("unit[*].ffn") == ["unit[0].ffn"]
    assert rows("unit[1].*") == ["unit[1].add-norm"]
    assert rows("outside.*") == ["outside.embedding", "outside.head"]
    assert rows("outside") == ["outside"]
    assert rows("rest") == ["rest"]


# A gate about nothing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "unit[12].time:+5%",
            r"--fail-on 'unit\[12\].time:\+5%': there is no unit\[12\]; there is unit\[0\] to unit\[11\]",
        ),
        ("unit[12].ffn.time:+5%", r"there is unit\[0\] to unit\[11\]$"),
        ("unit[3].head.time:+5%", r"no unit\[3\].head; there is unit\[3\].attention-linear-in, unit\[3\].softmax"),
        ("unit[*].head.time:+5%", r"there is unit\[\*\].attention-linear-in, "),
        ("outside.ffn.time:+5%", "no outside.ffn; there is outside.embedding, "),
        ("recurrent.time:+5%", "no recurrent; there is total, attention-linear, rest, embedding, "),
        ("energy:+5%", "energy was not measured before and after$"),
        ("memory:+5%", "memory was not measured before and after$"),
        ("nonzero_parameters:+0", "nonzero_parameters was not measured before and after$"),
    ],
)
def test_a_gate_about_nothing_is_an_error(text: str, message: str):
    one = bertprof.load(REAL)
    with pytest.raises(UsageError, match=message):
        check(Comparison(one, one), "fail-on", text)


def test_without_units_there_is_none():
    compared = Comparison(made(cost()), made(cost()))
    with pytest.raises(UsageError, match=r"no unit\[\*\]; there is no encoder unit"):
        check(compared, "fail-on", "unit[*].macs:+0")
    inner = Comparison(made(cost(unit=0)), made(cost(unit=0)))
    with pytest.raises(UsageError, match="no outside; there is nothing outside of units"):
        check(inner, "fail-on", "outside.macs:+0")


def test_a_metric_of_one_side_is_an_error_but_for_a_budget():
    timed, counted = made(cost(time_ms=[1.0] * 10)), made(cost())
    for text in ("time:+5%", "ffn.share(time):+5%"):
        with pytest.raises(UsageError, match="was not measured after; measure it without --no-time"):
            check(Comparison(timed, counted), "fail-on", text)
        with pytest.raises(UsageError, match="was not measured before; "):
            check(Comparison(counted, timed), "fail-on", text)
    with pytest.raises(UsageError, match="time was not measured before and after; measure it without --no-time"):
        check(Comparison(counted, counted), "fail-on", "time:+5%")
    assert said(Comparison(counted, timed), "budget", "time:2ms")[0] == "passed"
    with pytest.raises(UsageError, match="time was not measured after"):
        check(Comparison(timed, counted), "budget", "time:2ms")


# Times ----------------------------------------------------------------------------------------------------------------


def test_identical_samples_have_a_ratio_of_exactly_one():
    one = bertprof.load(REAL)
    compared = Comparison(one, bertprof.load(REAL))
    found = check(compared, "fail-on", "time:+0", "*.time:+0%", "*.share(time):+0", "unit[*].*.time:+0ms")
    assert {g.outcome for g in found} == {"passed"}
    assert found[0].reason == "total.time 103 ms is as before, +0 ms allowed"
    assert said(compared, "require", "time:-0%")[0] == "passed"
    assert said(compared, "require", "time:1x")[0] == "passed"
    assert said(compared, "require", "time:-1%")[0] == "failed"
    assert said(compared, "require", "ffn.time:1.001x")[0] == "failed"
    few = made(cost(time_ms=[1.0]))
    assert said(Comparison(few, few), "fail-on", "time:+0")[0] == "passed"


def test_a_time_is_judged_by_its_whole_interval():
    # Of 12 rounds the interval is from the third to the tenth: P(Bin(12, ½) < 3) = 79/4096 is under 2.5 %.
    ratios = [1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08, 1.09, 1.1, 1.11]
    compared = rounds(ratios)
    assert said(compared, "fail-on", "ffn.time:+1%") == (
        "failed",
        "ffn.time +5.5 % [+2.0 %, +9.0 %] is above +1 %",
    )
    assert said(compared, "fail-on", "ffn.time:+5%") == (
        "inconclusive",
        "ffn.time +5.5 % [+2.0 %, +9.0 %] may be above or below +5 %; measure longer (--min-time)",
    )
    assert said(compared, "fail-on", "ffn.time:+9.5%") == (
        "passed",
        "ffn.time +5.5 % [+2.0 %, +9.0 %] is not above +9.5 %",
    )
    assert said(compared, "fail-on", "ffn.time:+9.5ms") == (
        "passed",
        "ffn.time +5.5 % [+2.0 %, +9.0 %] is not above +9.5 ms (+9.5 %)",
    )


@pytest.mark.parametrize(
    ("ratio", "kind", "text", "outcome"),
    [
        (1.0, "fail-on", "+0", "passed"),
        (1.0, "fail-on", "+0%", "passed"),
        (1.05, "fail-on", "+5%", "passed"),
        (math.nextafter(1.05, 2), "fail-on", "+5%", "failed"),
        (1.25, "fail-on", "+25ms", "passed"),
        (math.nextafter(1.25, 2), "fail-on", "+25ms", "failed"),
        (0.5, "require", "-50%", "passed"),
        (0.5, "require", "2x", "passed"),
        (0.5, "require", "-50ms", "passed"),
        (math.nextafter(0.5, 1), "require", "2x", "failed"),
        (math.nextafter(0.5, 1), "require", "-50ms", "failed"),
        (0.1, "require", "-100%", "failed"),
        (0.1, "require", "-101ms", "failed"),
    ],
)
def test_at_the_limit_a_time_passes(ratio: float, kind, text: str, outcome: str):
    """All rounds at the ratio: the interval is a point. 100·ratio/100 gives these ratios back exactly."""
    assert 100.0 * ratio / 100.0 == ratio
    assert said(rounds([ratio] * 12), kind, f"ffn.time:{text}")[0] == outcome


def test_a_gain_in_times_is_said_in_times():
    compared = rounds([0.5, 0.5, 0.5, *[0.625] * 6, 0.8, 0.8, 0.8])
    assert said(compared, "require", "ffn.time:1.25x") == ("passed", "ffn.time 1.60x [1.25x, 2.00x] reaches 1.25x")
    assert said(compared, "require", "ffn.time:2.5x")[1] == "ffn.time 1.60x [1.25x, 2.00x] is short of 2.5x"
    assert said(compared, "require", "ffn.time:1.5x") == (
        "inconclusive",
        "ffn.time 1.60x [1.25x, 2.00x] may reach or miss 1.5x; measure longer (--min-time)",
    )
    assert said(compared, "require", "ffn.time:-20%")[1] == "ffn.time -37.5 % [-50.0 %, -20.0 %] reaches -20 %"


def test_shares_are_limited_in_points_or_relatively():
    # ffn is 50 ms of 100, then 60 of 100, in every round: +10 points, +20 %.
    def sides(ffn: float) -> Breakdown:
        return made(cost(time_ms=[ffn] * 12), cost(Component.HEAD, time_ms=[100 - ffn] * 12), run="r")

    compared = Comparison(sides(50.0), sides(60.0))
    assert said(compared, "fail-on", "ffn.share(time):+9.9") == (
        "failed",
        "ffn.share(time) 50.0 % → 60.0 % of the time, +20.0 % [+20.0 %, +20.0 %] is above +9.9 points (+19.8 %)",
    )
    assert said(compared, "fail-on", "ffn.share(time):+10.1")[0] == "passed"
    assert said(compared, "fail-on", "ffn.share(time):+19%")[0] == "failed"
    assert said(compared, "fail-on", "ffn.share(time):+20.1%")[0] == "passed"
    assert said(compared, "require", "head.share(time):-20%")[0] == "passed"
    assert said(compared, "budget", "ffn.share(time):60.1%") == (
        "passed",
        "ffn.share(time) 60.000 % [60.000, 60.000] is within the budget of 60.1 points",
    )


@pytest.mark.parametrize(("components", "outcome"), [(7, "failed"), (8, "inconclusive")])
def test_failing_is_corrected_for_the_number_of_tests(components: int, outcome: str):
    """One of 12 rounds within the limit: p = 13/4096. Seven times that is under 2.5 %, eight times is not."""
    assert 7 * 13 / 4096 < 0.025 < 8 * 13 / 4096
    named = list(Component)[:components]
    before = made(*(cost(c, time_ms=[10.0] * 12) for c in named), run="r")
    after = made(*(cost(c, time_ms=[10.0] + [11.0] * 11) for c in named), run="r")
    found = check(Comparison(before, after), "fail-on", "*.time:+5%")
    assert [g.outcome for g in found] == [outcome] * components
    assert [g.p_value for g in found] == [pytest.approx(components * 13 / 4096)] * components
    if outcome == "inconclusive":
        assert found[0].reason == (
            "embedding.time +10.0 % [+10.0 %, +10.0 %] is above +5 %, which may be chance where 8 rows are tested "
            "(p = 0.0254, not below 0.025); measure longer (--min-time)"
        )


def test_warnings_do_not_count_beside_what_fails():
    """Seven rows fail together, eight would not; so many warnings, judged together too, do not change that."""
    named = list(Component)[:7]
    before = made(*(cost(c, time_ms=[10.0] * 12) for c in named), run="r")
    after = made(*(cost(c, time_ms=[10.0] + [11.0] * 11) for c in named), run="r")
    specs = [limits.parse("warn-on", "*.time:+5%"), limits.parse("warn-on", "time:+5%")]
    specs += [limits.parse("fail-on", "*.time:+5%")]
    found = gate.check(specs, Comparison(before, after))
    assert [(g.kind, g.outcome) for g in found] == [("warn-on", "inconclusive")] * 8 + [("fail-on", "failed")] * 7
    assert [g.p_value for g in found] == [pytest.approx(n * 13 / 4096) for n in [8] * 8 + [7] * 7]
    assert found[0].reason.split(", which ")[1].startswith("may be chance where 8 rows are tested")
    # Of growth and of gain together it is one family: each may fail the command.
    specs = [limits.parse("fail-on", "*.time:+5%"), limits.parse("require", "time:1x")]
    assert [g.outcome for g in gate.check(specs, Comparison(before, after))] == ["inconclusive"] * 8


def test_what_is_exact_does_not_count_as_a_test():
    compared = rounds([1.0] + [1.1] * 11)
    found = check(compared, "fail-on", "ffn.time:+5%", "ffn.parameters:+0", "ffn.macs:+0", "head.bytes:+0")
    assert [g.p_value for g in found] == [pytest.approx(13 / 4096), None, None, None]
    (budget,) = check(compared, "budget", "ffn.time:1ms")
    assert (budget.outcome, budget.p_value) == ("failed", None)


def test_passing_is_not_corrected():
    """One of 12 rounds above the limit, in more rows than could fail."""
    named = list(Component)
    before = made(*(cost(c, time_ms=[10.0] * 12) for c in named), run="r")
    after = made(*(cost(c, time_ms=[11.0] + [10.0] * 11) for c in named), run="r")
    assert {g.outcome for g in check(Comparison(before, after), "fail-on", "*.time:+5%")} == {"passed"}


ratios = st.lists(st.integers(80, 125).map(lambda i: i / 100), min_size=6, max_size=40)
percents = st.integers(0, 40)


@given(ratios, percents)
def test_of_a_single_gate_interval_and_test_agree(ratios: list[float], percent: int):
    compared = rounds(ratios)
    assume(compared.times == "rounds")
    part = compared.part("ffn")
    assert part is not None
    found = compared.evidence(part, "time")
    assert found is not None
    limit = float(1 + Fraction(percent, 100))
    outcome, _ = said(compared, "fail-on", f"ffn.time:+{percent}%", min_samples=1)
    assert (outcome == "failed") == (found.low > limit) == (found.p_above(limit) <= 0.025)
    assert (outcome == "passed") == (found.high <= limit)


@given(ratios, percents, percents)
def test_a_looser_limit_never_turns_passed_into_failed(ratios: list[float], one: int, other: int):
    compared = rounds(ratios)
    order = {"failed": 0, "inconclusive": 1, "passed": 2}
    tight, loose = sorted((one, other))
    for form, strict, lax in (("fail-on", tight, loose), ("require", loose, tight), ("budget", tight, loose)):
        sign = {"fail-on": "+", "require": "-", "budget": ""}[form]
        for unit in ("ms",) if form == "budget" else ("%", "ms"):
            # Of several gates at once, too: loosening one may help the others to pass, never to fail.
            steps = [
                order[check(compared, form, f"ffn.time:{sign}{n}{unit}", f"head.time:{sign}3ms")[0].outcome]
                for n in (strict, lax)
            ]
            assert steps[0] <= steps[1]


# Too little to say ----------------------------------------------------------------------------------------------------


def test_fewer_repeats_than_asked_say_nothing():
    assert said(rounds([2.0] * 9), "fail-on", "ffn.time:+5%") == (
        "inconclusive",
        "ffn.time cannot be judged by 9 before and 9 after: it takes 10 repeats; measure longer (--min-time)",
    )
    assert said(rounds([2.0] * 10), "fail-on", "ffn.time:+5%")[0] == "failed"
    assert said(rounds([2.0] * 19), "fail-on", "ffn.time:+5%", min_samples=20)[0] == "inconclusive"
    assert said(rounds([2.0] * 9), "budget", "ffn.time:1ms")[1].startswith("ffn.time cannot be judged by 9 after: ")


def test_of_five_rounds_there_is_no_interval_whatever_is_asked():
    assert said(rounds([2.0] * 5), "fail-on", "ffn.time:+5%", min_samples=1)[1].startswith(
        "ffn.time cannot be judged by 5 before and 5 after: it takes 6 repeats"
    )
    assert said(rounds([2.0] * 6), "fail-on", "ffn.time:+5%", min_samples=1)[0] == "failed"


def process(medians: list[float], each: int, **fields: Any) -> Breakdown:
    """So many processes of as many repeats, each of its own speed."""
    samples = [median for median in medians for _ in range(each)]
    return made(cost(time_ms=samples, parameters=1), processes=len(medians), **fields)


def test_processes_are_judged_by_their_repeats_and_their_spread():
    before, after = [10.0, 10.1, 9.9, 10.05, 9.95], [12.0, 12.1, 11.9, 12.05, 11.95]
    compared = Comparison(process(before, 2), process(after, 2))
    assert compared.times == "processes"
    outcome, reason = said(compared, "fail-on", "ffn.time:+10%")
    assert (outcome, reason[:17]) == ("failed", "ffn.time +20.0 % ")
    assert said(compared, "fail-on", "ffn.time:+30%")[0] == "passed"
    outcome, reason = said(compared, "fail-on", "ffn.time:+20%")
    assert outcome == "inconclusive"
    assert reason.endswith("; measure in more processes (--processes)")
    assert said(Comparison(process(before, 1), process(after, 1)), "fail-on", "ffn.time:+10%")[1].startswith(
        "ffn.time cannot be judged by 5 before and 5 after: it takes 10 repeats"
    )
    assert (
        said(Comparison(process(before, 1), process(after, 1)), "fail-on", "ffn.time:+10%", min_samples=5)[0]
        == "failed"
    )


def test_the_side_of_fewer_repeats_decides():
    compared = Comparison(process([10.0, 10.1, 9.9], 6), process([12.0, 12.1, 11.9], 3))
    assert said(compared, "fail-on", "ffn.time:+5%")[1].startswith(
        "ffn.time cannot be judged by 18 before and 9 after: it takes 10 repeats"
    )
    assert said(compared, "fail-on", "ffn.time:+5%", min_samples=9)[0] == "failed"


def test_one_process_a_side_says_nothing_and_names_the_way_out():
    compared = Comparison(process([10.0], 20), process([20.0], 20))
    assert said(compared, "fail-on", "ffn.time:+5%") == (
        "inconclusive",
        "ffn.time cannot be judged by 1 before and 1 after, it takes 3 processes a side: measure with --processes 5, "
        "or give both as models so that they are measured together",
    )
    assert said(compared, "require", "ffn.time:-5%")[0] == "inconclusive"
    assert said(compared, "fail-on", "ffn.parameters:+0")[0] == "passed"
    assert said(compared, "budget", "ffn.time:20ms")[0] == "passed"


def test_what_took_no_time_in_some_rounds_has_no_ratio():
    before = made(cost(time_ms=[1.0] * 12), cost(Component.HEAD, time_ms=[0.0, *[1.0] * 11]), run="r")
    after = made(cost(time_ms=[2.0] * 12), cost(Component.HEAD, time_ms=[3.0] * 12), run="r")
    assert said(Comparison(before, after), "fail-on", "head.time:+5%") == (
        "inconclusive",
        "head.time cannot be judged: it is shorter than 5 µs, or took no time in some repeat",
    )


def test_times_of_one_side():
    steady, extra = [10.0 + i / 100 for i in range(12)], [1.0] * 12
    less, more = (
        made(cost(time_ms=steady), run="r"),
        made(cost(time_ms=steady), cost(Component.HEAD, time_ms=extra), run="r"),
    )
    new, removed = Comparison(less, more), Comparison(more, less)
    assert said(new, "fail-on", "head.time:+500%") == (
        "failed",
        "head.time 1.00 ms is 1.00 ms more than 0.00 ms, +500 % allowed",
    )
    assert said(new, "fail-on", "head.time:+2ms")[0] == "passed"
    assert said(new, "fail-on", "head.time:+0.5ms")[0] == "failed"
    assert said(new, "fail-on", "head.time:+1ms")[0] == "inconclusive"
    assert said(new, "require", "head.time:-10%")[0] == "failed"
    assert said(removed, "fail-on", "head.time:+0")[0] == "passed"
    assert said(removed, "require", "head.time:3x")[0] == "passed"
    # Apart, a row that is new is new all the same; how long it takes is another matter.
    apart = Comparison(msgspec.structs.replace(less, run=None), more)
    assert apart.times == "too few processes"
    assert said(apart, "fail-on", "head.time:+500%")[0] == "failed"
    assert said(apart, "fail-on", "head.time:+0.5ms")[0] == "inconclusive"


def test_a_row_without_time_on_both_sides_passes():
    before, after = (
        made(cost(time_ms=[t] * 12), cost(Component.HEAD, time_ms=[0.0] * 12), run="r") for t in (1.0, 2.0)
    )
    assert said(Comparison(before, after), "fail-on", "head.time:+5%")[0] == "passed"


# Times that stand elsewhere -------------------------------------------------------------------------------------------

IN, SOFTMAX, OUT = Component.ATTENTION_LINEAR_IN, Component.SOFTMAX_ATTENTION, Component.ATTENTION_LINEAR_OUT
TOGETHER = "attention-linear-in, softmax-attention, attention-linear-out"


def whole(factor: float = 1.0) -> Breakdown:
    """As of `nn.MultiheadAttention`: one function does the work of three components, and its 10 ms are of one row."""
    rows = [(IN, 0.0), (SOFTMAX, 10 * factor), (OUT, 0.0), (Component.FFN, 8.0)]
    mixed = Caveat(code="time-not-split", text="one function", component=SOFTMAX)
    return made(*(cost(c, 0, [t] * 12, macs=5) for c, t in rows), run="r", caveats=[mixed])


def apart(factor: float = 1.0) -> Breakdown:
    """The same by modules of their own."""
    rows = [(IN, 4.0), (SOFTMAX, 3.0), (OUT, 3.0), (Component.FFN, 8.0)]
    return made(*(cost(c, 0, [t * factor] * 12, macs=5) for c, t in rows), run="r")


@pytest.mark.parametrize(
    ("before", "after"),
    [(apart(), whole()), (whole(), apart()), (whole(), whole(1.5)), (whole(1.5), whole()), (apart(2), whole(0.1))],
)
@pytest.mark.parametrize("scope", [IN, SOFTMAX, OUT, "attention-linear", f"unit[0].{OUT}", f"unit[*].{SOFTMAX}"])
def test_times_that_stand_together_are_not_judged_one_by_one(before: Breakdown, after: Breakdown, scope: str):
    compared = Comparison(before, after)
    limits_of = {"fail-on": ("+5%", "+900%", "+1"), "require": ("-50%", "-5%", "-1", "-100%"), "warn-on": ("+0",)}
    for kind, allowed in limits_of.items():
        for metric in ("time", "share(time)"):
            for limit in allowed:
                (found,) = check(compared, kind, f"{scope}.{metric}:{limit}")
                assert (found.outcome, found.p_value) == ("inconclusive", None)
                assert found.reason == (
                    f"{found.scope}.{metric} cannot be judged: the times of {TOGETHER} stand together; "
                    "gate all of them at once, as total or unit[*]"
                )
    assert said(compared, "fail-on", f"{scope}.macs:+0")[0] == "passed"


def test_times_that_stand_together_are_judged_together():
    compared = Comparison(apart(), whole(1.5))  # 15 + 8 against 10 + 8 ms
    for scope in ("total", "unit[0]"):
        assert said(compared, "fail-on", f"{scope}.time:+5%")[0] == "failed"
        assert said(compared, "fail-on", f"{scope}.time:+30%")[0] == "passed"
    assert said(compared, "fail-on", "ffn.time:+5%")[0] == "passed"
    assert [g.outcome for g in check(compared, "require", "*.time:-5%")] == ["inconclusive"] * 3 + ["failed"]


def test_a_budget_reads_the_side_after_alone():
    for scope in (IN, SOFTMAX, OUT):
        for metric, limit in (("time", "1ms"), ("time", "100ms"), ("share(time)", "60%")):
            assert said(Comparison(apart(), whole()), "budget", f"{scope}.{metric}:{limit}")[0] == "inconclusive"
            assert said(Comparison(whole(), whole()), "budget", f"{scope}.{metric}:{limit}")[0] == "inconclusive"
            assert said(Comparison(whole(), apart()), "budget", f"{scope}.{metric}:{limit}")[0] != "inconclusive"
    assert said(Comparison(apart(), whole()), "budget", "unit[0].time:18ms")[0] == "passed"
    assert said(Comparison(apart(), whole()), "budget", "ffn.time:7ms")[0] == "failed"


def test_energy_and_device_time_stand_together_like_times():
    def side(millijoules: float) -> Breakdown:
        one = whole()
        for c in one.costs:
            c.energy_mj = c.device_time_ms = [millijoules if c.component is SOFTMAX else 0.0] * 12
        return one

    compared = Comparison(side(1.0), side(2.0))
    for metric in ("energy", "device_time"):
        assert said(compared, "fail-on", f"{IN}.{metric}:+5%")[0] == "inconclusive"
        assert said(compared, "budget", f"{IN}.{metric}:1")[0] == "inconclusive"
        assert said(compared, "fail-on", f"unit[0].{metric}:+5%")[0] == "failed"


def test_what_did_not_change_at_all_is_certain_wherever_its_time_stands():
    compared = Comparison(whole(), whole())
    assert compared.times == "identical"
    assert {g.outcome for g in check(compared, "fail-on", "*.time:+0", "*.share(time):+0")} == {"passed"}
    assert said(compared, "require", f"{SOFTMAX}.time:-5%")[0] == "failed"
    # Of a time that is not known, a gain of 0 % is none that was seen.
    assert said(compared, "require", f"{IN}.time:-5%")[0] == "inconclusive"


def test_what_is_gone_takes_no_time_wherever_it_stood():
    gone = made(cost(Component.FFN, 0, [8.0] * 12, macs=5), run="r")
    compared, back = Comparison(whole(), gone), Comparison(gone, whole())
    for scope in (IN, SOFTMAX, OUT):
        assert said(compared, "fail-on", f"{scope}.time:+0")[0] == "passed"
        assert said(compared, "budget", f"{scope}.time:0")[0] == "passed"
        assert said(back, "fail-on", f"{scope}.time:+5%")[0] == "inconclusive"
    assert said(compared, "require", f"{SOFTMAX}.time:-100%")[0] == "passed"
    # How much of the 10 ms were its own is not known.
    assert said(compared, "require", f"{SOFTMAX}.time:-9ms")[0] == "inconclusive"


# Budgets --------------------------------------------------------------------------------------------------------------


def test_a_budget_on_a_time_is_judged_by_the_interval_of_after():
    # The interval of the median of 12 is from the third to the tenth.
    compared = Comparison(made(cost()), made(cost(time_ms=[float(t) for t in range(1, 13)])))
    assert said(compared, "budget", "time:10ms") == (
        "passed",
        "total.time 6.5 ms [3.0, 10.0] is within the budget of 10 ms",
    )
    assert said(compared, "budget", "time:9.9ms") == (
        "inconclusive",
        "total.time 6.5 ms [3.0, 10.0] may be above or below the budget of 9.9 ms; measure longer (--min-time)",
    )
    assert said(compared, "budget", "time:3ms")[0] == "inconclusive"
    assert said(compared, "budget", "time:2.9ms") == (
        "failed",
        "total.time 6.5 ms [3.0, 10.0] is above the budget of 2.9 ms",
    )
    assert said(compared, "budget", "time:0") == ("failed", "total.time 6.50 ms is above the budget of 0 ms")


def test_a_budget_is_on_the_bare_forward_in_whole_and_on_the_share_of_a_component():
    one = bertprof.load(REAL)
    assert one.end_to_end_ms != one.instrumented_ms
    for scope, own in (("total", one.end_to_end_time_ms), ("ffn", one.time_of(one.of(Component.FFN)))):
        assert own is not None
        ceilings = [own.high + 0.001, own.high - 0.001, own.low + 0.001, own.low - 0.001]
        found = [said(Comparison(one, one), "budget", f"{scope}.time:{limit:.6f}")[0] for limit in ceilings]
        assert found == ["passed", "inconclusive", "inconclusive", "failed"]


def test_energy_and_device_time_are_judged_by_their_own_samples():
    def sides(energy: float) -> Breakdown:
        trials = [energy + i for i in range(12)]
        return made(
            cost(time_ms=[energy] * 12, energy_mj=trials, device_time_ms=trials),
            cost(Component.HEAD, time_ms=[1.0] * 12, energy_mj=[0.0] * 12, device_time_ms=[0.0] * 12),
            run="r",
        )

    compared = Comparison(sides(100.0), sides(200.0))
    assert said(compared, "fail-on", "energy:+50%")[0] == "failed"
    assert said(compared, "fail-on", "ffn.device_time:+150%")[0] == "passed"
    # From the third to the tenth of 200 to 211.
    assert said(compared, "budget", "energy:1J") == (
        "passed",
        "total.energy 205.5 mJ [202.0, 209.0] is within the budget of 1 J",
    )
    assert said(compared, "budget", "ffn.device_time:201ms")[0] == "failed"
    assert said(compared, "fail-on", "head.energy:+0") == ("passed", "head.energy 0 mJ is as before, +0 mJ allowed")


# Not comparable -------------------------------------------------------------------------------------------------------


def rows(**fields: Any) -> Breakdown:
    samples = [1.0] * 12
    return made(
        cost(time_ms=samples, parameters=1, nonzero_parameters=1, energy_mj=samples), peak_memory_bytes=1, **fields
    )


UNTOUCHED = {"parameters", "nonzero_parameters", "bytes"}
GATED = [*UNTOUCHED, "macs", "flops", "time", "memory", "energy", "ffn.share(time)"]


@pytest.mark.parametrize(
    ("key", "one", "other", "compares"),
    [
        ("batch_size", {"workload": {"batch_size": 1}}, {"workload": {"batch_size": 2}}, UNTOUCHED),
        ("sequence_length", {"workload": {"sequence_length": 8}}, {"workload": {"sequence_length": 9}}, UNTOUCHED),
        ("padding", {"workload": {"padding": 0.0}}, {"workload": {"padding": 0.5}}, UNTOUCHED),
        ("task", {}, {"workload": {"task": "qa"}}, UNTOUCHED),
        ("device", {}, {"workload": {"device": "cuda"}}, {*UNTOUCHED, "macs", "flops"}),
        ("threads", {}, {"workload": {"threads": 2}}, {*UNTOUCHED, "macs", "flops"}),
        ("cpu", {}, {"host": {"cpu": "d"}}, {*UNTOUCHED, "macs", "flops"}),
        ("gpu", {}, {"host": {"gpu": "g"}}, {*UNTOUCHED, "macs", "flops"}),
        ("torch", {}, {"host": {"torch": "3"}}, {*UNTOUCHED, "macs", "flops"}),
    ],
)
def test_what_does_not_compare_and_what_lets_it_through(key: str, one, other, compares: set[str]):
    before, after = rows(**one), rows(**other)
    found = check(Comparison(before, after), "fail-on", *(f"{metric}:+900%" for metric in GATED))
    assert {g.metric for g in found if g.outcome != "not comparable"} == compares
    assert {g.outcome for g in found} == {"not comparable", "passed"}
    reason = next(g.reason for g in found if g.outcome == "not comparable")
    assert f"cannot be compared: {key} is " in reason
    assert reason.endswith(f"; --allow-mismatch {key} compares all the same")
    allowed = check(Comparison(before, after, [key]), "fail-on", *(f"{metric}:+900%" for metric in GATED))
    assert {g.outcome for g in allowed} == {"passed"}
    budgets = check(Comparison(before, after), "budget", *(f"{metric}:50" for metric in GATED if "share" not in metric))
    assert {g.outcome for g in budgets} == {"passed"}


@pytest.mark.parametrize("dequantised", ["before", "after"])
def test_times_of_a_float_model_that_were_let_through_are_marked(dequantised: str):
    sides = {"before": rows(), "after": rows()}
    sides[dequantised].caveats = [Caveat(code="no-kernel", text="x")]
    texts = [f"{metric}:+900%" for metric in GATED]
    refused = check(Comparison(**sides), "fail-on", *texts)
    assert not [g for g in refused if g.reason.endswith("(dequantised)")]
    found = check(Comparison(**sides, allowed=["kernel"]), "fail-on", *texts)
    assert {g.outcome for g in found} == {"passed"}
    marked = {g.metric for g in found if g.reason.endswith(" allowed (dequantised)")}
    assert marked == {"time", "memory", "energy", "share(time)"}
    # A budget compares nothing, and of two sides of one kind nothing was let through.
    budget = check(Comparison(**sides, allowed=["kernel"]), "budget", "time:50ms")
    alike = check(Comparison(sides[dequantised], sides[dequantised], ["kernel"]), "fail-on", *texts)
    assert not [g for g in [*budget, *alike] if g.reason.endswith("(dequantised)")]


def test_a_speed_up_by_chance_of_dequantised_weights_is_marked():
    compared = rounds([0.5] * 12)
    compared.after.caveats = [Caveat(code="no-kernel", text="x")]
    assert said(Comparison(compared.before, compared.after), "require", "ffn.time:1.1x")[0] == "not comparable"
    outcome, reason = said(Comparison(compared.before, compared.after, ["kernel"]), "require", "ffn.time:1.1x")
    assert outcome == "passed"
    assert reason == "ffn.time 2.00x [2.00x, 2.00x] reaches 1.1x (dequantised)"


def test_the_reason_names_all_keys_and_values():
    compared = Comparison(rows(), rows(workload={"batch_size": 8}, host={"torch": "3\x1b[1m"}))
    assert said(compared, "fail-on", "ffn.time:+5%")[1] == (
        "ffn.time cannot be compared: batch_size is 1 before and 8 after, torch is 2 before and 3�[1m after; "
        "--allow-mismatch batch_size --allow-mismatch torch compares all the same"
    )


def deep(units: int, parameters: int = 1) -> Breakdown:
    return made(*(cost(unit=u, parameters=parameters) for u in range(units)), cost(Component.HEAD, parameters=5))


def test_single_units_of_different_depths_do_not_compare():
    compared = Comparison(deep(4), deep(2, parameters=3))
    for scope in ("unit[3]", "unit[*]", "unit[1].ffn", "unit[*].ffn"):
        assert said(compared, "fail-on", f"{scope}.parameters:+0") == (
            "not comparable",
            f"{scope}.parameters cannot be compared: units is 4 before and 2 after; "
            "--allow-mismatch units compares all the same",
        )
    assert said(compared, "fail-on", "ffn.parameters:+2")[0] == "passed"
    assert said(compared, "fail-on", "outside.head.parameters:+0")[0] == "passed"
    with pytest.raises(UsageError, match=r"no unit\[4\]; there is unit\[0\] to unit\[3\]"):
        check(compared, "fail-on", "unit[4].parameters:+0")
    allowed = Comparison(deep(4), deep(2, parameters=3), ["units"])
    found = check(allowed, "fail-on", "unit[*].parameters:+1")
    assert [g.outcome for g in found] == ["failed", "failed", "passed", "passed"]


def test_budgets_of_single_units_are_about_the_units_of_after():
    compared = Comparison(deep(2), deep(4, parameters=3))
    found = check(compared, "budget", "unit[*].parameters:3")
    assert [(g.scope, g.outcome) for g in found] == [(f"after.unit[{u}]", "passed") for u in range(4)]
    assert said(compared, "budget", "unit[3].ffn.parameters:2")[0] == "failed"
    with pytest.raises(UsageError, match=r"no unit\[2\]; there is unit\[0\] to unit\[1\]"):
        check(Comparison(deep(4), deep(2)), "budget", "unit[2].parameters:3")


# In whole -------------------------------------------------------------------------------------------------------------


def test_the_exit_code_follows():
    compared = Comparison(bertprof.load(REAL), bertprof.load(REAL))
    diff = compared.diff()
    diff.gates = check(compared, "fail-on", "parameters:+0", "ffn.time:+5%")
    assert diff.exit_code() == 0
    diff.gates += check(compared, "budget", "total.bytes:100MB")
    assert diff.exit_code() == 1
    assert diff.gates[-1].reason == "total.bytes 437,928,960 B is above the budget of 100 MB"
    assert diff.gates[-1].change == compared.change(compared.parts[0], "bytes")


def test_a_planted_slowdown_is_found_in_its_row_alone():
    before, after = bertprof.load(REAL), bertprof.load(REAL)
    before.run = after.run = "r"
    assert after.instrumented_ms is not None
    assert after.end_to_end_ms is not None
    for row in after.of(Component.FFN):
        assert row.time_ms is not None
        slower = [1.1 * t for t in row.time_ms]
        for i, (new, old) in enumerate(zip(slower, row.time_ms, strict=True)):
            after.instrumented_ms[i] += new - old
            after.end_to_end_ms[i] += new - old
        row.time_ms = slower
    compared = Comparison(before, after)
    assert compared.times == "rounds"
    found = check(compared, "fail-on", "time:+20%", "*.time:+5%")
    assert [g.scope for g in found if g.outcome == "failed"] == ["ffn"]
    assert {g.outcome for g in found if g.scope != "ffn"} == {"passed"}
