"""The one place that formats numbers for people."""

import re
from fractions import Fraction

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
        return f"{three(ms)} ms"
    return f"{three(ms / 1000)} s"


def three(value: float) -> str:
    """Three significant digits, two decimals at most, every digit before the point."""
    return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def giga(rate: float) -> str:
    """A rate in billions a second, of FLOPs or bytes, with three digits: 181, 13.1."""
    return three(rate / 1e9)


def intensity(value: float) -> str:
    """FLOP per byte, to three significant digits: 0.25, 21.3, 1,240."""
    return three(value)


def percent(share: float | None) -> str:
    """A share in percent: 51.8; tiny but not nothing is 0.0; None is a dash."""
    if share is None:
        return "–"
    return f"{100 * share:.1f}"


def change(ratio: float) -> str:
    """A ratio to 1 in percent, signed: +0.7 %."""
    return f"{100 * (ratio - 1):+.1f} %"


def signed_count(value: float) -> str:
    """A change of a count: -28.33M, +1,536; below 10,000 with every digit."""
    return f"{value:+,.0f}" if abs(value) < 10_000 else f"{'+' if value > 0 else ''}{count(value)}"


def signed_size(byte_count: float) -> str:
    """A change in bytes with a decimal prefix: -172.5 MB, +312 B."""
    return f"{'+' if byte_count > 0 else ''}{size(byte_count)}"


def measured(value: float) -> str:
    """A time in ms or an energy in mJ of whose interval nothing is said: 0, 0.29, 5.82, 102.7, 1,240."""
    return f"{value:,.{0 if value == 0 or value >= 999.95 else 2 if value < 9.995 else 1}f}"


def signed(value: float) -> str:
    """A change of such a figure: -58.1, +0.32."""
    return f"{'-' if value < 0 else '+'}{measured(abs(value))}"


def relative(ratio: float) -> str:
    """What an exact ratio is off 1, in percent, signed: -50.0 %; little is not written as nothing: -0.006 %."""
    percent = 100 * (ratio - 1)
    decimals = 1 if percent < 999.95 else 0
    # Nor is nearly all written as all.
    while percent not in (0, -100) and round(percent, decimals) in (0, -100) and decimals < 9:
        decimals += 1
    return f"{percent:+,.{decimals}f} %"


def relative_interval(ratio: float, low: float, high: float) -> str:
    """What a measured ratio is off 1, with its interval, to the digit that it earns: -41 % [-43, -40]."""
    value, least, most = (100 * (x - 1) for x in (ratio, low, high))
    half = (most - least) / 2
    decimals = 0 if half >= 5 or (half >= 1 and abs(value) >= 10) else 1 if half >= 0.1 else 2
    # A rounded zero has no sign to lose.
    value, least, most = (round(x, decimals) + 0.0 for x in (value, least, most))
    return f"{value:+,.{decimals}f} % [{least:+,.{decimals}f}, {most:+,.{decimals}f}]"


def times(ratio: float) -> str:
    """A factor, to three significant digits: 1.70 ×, 12.3 ×."""
    return f"{three(ratio)} ×"


def plain(text: str) -> str:
    """Text from a record without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else "�" for c in text)


def line(text: str, most: int = 400) -> str:
    """Text from a record as one line of at most so many characters, none of which a terminal would obey."""
    text = plain(" ".join(text.split()))
    return text if len(text) <= most else f"{text[: most - 1]}…"


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


_BYTES = {"": 1, **{f"{prefix}b": 1000**i for i, prefix in enumerate(("", "k", "m", "g", "t"))}}
_BYTES |= {f"{prefix}ib": 1024**i for i, prefix in enumerate(("k", "m", "g", "t"), start=1)}


def bytes_of(value: str) -> int:
    """Reads a size: 32GB, 16 GiB, 512MB, 1000000; upper or lower case.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*([a-z]*)", value.strip().lower(), re.ASCII)
    if found is None or found[2] not in _BYTES:
        raise ValueError(value)
    return int(Fraction(found[1]) * _BYTES[found[2]])


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
