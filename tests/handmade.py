"""Small records by hand, and strategies for any valid record and any two of them."""

from typing import Any

from hypothesis import strategies as st

from bertprof.components import Component
from bertprof.observations import Bandwidth, ClockPart, Energy, Fit, OtherClock, Peaks
from bertprof.record import Breakdown, Caveat, Checkpoint, Cost, Host, Module, Operator, Workload


def cost(
    component: Component = Component.FFN, unit: int | None = None, time_ms: list[float] | None = None, **fields: Any
) -> Cost:
    counts = {"parameters": 0, "parameter_bytes": 0, "macs": 0, "flops": 0, **fields}
    return Cost(unit=unit, component=component, time_ms=time_ms, **counts)


def made(
    *costs: Cost, workload: dict[str, Any] | None = None, host: dict[str, Any] | None = None, **fields: Any
) -> Breakdown:
    """A record of these rows; the forward, also the bare one, takes what they take together."""
    timed = [c.time_ms for c in costs if c.time_ms is not None]
    whole = [sum(repeat) for repeat in zip(*timed, strict=True)] if timed else None
    how: dict[str, Any] = {"clock": "host", "marks": "hooks", "threads": 1, "weights": "random"} if timed else {}
    asked: dict[str, Any] = {"batch_size": 1, "sequence_length": 8, "device": "cpu", **how, **(workload or {})}
    seen: dict[str, Any] = {"cpu": "c", "torch": "2", **(host or {})}
    return Breakdown(
        bertprof_version="0.1.0",
        created="2026-11-22T00:00:00+00:00",
        workload=Workload(model="m", config_sha256="0", dtype="float32", attention="sdpa", **asked),
        host=Host(cores=1, os="o", python="3", transformers="5", fvcore="0", **seen),
        costs=list(costs),
        **{"instrumented_ms": whole, "end_to_end_ms": whole, **fields},
    )


COUNTS = st.integers(0, 10**15)
TEXT = st.text(max_size=20)
YARDSTICK = (Component.SOFTMAX_ATTENTION, Component.FFN)


@st.composite
def breakdowns(
    draw: st.DrawFn, repeats: int | None = -1, processes: int = 1, run: str | None = None, like: Breakdown | None = None
) -> Breakdown:
    """Any valid record.

    Args:
        draw: hypothesis's.
        repeats: of each process; None: no times, −1: any number or none.
        processes: how many.
        run: its name.
        like: a record whose workload and machine it has, and some of whose rows.
    """
    if repeats == -1:
        repeats = draw(st.none() | st.integers(1, 5))
    number = (repeats or 0) * processes

    def samples(least: float) -> st.SearchStrategy[list[float]]:
        return st.lists(st.floats(least, 1e6), min_size=number, max_size=number)

    keys = st.tuples(st.none() | st.integers(0, 3) | st.integers(0, 9999), st.sampled_from(Component))
    if like is not None:
        keys = st.sampled_from([(c.unit, c.component) for c in like.costs]) | keys
    device = draw(st.sampled_from(["cpu", "cuda:0"])) if like is None else like.workload.device
    on_a_gpu = repeats is not None and device != "cpu" and draw(st.booleans())
    with_energy = on_a_gpu and draw(st.booleans())
    trials_mj = samples(0) if with_energy else None
    costs = [
        Cost(
            unit=unit,
            component=component,
            parameters=(parameters := draw(COUNTS)),
            nonzero_parameters=draw(st.none() | st.integers(0, parameters)),
            parameter_bytes=draw(COUNTS),
            macs=(macs := draw(COUNTS)),
            useful_macs=draw(st.none() | st.integers(0, macs)),
            bytes_moved=draw(st.none() | COUNTS),
            activation_bytes=draw(st.none() | COUNTS),
            activation_peak_bytes=draw(st.none() | COUNTS),
            allocated_peak_bytes=draw(st.none() | COUNTS),
            flops=draw(COUNTS),
            operators=draw(
                st.dictionaries(TEXT, st.builds(Operator, calls=COUNTS, macs=COUNTS, flops=COUNTS), max_size=2)
            ),
            time_ms=None if repeats is None else draw(samples(1e-3)),
            device_time_ms=draw(samples(0)) if on_a_gpu else None,
            energy_mj=draw(samples(0)) if with_energy else None,
        )
        for unit, component in draw(st.lists(keys, unique=True, min_size=1, max_size=4))
    ]
    timed = repeats is not None
    units = 1 + max((c.unit for c in costs if c.unit is not None), default=-1)
    kept = st.lists(st.integers(0, 9), min_size=units, max_size=units, unique=True).map(sorted)
    return made(
        *costs,
        workload={
            "sequence_length": draw(st.none() | st.integers(1, 512)),
            "mask": draw(st.sampled_from(["none", "2d", "4d"])),
            "marks": draw(st.sampled_from(["hooks", "wrappers"])) if timed else None,
            "device": device,
        }
        if like is None
        else {"sequence_length": like.workload.sequence_length, "device": device},
        **({"end_to_end_ms": draw(samples(1e-3))} if timed else {}),
        label=draw(st.none() | TEXT),
        yardstick_ms=draw(st.none() | st.fixed_dictionaries({c: samples(0) for c in YARDSTICK})) if timed else None,
        modules=draw(st.none() | st.just([module_of(c) for c in costs])),
        processes=processes,
        run=run,
        peak_memory_bytes=draw(st.none() | COUNTS) if timed else None,
        **(draw(observed(device, trials_mj)) if timed and like is None else {}),
        **({} if like is None or trials_mj is None else {"energy": Energy(method="replay", total_mj=draw(trials_mj))}),
        kept_units=draw(st.none() | kept) if 0 < units <= 10 else None,
        checkpoint=draw(
            st.none()
            | st.builds(
                Checkpoint,
                format=TEXT,
                files=st.integers(1, 99),
                file_bytes=COUNTS,
                load_time_ms=st.none() | st.floats(0, 1e9),
            )
        ),
        caveats=draw(
            st.lists(
                st.builds(
                    Caveat,
                    code=st.just("time-not-split") | TEXT,
                    text=TEXT,
                    component=st.none() | st.sampled_from(Component),
                ),
                max_size=2,
            )
        ),
    )


POSITIVE = st.floats(1e-3, 1e15)


@st.composite
def observed(draw: st.DrawFn, device: str, trials_mj: st.SearchStrategy[list[float]] | None) -> dict[str, Any]:
    """What a record may hold beside counts and times; the whole's energy, where rows have some."""
    limit = draw(st.none() | COUNTS)
    sizes = sorted(draw(st.sets(st.integers(1, 10**9), min_size=1, max_size=5)))
    peaks = st.builds(
        Peaks,
        dtype=st.sampled_from(["float32", "bfloat16"]),
        threads=st.none() | st.integers(1, 99),
        flops_per_s=POSITIVE,
        bandwidths=st.tuples(
            *(st.builds(Bandwidth, working_set_bytes=st.just(n), bytes_per_s=POSITIVE) for n in sizes)
        ).map(list),
        launch_ns=POSITIVE,
        measured=TEXT,
    )
    clocks = ["profiler"] if device == "cpu" else ["graph", "kernels"]
    told = st.builds(clock_of, st.sampled_from(clocks), st.lists(st.floats(0, 1e3), min_size=1))
    unavailable = st.builds(OtherClock, clock=st.sampled_from(["graph", "kernels", "profiler"]), unavailable=TEXT)
    fits = []
    for needed in draw(st.lists(st.integers(0, 10**6), max_size=3)) if limit is not None else ():
        own = {"batch_size": 1, "parameter_bytes": needed, "activation_bytes": 1}
        more = draw(st.none() | st.integers(0, 10**6))
        if more is None:
            fits.append(Fit(mode="inference", **own, fits=needed + 1 <= limit))
        else:
            total = needed + more + 1
            fits.append(Fit(mode="training", **own, gradient_bytes=more, optimizer_bytes=0, fits=total <= limit))
    unmeasured = st.builds(Energy, unavailable=TEXT)
    energies = (
        unmeasured
        if trials_mj is None
        else st.builds(
            Energy,
            method=st.sampled_from(["replay", "busy-share"]),
            reason=st.none() | TEXT,
            eager_mj=st.none() | trials_mj,
            total_mj=trials_mj,
            power_mw=st.none() | st.dictionaries(st.sampled_from(Component), COUNTS),
            total_power_mw=st.none() | COUNTS,
            eager_power_mw=st.none() | COUNTS,
        )
    )
    return {
        "peaks": draw(st.none() | peaks),
        "clocks": draw(st.none() | st.lists(told | unavailable, max_size=2, unique_by=lambda clock: clock.clock)),
        "memory_limit_bytes": limit,
        "fits": None if limit is None else fits,
        "energy": draw(st.none() | energies if trials_mj is None else energies),
        "resident_peak_bytes": draw(st.none() | COUNTS),
    }


def clock_of(clock: Any, times_ms: list[float]) -> OtherClock:
    """A clock that tells these times of the first components, and nothing else."""
    parts = [ClockPart(component=c, time_ms=ms) for c, ms in zip(Component, times_ms, strict=False)]
    return OtherClock(clock=clock, forwards=1, total_ms=sum(part.time_ms for part in parts), parts=parts)


def module_of(own: Cost, time_ms: float | None = None) -> Module:
    """One module that costs what a row costs."""
    return Module(
        path=f"{own.unit}.{own.component}",
        type="Linear",
        unit=own.unit,
        component=own.component,
        calls=1,
        parameters=own.parameters,
        macs=own.macs,
        flops=own.flops,
        time_ms=time_ms,
    )


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Breakdown, Breakdown]:
    """Any two valid records: of other work or the same, timed or not, apart or together, of one process or several."""
    repeats = draw(st.sampled_from([None, 1, 2, 6, 7, 8]))
    processes = draw(st.sampled_from([1, 3, 4]))
    run = draw(st.none() | st.just("r"))
    first = draw(breakdowns(repeats=repeats, processes=processes, run=run))
    if draw(st.booleans()):
        return first, draw(breakdowns(repeats=repeats, processes=processes, run=run, like=first))
    other = breakdowns(
        repeats=draw(st.sampled_from([None, 1, 2, 6, 7, 8])),
        processes=draw(st.sampled_from([1, 3, 4])),
        run=draw(st.none() | st.sampled_from(["r", "s"])),
        like=draw(st.none() | st.just(first)),
    )
    return first, draw(other)
