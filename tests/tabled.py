"""Tables 2 of the survey for the tests: by hand from small records, and one that means harm."""

from typing import Any

import msgspec

from bertprof import comparison
from bertprof.components import Component
from bertprof.record import Breakdown, Caveat, Cost
from bertprof.survey import systems, table2
from bertprof.survey.systems import System
from bertprof.survey.table2 import Row, Run, Size, Speed, Table2
from handmade import cost, made

ROUNDS = 20
HOSTILE = "<img src=x onerror=alert(1)>|```$x$\n# [a](b) @somebody\x1b[31m</script></details>"


def model(
    embedding: int,
    rest: int,
    time_ms: float | None = 100.0,
    bits: int = 32,
    macs: int | None = None,
    segments: tuple[int, ...] | None = None,
    **fields: Any,
) -> Breakdown:
    """A record of so many parameters of so many bits in the embedding, and in the FFN; what the FFN took in rounds.

    It does one multiply-accumulate for each parameter of the FFN, if nothing else is said.
    """
    times = None if time_ms is None else [time_ms] * ROUNDS
    nothing = None if time_ms is None else [0.0] * ROUNDS

    def row(component: Component, number: int, samples: list[float] | None, work: int) -> Cost:
        return cost(component, None, samples, parameters=number, parameter_bytes=number * bits // 8, macs=work)

    costs = [
        row(Component.EMBEDDING, embedding, nothing, 0),
        row(Component.FFN, rest, times, rest if macs is None else macs),
    ]
    workload = {} if segments is None else {"segments": list(segments), "sequence_length": sum(segments)}
    return made(*costs, workload=workload, **({"run": "r"} if time_ms is not None else {}), **fields)


BASE = model(200, 800)
"""A BERT-base of 1,000 parameters, 4,000 bytes; 100 ms."""

LONG = model(200, 800, 300.0, macs=3300, segments=(24, 296))
"""The same on longer sequences."""


def speed(after: Breakdown, before: Breakdown = BASE) -> Speed:
    return table2.speed_of(comparison.Comparison(before, after).diff(), after)


def found_of(after: Breakdown, before: Breakdown = BASE, pruned: float | None = None, timed: bool = True) -> Run:
    """What was found of a model beside BERT-base."""
    return Run(
        model="m",
        size=sized(after, pruned),
        macs=table2.macs_of(after, before),
        speed=speed(after, before) if timed else None,
    )


def by_hand(timed: bool = True) -> Table2:
    """Of every kind of row one: twice as fast, slower, the same, no kernel, failed with and without a size, not run.

    DeFormer is three times as fast with a cache and as fast as BERT-base without.
    """
    quantised = model(200, 800, bits=8, caveats=[Caveat(code="no-kernel", text="nothing here runs 2 bits")])
    large = model(300, 2700, 400.0)
    large.costs[1].nonzero_parameters, large.costs[0].nonzero_parameters = 1099, 300
    found = {
        "BERT-base": found_of(BASE, timed=False),
        "Q8BERT": found_of(model(200, 800, 50.0, bits=8)),
        "Q-BERT": found_of(quantised),
        "RPP 59.3 %": found_of(large, pruned=0.593),
        "RPP 88.4 %": found_of(large, pruned=0.884, timed=False),
        "MobileBERT": Run(model="m"),
        "DeFormer": found_of(model(200, 800, 100.0, macs=1000, segments=(24, 296)), LONG),
        "ALBERT": found_of(model(20, 80, 100.0)),
    }
    found["RPP 88.4 %"].failed = "the forward does not fit into memory"
    found["MobileBERT"].failed = "no such model"
    uncached = {"DeFormer": found_of(model(200, 800, 300.0, macs=3267, segments=(24, 296)), LONG)}
    rows = []
    for each in systems.SYSTEMS:
        own, bare = found.get(each.name), uncached.get(each.name)
        if bare is not None:
            bare.model = each.uncached or ""
        rows.append(table2.row_of(each, systems.SYSTEMS[0].printed, own, bare))
    table = Table2(
        bertprof_version="0.1.0",
        created="2026-11-22T00:00:00+00:00",
        command="bertprof survey table2",
        timed=timed,
        margin=0.02,
        workload=BASE.workload,
        host=BASE.host,
        baseline=sized(BASE),
        rows=rows,
        notes=list(systems.NOTES),
    )
    if not timed:
        for run in (run for row in table.rows for run in (row, row.uncached) if run is not None):
            run.speed = None
    return table


def sized(after: Breakdown, pruned: float | None = None) -> Size:
    return table2.size_of(after, BASE, pruned)


def row(table: Table2, name: str) -> Row:
    return next(row for row in table.rows if row.system == name)


def system(name: str) -> System:
    return next(system for system in systems.SYSTEMS if system.name == name)


def hostile() -> Table2:
    """Every text of it means harm."""

    def harmed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: harmed(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [harmed(each) for each in value]
        return HOSTILE if isinstance(value, str) and key not in _WORDS else value

    return msgspec.convert(harmed(msgspec.to_builtins(by_hand())), Table2)


_WORDS = ("schema", "schema_version", "sure", "verdict", "clock", "marks", "weights", "mask")
"""Fields that hold one of a few words, which reading checks."""
