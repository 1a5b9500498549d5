"""Fakes of what torch.profiler tells: a model of one unit whose forward, launches and kernels take what they are told.

The unit holds attention and an FFN. Its forward crosses six boundaries and so has seven intervals:
0 the model, 1 the unit, 2 attention, 3 the unit, 4 the FFN, 5 the unit, 6 the model.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

from bertprof.attribution import Crossing, Region
from bertprof.components import Component
from bertprof.measure.tracing.events import BEGIN, RANGE, Event, Recorded, forwards

REGIONS = {
    "layer": Region(unit=True),
    "layer.attention": Region(Component.SOFTMAX_ATTENTION),
    "layer.ffn": Region(Component.FFN),
}
CROSSINGS = [Crossing(path, entering) for path in REGIONS for entering in (True, False)]
CODES = [0, 2, 3, 4, 5, 1]
MODEL, UNIT, ATTENTION, BETWEEN, FFN, BEHIND, END = range(7)

SEVEN = [10, 20, 300, 40, 5000, 60, 7]
"""Lengths of these intervals, in ns; they end at 10, 30, 330, 370, 5370, 5430 and 5437."""

HOST = (4711, 4712)
"""Process and thread."""

STREAM = (0, 7)
"""Device and stream."""


def ranges(start_ns: int, intervals_ns: Sequence[int], codes: Sequence[int] = CODES) -> list[Event]:
    """Our ranges of one forward."""
    bounds = pairwise(accumulate(intervals_ns, initial=start_ns))
    return [
        Event("cpu_op", f"{RANGE}{code}", begin, end, HOST, external=1000 + i)
        for i, (code, (begin, end)) in enumerate(zip([BEGIN, *codes], bounds, strict=True))
    ]


def operator(start_ns: int, end_ns: int, name: str = "aten::linear", external: int = 0, **other: Any) -> Event:
    """An operator of the forward's thread."""
    return Event("cpu_op", name, start_ns, end_ns, **{"place": HOST, "external": external, **other})


def launch(start_ns: int, correlation: int, name: str = "cudaLaunchKernel", **other: Any) -> Event:
    """A launch on the forward's thread, which takes 5 ns."""
    settings = {"kind": "cuda_runtime", "place": HOST, "end_ns": start_ns + 5, **other}
    return Event(name=name, start_ns=start_ns, correlation=correlation, **settings)


def kernel(start_ns: int, end_ns: int, correlation: int, name: str = "gemm", **other: Any) -> Event:
    """What runs on the device."""
    settings = {"kind": "kernel", "place": STREAM, **other}
    return Event(name=name, start_ns=start_ns, end_ns=end_ns, correlation=correlation, **settings)


def recorded(*parts: Iterable[Event], warm_up: int = 0) -> Recorded:
    """What a session told."""
    events = sorted((e for part in parts for e in part), key=lambda event: (event.start_ns, -event.end_ns))
    kept = forwards(events)[warm_up:]
    return Recorded(events, kept, [forward.owners(CROSSINGS, REGIONS) for forward in kept])


def chrome_json(events: Iterable[Event], base_ns: int = 0) -> bytes:
    """The events as kineto writes them: µs with three decimals, whatever is needed escaped."""

    def text(event: Event) -> str:
        args = {**event.args, "External id": event.external, "correlation": event.correlation}
        head = {"ph": "X", "cat": event.kind, "name": event.name, "pid": event.place[0], "tid": event.place[1]}
        start, lasting = event.start_ns + base_ns, event.end_ns - event.start_ns
        times = f'"ts": {start // 1000}.{start % 1000:03}, "dur": {lasting // 1000}.{lasting % 1000:03}'
        return f"{json.dumps({**head, 'args': args})[:-1]}, {times}}}"

    return f'{{"schemaVersion": 1, "host_name": "secret", "traceEvents": [{", ".join(map(text, events))}]}}'.encode()
