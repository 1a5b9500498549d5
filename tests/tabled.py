"""Tables 2 of the survey for the tests: by hand from small records, and one that means harm."""

from typing import Any

import msgspec

from bertprof import comparison
from bertprof.components import Component
from bertprof.record import Breakdown, Caveat, Cost
from bertprof.survey import systems, table2
from bertprof.survey.systems import System
from bertprof.survey.table2 import Row, Size, Speed, Table2
from handmade import cost, made

ROUNDS = 20
HOSTILE = "<img src=x onerror=alert(1)>|```$x$\n# [a](b) @somebody\x1b[31m</script></details>"


def model(embedding: int, rest: int, time_ms: float | None = 100.0, bits: int = 32, **fields: Any) -> Breakdown:
    """A record of so many parameters of so many bits in the embedding, and in the FFN; what the FFN took in rounds."""
    times = None if time_ms is None else [time_ms] * ROUNDS
    nothing = None if time_ms is None else [0.0] * ROUNDS

    def row(component: Component, number: int, samples: list[float] | None) -> Cost:
        return cost(component, None, samples, parameters=number, parameter_bytes=number * bits // 8)

    costs = [row(Component.EMBEDDING, embedding, nothing), row(Component.FFN, rest, times)]
    return made(*costs, **({"run": "r"} if time_ms is not None else {}), **fields)


BASE = model(200, 800)
"""A BERT-base of 1,000 parameters, 4,000 bytes; 100 ms."""


def speed(after: Breakdown) -> Speed:
    return table2.speed_of(comparison.Comparison(BASE, after).diff(), after)


def by_hand() -> Table2:
    """Of every kind of row one: twice as fast, slower, the same, no kernel, failed with and without a size, not run."""
    found: dict[str, tuple[Size | None, Speed | None, str | None]] = {"BERT-base": (sized(BASE), None, None)}
    quantised = model(200, 800, bits=8, caveats=[Caveat(code="no-kernel", text="nothing here runs 2 bits")])
    large = model(300, 2700, 400.0)
    large.costs[1].nonzero_parameters, large.costs[0].nonzero_parameters = 1099, 300
    found |= {
        "Q8BERT": (sized(model(200, 800, bits=8)), speed(model(200, 800, 50.0, bits=8)), None),
        "Q-BERT": (sized(quantised), speed(quantised), None),
        "RPP 59.3 %": (sized(large, 0.593), speed(large), None),
        "RPP 88.4 %": (sized(large, 0.884), None, "the forward does not fit into memory"),
        "MobileBERT": (None, None, "no such model"),
        "ALBERT": (sized(model(20, 80)), speed(model(20, 80, 100.0)), None),
    }
    rows = [
        table2.row_of(system, systems.SYSTEMS[0].printed, *found.get(system.name, (None, None, None)))
        for system in systems.SYSTEMS
    ]
    return Table2(
        bertprof_version="0.1.0",
        created="2026-11-22T00:00:00+00:00",
        command="bertprof survey table2",
        timed=True,
        margin=0.02,
        workload=BASE.workload,
        host=BASE.host,
        baseline=sized(BASE),
        rows=rows,
        notes=list(systems.NOTES),
    )


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
