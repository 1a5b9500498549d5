"""The Chrome trace of one forward, with the components as tracks; Perfetto and chrome://tracing open it.

Torch's own events stand in it as they are, under names and numbers of our own: process and thread numbers, times of
day, the machine's name and the paths that torch writes are left out. Times are in µs since the forward began.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import bertprof
from bertprof.attribution import Owner
from bertprof.components import COMPONENT_ORDER, Component
from bertprof.measure.tracing.events import DEVICE, OPERATOR, Event, Forward, Recorded
from bertprof.measure.tracing.times import Kernel, kernels

_COMPONENTS, _KERNELS, _THREADS, _DEVICES = 1, 2, 3, 4
"""The numbers of the trace's processes, in the order in which they are shown; devices are numbered on from the last."""

_ARGS = (
    *("External id", "correlation", "stream", "device", "grid", "block", "registers per thread", "shared memory"),
    *("est. achieved occupancy %", "bytes", "memory bandwidth (GB/s)"),
)
"""What is kept of what torch tells of an event."""

_UNATTRIBUTED = "unattributed"


class _Track(NamedTuple):
    """A line of the trace: its process, and its number there."""

    process: int
    number: int


def chrome(recorded: Recorded, *, on_gpu: bool) -> bytes:
    """The trace of the last forward.

    Args:
        recorded: the session.
        on_gpu: the forward ran on a CUDA device: its kernels have tracks by component as well.

    Raises:
        DeviceError: its kernels were not recorded, or wrongly.
    """
    forward, owners = recorded.forwards[-1], recorded.owners[-1]
    launched = kernels(recorded)[-1] if on_gpu else []
    lines = [
        *_components(recorded, forward, owners),
        *_kernels(recorded, forward, owners, launched),
        *_torch(recorded, forward, launched),
    ]
    head = {"displayTimeUnit": "ms", "otherData": {"tool": f"bertprof {bertprof.__version__}"}}
    body = ",\n".join(json.dumps(_clean(line), allow_nan=False) for line in lines)
    return f'{json.dumps(head)[:-1]}, "traceEvents": [\n{body}\n]}}\n'.encode()


def _components(recorded: Recorded, forward: Forward, owners: Sequence[Owner]) -> Iterable[dict[str, Any]]:
    """A track for each component present, a slice for each of its ranges that took any time."""
    order = sorted({owner.component for owner in owners}, key=COMPONENT_ORDER.__getitem__)
    tracks = {component: _Track(_COMPONENTS, number) for number, component in enumerate(order, start=1)}
    yield from _named_process(_COMPONENTS, "bertprof components")
    for component, track in tracks.items():
        yield from _named_track(track, component)
    operators = [Counter[str]() for _ in owners]
    for operator in recorded.operators(forward):
        operators[forward.interval_at(operator.start_ns)][operator.name] += 1
    for i, owner in enumerate(owners):
        begin_ns, end_ns = forward.bounds_ns[i], forward.bounds_ns[i + 1]
        if end_ns > begin_ns:
            args = {**_of(owner), "operators": dict(operators[i])}
            yield _slice(tracks[owner.component], "component", _scope(owner), begin_ns, end_ns, forward, args)


def _kernels(
    recorded: Recorded, forward: Forward, owners: Sequence[Owner], launched: Sequence[Kernel]
) -> Iterable[dict[str, Any]]:
    """A track for each component and stream on which it ran, a slice for each kernel."""
    if not launched:
        return
    names = {e.external: e.name for e in recorded.within(forward) if e.kind == OPERATOR and not e.is_range}
    component_of = [None if kernel.interval is None else owners[kernel.interval].component for kernel in launched]
    keys = {(component, kernel.event.place) for component, kernel in zip(component_of, launched, strict=True)}
    order = sorted(keys, key=lambda key: (len(Component) if key[0] is None else COMPONENT_ORDER[key[0]], key[1]))
    tracks = {key: _Track(_KERNELS, number) for number, key in enumerate(order, start=1)}
    streams = {place for _, place in keys}
    yield from _named_process(_KERNELS, "bertprof kernels by component")
    for (component, (device, stream)), track in tracks.items():
        name = component or _UNATTRIBUTED
        yield from _named_track(track, name if len(streams) == 1 else f"{name}, GPU {device} stream {stream}")
    for component, kernel in zip(component_of, launched, strict=True):
        event = kernel.event
        args = {} if kernel.interval is None else _of(owners[kernel.interval])
        if event.external in names:
            args["operator"] = names[event.external]
        track = tracks[component, event.place]
        yield _slice(track, event.kind, event.name, event.start_ns, event.end_ns, forward, args)


def _torch(recorded: Recorded, forward: Forward, launched: Sequence[Kernel]) -> Iterable[dict[str, Any]]:
    """Torch's own events: those of the CPU by thread, those of the device by stream, arrows from launch to kernel."""
    events = [e for e in recorded.within(forward) if e.kind not in DEVICE and not e.is_range]
    places = dict.fromkeys([forward.place, *(event.place for event in events)])
    threads = {place: _Track(_THREADS, number) for number, place in enumerate(places, start=1)}
    yield from _named_process(_THREADS, "torch")
    for number, track in enumerate(threads.values(), start=1):
        yield from _named_track(track, "forward" if number == 1 else f"thread {number}")
    for event in events:
        yield _slice(threads[event.place], event.kind, event.name, event.start_ns, event.end_ns, forward, _kept(event))

    streams = {place: _Track(_DEVICES + place[0], place[1]) for place in sorted({k.event.place for k in launched})}
    for device in sorted({device for device, _ in streams}):
        yield from _named_process(_DEVICES + device, f"GPU {device}")
    for (_, stream), track in streams.items():
        yield from _named_track(track, f"stream {stream}")
    for event, launch, _ in launched:
        track = streams[event.place]
        yield _slice(track, event.kind, event.name, event.start_ns, event.end_ns, forward, _kept(event))
        if launch is not None and launch.place in threads:
            arrow = {"name": "launch", "cat": "launch", "id": event.correlation}
            yield {**arrow, "ph": "s", **_at(threads[launch.place], launch.start_ns, forward)}
            yield {**arrow, "ph": "f", "bp": "e", **_at(track, event.start_ns, forward)}


# Lines of the trace ---------------------------------------------------------------------------------------------------


def _named_process(process: int, name: str) -> Iterable[dict[str, Any]]:
    yield {"ph": "M", "name": "process_name", "pid": process, "tid": 0, "args": {"name": name}}
    yield {"ph": "M", "name": "process_sort_index", "pid": process, "tid": 0, "args": {"sort_index": process}}


def _named_track(track: _Track, name: str) -> Iterable[dict[str, Any]]:
    process, number = track
    yield {"ph": "M", "name": "thread_name", "pid": process, "tid": number, "args": {"name": name}}
    yield {"ph": "M", "name": "thread_sort_index", "pid": process, "tid": number, "args": {"sort_index": number}}


def _slice(
    track: _Track, kind: str, name: str, start_ns: int, end_ns: int, forward: Forward, args: Mapping[str, Any]
) -> dict[str, Any]:
    where = _at(track, start_ns, forward)
    return {"ph": "X", "cat": kind, "name": name, **where, "dur": (end_ns - start_ns) / 1000, "args": args}


def _at(track: _Track, moment_ns: int, forward: Forward) -> dict[str, Any]:
    return {"pid": track.process, "tid": track.number, "ts": (moment_ns - forward.start_ns) / 1000}


def _scope(owner: Owner) -> str:
    """As gates name it."""
    return owner.component if owner.unit is None else f"unit[{owner.unit}].{owner.component}"


def _of(owner: Owner) -> dict[str, Any]:
    unit = {} if owner.unit is None else {"unit": owner.unit}
    return {**unit, "component": owner.component, "module": owner.path or "(model)"}


def _kept(event: Event) -> dict[str, Any]:
    return {key: event.args[key] for key in _ARGS if key in event.args}


def _clean(value: Any) -> Any:
    """A value as JSON holds it: numbers of torch's trace as floats, no halves of characters in text."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value if isinstance(value, int) else float(value)
