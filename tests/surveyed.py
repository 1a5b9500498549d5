"""The survey's methods for the tests: by hand from small records, and some that mean harm."""

from typing import Any

import msgspec

from bertprof import comparison
from bertprof.components import Component
from bertprof.record import Breakdown, Caveat, Cost
from bertprof.survey import approaches, methods
from bertprof.survey.methods import Measured, Methods, Row, View
from handmade import cost, made
from tabled import HOSTILE

ROUNDS = 20

EMBEDDING, HEAD = Component.EMBEDDING, Component.HEAD
IN, SOFTMAX, OUT, FFN = (
    Component.ATTENTION_LINEAR_IN,
    Component.SOFTMAX_ATTENTION,
    Component.ATTENTION_LINEAR_OUT,
    Component.FFN,
)
LINEARS = (IN, OUT, FFN)

_UNIT = {IN: (60, 600, 10.0), SOFTMAX: (0, 50, 5.0), OUT: (20, 200, 5.0), FFN: (200, 2000, 28.0)}
_OUTSIDE = {EMBEDDING: (200, 0, 2.0), HEAD: (40, 10, 2.0)}
"""Parameters, MACs and ms of a component, in a unit and outside of all."""

Change = dict[Component, dict[str, float]]


def model(
    change: Change | None = None,
    units: int = 2,
    added: dict[Component, tuple[int, int, float]] | None = None,
    time: bool = True,
    **fields: Any,
) -> Breakdown:
    """A record: of BERT-base, 800 parameters, 3,200 bytes, 5,710 MACs and 100 ms, or of a method.

    Args:
        change: factors on `parameters`, `bytes`, `macs` and `time` of components; `kept`: on those that are not zero.
        units: how many there are.
        added: components outside of the units.
        time: with times.
        fields: of the record.
    """
    shapes = [(None, c, figures) for c, figures in {**_OUTSIDE, **(added or {})}.items()]
    shapes += [(unit, c, figures) for unit in range(units) for c, figures in _UNIT.items()]
    costs = [_cost(unit, c, figures, (change or {}).get(c, {}), time) for unit, c, figures in shapes]
    return made(*costs, **({"run": "r"} if time else {}), **fields)


def _cost(
    unit: int | None, component: Component, figures: tuple[int, int, float], change: dict[str, float], time: bool
) -> Cost:
    parameters, macs, ms = figures
    number = round(parameters * change.get("parameters", 1))
    return cost(
        component,
        unit,
        [ms * change.get("time", 1)] * ROUNDS if time else None,
        parameters=number,
        nonzero_parameters=round(number * change["kept"]) if "kept" in change else None,
        parameter_bytes=round(4 * number * change.get("bytes", 1)),
        macs=round(macs * change.get("macs", 1)),
    )


BASE = model()

PAIR: dict[str, Any] = {"segments": [24, 296], "sequence_length": 320}
"""The work of DeFormer, and of BERT-base beside it."""


def _all(*components: Component, **factors: float) -> Change:
    return dict.fromkeys(components, factors)


EVERYWHERE = (EMBEDDING, *LINEARS, HEAD)

MODELS: dict[str, Breakdown] = {
    "Q8BERT": model({**_all(*LINEARS, bytes=0.25, time=0.5), EMBEDDING: {"bytes": 0.25}}),
    "Q-BERT": model(_all(*EVERYWHERE, bytes=0.125), caveats=[Caveat(code="no-kernel", text="nothing runs 2 bits")]),
    "Gordon": model(_all(*EVERYWHERE, kept=0.6, bytes=0.65)),
    "RPP": model(_all(*LINEARS, HEAD, kept=0.5, bytes=0.55)),
    "Michel": model(_all(IN, SOFTMAX, OUT, parameters=0.5, macs=0.5, time=0.5)),
    "LayerDrop": model(units=1),
    "MobileBERT": model({EMBEDDING: {"parameters": 0.5, "macs": 1, "time": 3}, FFN: {"parameters": 0.5}}, units=4),
    "Tang b": model(units=0, added={Component.RECURRENT: (80, 400, 20.0)}),
    "AdaBERT": model(units=0, added={Component.CONVOLUTION: (40, 100, 1.0)}),
    "ALBERT": model({**_all(*LINEARS, parameters=0.5), EMBEDDING: {"parameters": 0.25}}),
    "ALBERT's sharing": model(_all(*LINEARS, parameters=0.5)),
    "Zhao's vocabulary": model({EMBEDDING: {"parameters": 0.25}}),
    "DeFormer": model(_all(SOFTMAX, macs=0.5, time=0.8), workload=PAIR),
}
FAILED = {"Chia": "no such model", "Turc": "the forward does not fit into memory"}


def measured(after: Breakdown, before: Breakdown | None = None) -> Measured:
    """A record beside BERT-base, on the same work."""
    base = BASE if after.workload.segments is None else model(workload=PAIR)
    return methods.measured_of(comparison.Comparison(before or base, after).diff())


def by_hand(view: View = "methods", time: bool = True) -> Methods:
    """Some methods of every kind, some that failed, with and without figures; the others were left out.

    Args:
        view: what it is made for.
        time: with times.
    """
    base, long = (each if time else _untimed(each) for each in (BASE, model(workload=PAIR)))
    found = {
        name: measured(each if time else _untimed(each), base if each.workload.segments is None else long)
        for name, each in {**MODELS, "Turc": model(units=1, time=False)}.items()
    }
    rows = [
        methods.row_of(each, found.get("Tang b" if each.name == "Tang a" else each.name), FAILED.get(each.name))
        for each in approaches.APPROACHES
    ]
    return Methods(
        bertprof_version="0.1.0",
        created="2026-11-22T00:00:00+00:00",
        command="bertprof survey methods",
        view=view,
        timed=time,
        margin=0.02,
        workload=base.workload,
        host=base.host,
        base=methods.row_of(approaches.BASE, measured(base, base)),
        rows=rows,
        notes=list(approaches.NOTES),
    )


def _untimed(record: Breakdown) -> Breakdown:
    costs = [msgspec.structs.replace(each, time_ms=None) for each in record.costs]
    return made(*costs, caveats=record.caveats, workload=None if record.workload.segments is None else PAIR)


def row(document: Methods, name: str) -> Row:
    return next(row for row in document.rows if row.name == name)


def hostile(view: View = "methods") -> Methods:
    """Every text of it means harm."""

    def harmed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: harmed(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [harmed(each, key) for each in value]
        return HOSTILE if isinstance(value, str) and key not in _WORDS else value

    return msgspec.convert(harmed(msgspec.to_builtins(by_hand(view))), Methods)


_WORDS = ("schema", "schema_version", "view", "sure", "verdict", "component", "clock", "marks", "weights", "mask")
"""Fields that hold one of a few words, which reading checks."""
