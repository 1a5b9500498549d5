"""The grammar of gates: what a change may cost, or has to gain, as text.

A gate is written `[SCOPE.]METRIC:LIMIT`. SCOPE is `total` (left out, that), a component, a group, `unit[3]`,
`unit[3].ffn`, `outside` of all units or `outside.head`; `*` stands for each component, `unit[*]` for each unit. METRIC
is one of `bertprof.comparison.METRICS`. LIMIT is a ceiling on the side after, by the kind of gate:

- fail-on and warn-on: `+5%` on top of before, or `+1000`, `+10MB`, `+5ms`, `+2` (percentage points of a share);
- require: `-30%` at least, `1.5x` (before / after), or `-10MB`;
- budget: `100MB`, `50ms`, `109.5M`, whatever it was before.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Literal, NamedTuple, get_args

from bertprof.comparison import COUNTS, MEMORY, METRICS, SHARE
from bertprof.components import GROUPS, Component
from bertprof.errors import UsageError

COMMAND_LINE = "command line"
PYTHON = "Python"

Kind = Literal["fail-on", "warn-on", "require", "budget"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_COUNT_UNITS = {"": Fraction(1), **{prefix: Fraction(1000**i) for i, prefix in enumerate("kMGT", start=1)}}
_BYTE_UNITS = {
    "B": Fraction(1),
    **{f"{prefix}B": Fraction(1000**i) for i, prefix in enumerate("kMGT", start=1)},
    **{f"{prefix}iB": Fraction(1024**i) for i, prefix in enumerate("KMGT", start=1)},
}
_TIME_UNITS = {"ms": Fraction(1), "s": Fraction(1000), "us": Fraction(1, 1000), "µs": Fraction(1, 1000)}
UNITS: Mapping[str, Mapping[str, Fraction]] = {
    **dict.fromkeys(COUNTS, _COUNT_UNITS),
    **dict.fromkeys(("bytes", "bytes_moved", "activation_bytes", MEMORY), _BYTE_UNITS),
    **dict.fromkeys(("time", "device_time"), _TIME_UNITS),
    "energy": {"mJ": Fraction(1), "J": Fraction(1000)},
    SHARE: {"points": Fraction(1, 100), "pp": Fraction(1, 100)},
}
"""Metric → its units; the first is that of a bare number."""

COMPONENT = "|".join(Component)
_SCOPES = ("total", "*", *Component, *(group for group in GROUPS if group not in list(Component)))
_SCOPE = re.compile(
    rf"total|\*|{COMPONENT}|{'|'.join(GROUPS)}|(unit\[(\*|0|[1-9][0-9]{{0,5}})\]|outside)(\.(\*|{COMPONENT}))?"
)
_LIMIT = re.compile(r"([+-]?)([0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*(\S*)")


class Limit(NamedTuple):
    """A ceiling on the side after: `factor` × before + `offset`, exactly.

    The offset is a count, bytes, ms, mJ or a share of 1. `text` is how to print the limit.
    """

    factor: Fraction
    offset: Fraction
    text: str


class Spec(NamedTuple):
    """One gate as it was asked for. `text` is as written; `origin` is COMMAND_LINE, PYTHON or the project's file."""

    kind: Kind
    text: str
    origin: str
    scope: str
    metric: str
    limit: Limit

    @property
    def where(self) -> str:
        """Where it stands, for an error."""
        return _where(self.kind, self.text, self.origin)

    @property
    def of_project(self) -> bool:
        """Whether it stands in a file, and was not given for this once."""
        return self.origin not in (COMMAND_LINE, PYTHON)


def parse(kind: Kind, text: str, origin: str = COMMAND_LINE) -> Spec:
    """Reads a gate.

    Args:
        kind: what it does.
        text: the gate, `[SCOPE.]METRIC:LIMIT`.
        origin: COMMAND_LINE, PYTHON, or the file in which it stands.

    Raises:
        UsageError: it is none; the text says what is wrong, where it stands and what to write.
    """
    where = _where(kind, text, origin)
    head, colon, wanted = (piece.strip() for piece in text.rpartition(":"))
    if not colon:
        raise UsageError(f"{where} has no limit; write [SCOPE.]METRIC:LIMIT, as ffn.time:{_example(kind, 'time')}")
    scope, dot, metric = head.rpartition(".")
    if not dot:
        scope = "total"
    if metric not in METRICS:
        if _SCOPE.fullmatch(head):
            raise UsageError(f"{where} names no metric; write {head}.METRIC, METRIC one of {', '.join(METRICS)}")
        meant = _meant(metric, METRICS)
        raise UsageError(f"{where}: there is no metric {_short(metric)}{meant}; there is {', '.join(METRICS)}")
    if not _SCOPE.fullmatch(scope):
        raise UsageError(
            f"{where}: there is no scope {_short(scope)}{_meant(scope, _SCOPES)}; there is {', '.join(_SCOPES)}, and "
            "of single units unit[3], unit[3].ffn, unit[*].ffn, of the rest outside, outside.head"
        )
    if metric == MEMORY and scope != "total":
        raise UsageError(f"{where}: memory is that of the whole run, since peaks do not add up; write total.memory")
    if metric == SHARE and scope == "total":
        raise UsageError(f"{where}: the total has all of the time; write a component's, as ffn.{SHARE}")
    return Spec(kind, text, origin, scope, metric, _limit(kind, metric, wanted, where))


def parse_all(gates: Mapping[Kind, str | Iterable[str] | None], origin: str = COMMAND_LINE) -> list[Spec]:
    """Reads the gates of each kind: several, one, or none.

    Raises:
        UsageError: as `parse`.
    """
    return [
        parse(kind, text, origin)
        for kind, texts in gates.items()
        for text in ([texts] if isinstance(texts, str) else texts or ())
    ]


def _limit(kind: Kind, metric: str, wanted: str, where: str) -> Limit:
    """Reads a limit of a kind of gate."""
    found = _LIMIT.fullmatch(wanted)
    if found is None:
        raise UsageError(f"{where}: {_short(wanted)} is no limit; write {_example(kind, metric)}")
    sign, number, unit = found.groups()
    value = Fraction(f"{sign}{number}")
    if kind == "require" and unit == "x" and not sign:
        if value < 1:
            raise UsageError(f"{where}: {number}x is no gain; write 1x or more, or let growth through by fail-on")
        return Limit(1 / value, Fraction(0), f"{number}x")
    if sign != _SIGNS[kind]:
        raise UsageError(f"{where}: {_WHY_SIGN[kind]}; write {_example(kind, metric)}")
    if unit == "%" and kind != "budget":
        if value < -100:
            raise UsageError(f"{where}: nothing can shrink by more than 100%; write {_example(kind, metric)}")
        return Limit(1 + value / 100, Fraction(0), f"{sign}{number} %")
    units = UNITS[metric]
    if unit == "%" and metric == SHARE:
        unit = "points"
    if unit and unit not in units:
        known = ", ".join(name for name in units if name)
        raise UsageError(f"{where}: {metric} has no unit {_short(unit)}; use one of {known}")
    unit = unit or next(iter(units))
    factor = Fraction(0 if kind == "budget" else 1)
    return Limit(factor, value * units[unit], f"{sign}{number} {unit}".rstrip())


_SIGNS: Mapping[Kind, str] = {"fail-on": "+", "warn-on": "+", "require": "-", "budget": ""}
_GROWTH_SIGN = "growth that is let through starts with + (a gain is asked for by require)"
_WHY_SIGN: Mapping[Kind, str] = {
    "fail-on": _GROWTH_SIGN,
    "warn-on": _GROWTH_SIGN,
    "require": "a gain starts with - or ends in x (growth is let through by fail-on)",
    "budget": "a budget has no sign",
}
_EXAMPLES = {"": "1000", "B": "10MB", "ms": "5ms", "mJ": "5mJ", "points": "2"}


def _example(kind: Kind, metric: str) -> str:
    """Limits as one might write them."""
    absolute = _EXAMPLES[next(iter(UNITS[metric]))]
    if kind == "budget":
        return absolute
    return f"-30%, 1.5x or -{absolute}" if kind == "require" else f"+5% or +{absolute}"


def _where(kind: str, text: str, origin: str) -> str:
    if origin == PYTHON:
        return f"{kind.replace('-', '_')} {_short(text)}"
    return f"--{kind} {_short(text)}" if origin == COMMAND_LINE else f"{origin}: {kind} {_short(text)}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word.lower()[:80], list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""
