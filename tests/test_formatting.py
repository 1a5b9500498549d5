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
