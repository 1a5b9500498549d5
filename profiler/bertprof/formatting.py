"""The one place that formats numbers for people."""

from bertprof.sampling import Estimate

_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(value: float) -> str:
    """A count with an SI prefix and four significant digits: 109.5M, 2.718G, 0."""
    return "".join(_scaled(value))


def exact(value: int) -> str:
    """A count with every digit: 109,482,240."""
    return f"{value:,}"


def size(byte_count: float) -> str:
    """Bytes with a decimal prefix: 437.9 MB (MB is 10⁶ bytes)."""
    text, prefix = _scaled(byte_count)
    return f"{text} {prefix}B"


def milliseconds(estimate: Estimate) -> str:
    """A time in ms, to the digit that its interval earns, two significant digits of the half-width at most."""
    return f"{estimate.value:.{_decimals(estimate)}f}"


def plus_minus(estimate: Estimate) -> str:
    """The half-width of the interval, to the same digit as `milliseconds`."""
    return f"{estimate.half_width:.{_decimals(estimate)}f}"


def with_interval(estimate: Estimate) -> str:
    """58.1 ± 1.1; without the second where nothing is known of it."""
    if estimate.half_width == 0:
        return milliseconds(estimate)
    return f"{milliseconds(estimate)} ± {plus_minus(estimate)}"


def interval(estimate: Estimate, unit: str = "ms") -> str:
    """95.8 ms [95.3, 97.2]."""
    digits = _decimals(estimate)
    return f"{estimate.value:.{digits}f} {unit} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def duration(ms: float) -> str:
    """How long something took once, to three significant digits: 123 ms, 1.23 s."""
    if ms < 999.5:
        return f"{_three(ms)} ms"
    return f"{_three(ms / 1000)} s"


def intensity(value: float) -> str:
    """FLOP per byte, to three significant digits: 0.25, 21.3, 1,240."""
    return _three(value)


def percent(share: float | None) -> str:
    """A share in percent: 51.8; tiny but not nothing is 0.0; None is a dash."""
    if share is None:
        return "–"
    return f"{100 * share:.1f}"


def change(ratio: float) -> str:
    """A ratio to 1 in percent, signed: +0.7 %."""
    return f"{100 * (ratio - 1):+.1f} %"


def plain(text: str) -> str:
    """Text from a record without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else "�" for c in text)


def seconds(value: str) -> float:
    """Reads a duration: 2s, 500ms, 1.5, 2m.

    Raises:
        ValueError: it is none.
    """
    text = value.strip().lower()
    for suffix, factor in (("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("", 1.0)):
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    raise ValueError(value)  # not reached: every text ends with ""


def _three(value: float) -> str:
    """Three significant digits, two decimals at most, every digit before the point."""
    return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def _decimals(estimate: Estimate) -> int:
    """Decimals worth printing: an interval of ±0.03 earns two, one of ±4 none; three at most."""
    half = estimate.half_width
    if half >= 10:
        return 0
    if half >= 1:
        return 0 if abs(estimate.value) >= 1000 else 1
    if half >= 0.1:
        return 1
    return 2 if half >= 0.01 else 3


def _scaled(value: float) -> tuple[str, str]:
    """Four significant digits and the SI prefix."""
    for factor, prefix in _SI:
        # What rounds up to the next prefix is written with it.
        if abs(value) >= factor * 0.99995:
            scaled = value / factor
            return f"{scaled:.{max(0, 4 - len(str(int(abs(scaled)))))}f}", prefix
    return f"{value:.0f}", ""
