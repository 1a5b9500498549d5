import pytest

from bertprof import formatting
from bertprof.sampling import Estimate


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.000k"),
        (109_482_240, "109.5M"),
        (2_717_908_992, "2.718G"),
        (999_950, "1.000M"),
        (999_940, "999.9k"),
        (8.3e12, "8.300T"),
    ],
)
def test_count(value: float, text: str):
    assert formatting.count(value) == text


def test_size_is_decimal():
    assert formatting.size(437_928_960) == "437.9 MB"
    assert formatting.size(0) == "0 B"
    assert formatting.size(1536) == "1.536 kB"


@pytest.mark.parametrize(
    ("estimate", "text", "plus_minus"),
    [
        (Estimate(95.7607, 95.34, 97.16), "95.8", "0.9"),
        (Estimate(0.2875, 0.2795, 0.2955), "0.287", "0.008"),
        (Estimate(58.06, 57.0, 59.2), "58.1", "1.1"),
        (Estimate(750.9, 700.0, 800.0), "751", "50"),
        (Estimate(5.0, 5.0, 5.0), "5.000", "0.000"),
    ],
)
def test_only_earned_digits_are_printed(estimate: Estimate, text: str, plus_minus: str):
    assert formatting.milliseconds(estimate) == text
    assert formatting.plus_minus(estimate) == plus_minus


@pytest.mark.parametrize(("text", "value"), [("2s", 2.0), ("500ms", 0.5), ("1.5", 1.5), ("2m", 120.0), (" 3 S ", 3.0)])
def test_seconds(text: str, value: float):
    assert formatting.seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "banana", "2h", "--1s"])
def test_what_is_no_duration(text: str):
    with pytest.raises(ValueError, match=r"float|^$"):
        formatting.seconds(text)


def test_shares_and_changes():
    assert formatting.percent(0.518) == "51.8"
    assert formatting.percent(None) == "–"
    assert formatting.change(1.0069) == "+0.7 %"
    assert formatting.change(0.6) == "-40.0 %"
    assert formatting.interval(Estimate(95.7, 95.3, 97.2)) == "95.7 ms [95.3, 97.2]"
    assert formatting.exact(109482240) == "109,482,240"


@pytest.mark.parametrize(
    ("value", "text"),
    [(-28_334_592, "-28.33M"), (-1536, "-1,536"), (1, "+1"), (9999, "+9,999"), (10_000, "+10.00k"), (0, "+0")],
)
def test_a_change_of_a_count(value: float, text: str):
    assert formatting.signed_count(value) == text


def test_a_change_of_a_size():
    assert formatting.signed_size(-172_477_440) == "-172.5 MB"
    assert formatting.signed_size(312) == "+312 B"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.004, "0.00"), (0.29, "0.29"), (9.996, "10.0"), (102.73, "102.7"), (1240.4, "1,240")],
)
def test_a_measured_figure(value: float, text: str):
    assert formatting.measured(value) == text


def test_a_change_of_a_measured_figure():
    assert formatting.signed(-58.04) == "-58.0"
    assert formatting.signed(0.321) == "+0.32"


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.5, "-50.0 %"),
        (1.0, "+0.0 %"),
        (1 - 1536 / 23_835_648, "-0.01 %"),
        (1 + 1 / 109_482_240, "+0.000001 %"),
        (0.0003, "-99.97 %"),
        (0.0, "-100.0 %"),
        (13.0, "+1,200 %"),
    ],
)
def test_what_an_exact_ratio_is_off_one(ratio: float, text: str):
    assert formatting.relative(ratio) == text


@pytest.mark.parametrize(
    ("ratio", "low", "high", "text"),
    [
        (0.59, 0.57, 0.60, "-41 % [-43, -40]"),
        (0.59, 0.588, 0.592, "-41.0 % [-41.2, -40.8]"),
        (1.004, 0.984, 1.018, "+0.4 % [-1.6, +1.8]"),
        (1.0, 0.9, 1.1, "+0 % [-10, +10]"),
        (0.9996, 0.996, 1.003, "+0.0 % [-0.4, +0.3]"),
        (0.99999, 0.998, 1.002, "+0.0 % [-0.2, +0.2]"),
        (1.0005, 1.0004, 1.0006, "+0.05 % [+0.04, +0.06]"),
        (20.0, 19.0, 21.0, "+1,900 % [+1,800, +2,000]"),
    ],
)
def test_what_a_measured_ratio_is_off_one(ratio: float, low: float, high: float, text: str):
    assert formatting.relative_interval(ratio, low, high) == text


def test_a_factor():
    assert [formatting.times(x) for x in (0.61, 1.7, 9.996, 123.4)] == ["0.61 ×", "1.70 ×", "10.0 ×", "123 ×"]


def test_text_of_a_record_is_one_short_line():
    assert formatting.line(" a\n b\x1b[31m\tc ") == "a b�[31m c"
    assert formatting.line("x" * 500, 10) == "xxxxxxxxx…"
