"""What the device can do at most: the roofs of a roofline, measured on it, and kept for the next time.

Three figures. *FLOP/s* of the fastest of several matrix products, squares and those of BERT's linears. *Bytes/s* of the
faster of a copy and of a sum at five working sets, from what fits into a first cache to what fits into none: a copy
alone would be no roof, since a write to memory first reads what it writes over, so that what only reads moves up to
half as many bytes again a second (McCalpin's STREAM counts as we do, without that). What writes in place where it reads
was seen at twice a copy's rate, and is no roof of a model. *Launch*: one addition of two numbers.

Each is the best of many short blocks. Whatever else a machine does makes an operation slower and nothing makes it
faster, so that the best is both the roof and what two runs agree on.
"""

import contextlib
import itertools
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

from bertprof.errors import OutputError
from bertprof.files import write_whole
from bertprof.measure import host
from bertprof.observations import Bandwidth, Peaks
from bertprof.pooling import best_peaks
from bertprof.record import now

Operation = Callable[[], object]
Stopwatch = Callable[[Operation, int], float]
"""The nanoseconds that an operation takes, of so many in a row."""

WORKING_SETS = (250_000, 1_000_000, 8_000_000, 64_000_000, 512_000_000)
"""Bytes that are touched again and again: caches of a core, of a processor or GPU, and memory."""

MEMORY_SHARE = 0.25
"""Of the memory that is free, a measurement takes no more."""

Shape = tuple[int, int, int]
"""Tokens, inputs and outputs of a linear."""

CPU_SHAPES: Sequence[Shape] = (
    *((256, 256, 256), (512, 512, 512), (128, 768, 3072), (128, 3072, 768)),
    *((1024, 1024, 1024), (2048, 2048, 2048), (4096, 4096, 4096)),
)
CUDA_SHAPES: Sequence[Shape] = ((1024, 1024, 1024), (4096, 1024, 4096), (4096, 4096, 4096), (8192, 8192, 8192))
"""By rising work: each tells whether there is time for the next."""

BUDGET_NS = 30e6
"""For each operation; together a second on a CPU, and some on a GPU, which is kept busy in between."""

LONGEST_PRODUCT_NS = 400e6
"""A larger product is left out where it would take longer, by the best rate so far: where there are no kernels for a
dtype, one can take minutes."""

BLOCK_NS = 100e3
"""What is timed at once: so much that reading the clock (0.1 µs, of CUDA's events 0.5 µs) does not count."""

FEWEST_BLOCKS = 3
MOST_IN_A_BLOCK = 100
"""As many launches fit into the queue of a CUDA device (1,024) and behind `AHEAD_CYCLES`."""

AHEAD_CYCLES = 4_000_000
"""About 2 ms, in which a host launches 100 operations, so that the device then runs them without a gap."""


def of(device: torch.device, dtype: str, threads: int, *, again: bool) -> Peaks:
    """The peaks of a device, from the user's cache or measured.

    Args:
        device: a CPU or a CUDA device.
        dtype: of the matrix products, "float32".
        threads: torch's threads, which are in force.
        again: measure even if there are some in the cache, and replace them.
    """
    found = None if again else cached(device, dtype, threads)
    return _kept(device, threads, _measured(device, dtype, threads)) if found is None else found


def cached(device: torch.device, dtype: str, threads: int) -> Peaks | None:
    """The same from the cache; None where it has none."""
    path = cache_file()
    found = None if path is None else _entries(path).get(_key(device, dtype, threads))
    return found if found is not None and _sound(found, dtype, _threads(device, threads)) else None


def better(device: torch.device, threads: int, known: Peaks) -> Peaks:
    """Measures peaks once more. Of each figure the better one is returned, and kept in the cache."""
    return _kept(device, threads, best_peaks([known, _measured(device, known.dtype, threads)]))


def _measured(device: torch.device, dtype: str, threads: int) -> Peaks:
    on_gpu = device.type == "cuda"
    bench = _cuda_bench(device, dtype) if on_gpu else _cpu_bench(dtype)
    with torch.inference_mode(), torch.cuda.device(device) if on_gpu else contextlib.nullcontext():
        return measured(bench, dtype, _threads(device, threads))


def _threads(device: torch.device, threads: int) -> int | None:
    """Those that peaks are of: none on a GPU."""
    return None if device.type == "cuda" else threads


class Bench(NamedTuple):
    """What is run on a device to find its peaks.

    Attributes:
        shapes: of the products, by rising work.
        product: makes the product of these shapes.
        streams: makes what touches that many bytes, and as many a call.
        nothing: an operator on next to no data.
        timed: times what the device does.
        launched: times what an operator costs the host.
        free_bytes: memory that can be had; None: not known.
        element_bytes: of the products' dtype.
    """

    shapes: Sequence[Shape]
    product: Callable[[Shape], Operation]
    streams: Callable[[int], Sequence[Operation]]
    nothing: Operation
    timed: Stopwatch
    launched: Stopwatch
    free_bytes: int | None
    element_bytes: int


def measured(bench: Bench, dtype: str, threads: int | None) -> Peaks:
    """The peaks of what a bench runs."""
    room = math.inf if bench.free_bytes is None else MEMORY_SHARE * bench.free_bytes
    best = 0.0
    for shape in bench.shapes:
        flops = 2 * math.prod(shape)
        needed = bench.element_bytes * sum(a * b for a, b in itertools.combinations(shape, 2))
        if best and (flops / best * 1e9 > LONGEST_PRODUCT_NS or needed > room):
            continue
        best = max(best, 1e9 * flops / _fastest_ns(bench.product(shape), bench.timed))
    bandwidths: list[Bandwidth] = []
    for size in WORKING_SETS:
        if size <= room or not bandwidths:
            fastest_ns = min(_fastest_ns(operation, bench.timed) for operation in bench.streams(size))
            bandwidths.append(Bandwidth(working_set_bytes=size, bytes_per_s=_rounded(1e9 * size / fastest_ns)))
    return Peaks(
        dtype=dtype,
        threads=threads,
        flops_per_s=_rounded(best),
        bandwidths=bandwidths,
        launch_ns=_rounded(_fastest_ns(bench.nothing, bench.launched)),
        measured=now(),
    )


def _fastest_ns(operation: Operation, timed: Stopwatch) -> float:
    """The best of as many blocks as there is time for, at least one: a call that takes very long is made once."""
    best = max(timed(operation, 1), 1.0)
    spent, blocks = 0.0, 1
    while spent + best < BUDGET_NS or (blocks < FEWEST_BLOCKS and best < BUDGET_NS):
        number = max(1, min(MOST_IN_A_BLOCK, math.ceil(BLOCK_NS / best)))
        each = max(timed(operation, number), 1.0)
        best, spent, blocks = min(best, each), spent + number * each, blocks + 1
    return best


def _rounded(value: float) -> float:
    """Four significant digits, more than was earned."""
    return float(f"{value:.4g}")


# Stopwatches and benches ----------------------------------------------------------------------------------------------


def by_host(clock: Callable[[], int] = time.perf_counter_ns, settle: Callable[[], object] | None = None) -> Stopwatch:
    """Times by the host's clock; `settle` waits for the device after each block, which is not timed."""

    def timed(operation: Operation, number: int) -> float:
        begun = clock()
        for _ in range(number):
            operation()
        ended = clock()
        if settle is not None:
            settle()
        return (ended - begun) / number

    return timed


def by_events(
    *, new_event: Callable[[], Any], record: Callable[[Any], None], ahead: Operation, synchronize: Operation
) -> Stopwatch:
    """Times what a CUDA device does, without the gaps in which it would wait for a launch.

    Args:
        new_event: makes an event with `elapsed_time(later) -> milliseconds`.
        record: records one behind what was launched.
        ahead: keeps the device busy while what is to be timed is launched.
        synchronize: waits for the device.
    """

    def timed(operation: Operation, number: int) -> float:
        first, last = new_event(), new_event()
        operation()  # brings the kernel onto the device
        ahead()
        record(first)
        for _ in range(number):
            operation()
        record(last)
        synchronize()
        return 1e6 * float(first.elapsed_time(last)) / number

    return timed


def _cpu_bench(dtype: str) -> Bench:
    watch = by_host()
    return _bench(torch.device("cpu"), dtype, CPU_SHAPES, watch, watch, host.available_bytes())


def _cuda_bench(device: torch.device, dtype: str) -> Bench:
    stream = torch.cuda.current_stream(device)
    watch = by_events(
        new_event=lambda: torch.cuda.Event(enable_timing=True),
        record=lambda event: event.record(stream),
        ahead=lambda: torch.cuda._sleep(AHEAD_CYCLES),
        synchronize=lambda: torch.cuda.synchronize(device),
    )
    launched = by_host(settle=lambda: torch.cuda.synchronize(device))
    return _bench(device, dtype, CUDA_SHAPES, watch, launched, torch.cuda.mem_get_info(device)[0])


def _bench(
    device: torch.device,
    dtype: str,
    shapes: Sequence[Shape],
    timed: Stopwatch,
    launched: Stopwatch,
    free_bytes: int | None,
) -> Bench:
    kind: torch.dtype = getattr(torch, dtype)
    # Of its own: the user's is not touched. Numbers as of a model, since zeros draw less power and so run faster.
    generator = torch.Generator(device).manual_seed(0)

    def product(shape: Shape) -> Operation:
        tokens, ins, outs = shape
        inputs = torch.empty(tokens, ins, dtype=kind, device=device).uniform_(-1, 1, generator=generator)
        weights = torch.empty(outs, ins, dtype=kind, device=device).uniform_(-1, 1, generator=generator).t()
        result = torch.empty(tokens, outs, dtype=kind, device=device)
        return lambda: torch.mm(inputs, weights, out=result)

    def streams(size: int) -> Sequence[Operation]:
        both = torch.ones(2, size // 8, device=device)  # float32
        source, target = both
        total = both.new_empty(())
        return (lambda: target.copy_(source)), (lambda: torch.sum(both, (0, 1), out=total))

    one, other, result = torch.ones(3, 1, device=device)
    return Bench(
        shapes,
        product,
        streams,
        lambda: torch.add(one, other, out=result),
        timed,
        launched,
        free_bytes,
        kind.itemsize,
    )


# The cache ------------------------------------------------------------------------------------------------------------

VERSION = 1
"""Of the cache and of how peaks are measured: those of another one are measured anew."""


class _Cache(msgspec.Struct):
    version: int
    peaks: dict[str, Peaks]


def cache_file(system: str = "", environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where peaks are kept, below the folder for caches that the system gives each user; None where there is none.

    Args:
        system: as `platform.system()`, which is the default.
        environment: the variables of the process.
    """
    system = system or platform.system()
    try:
        given = Path(environment.get("XDG_CACHE_HOME", ""))
        if given.is_absolute():  # else to be ignored (XDG Base Directory Specification)
            folder = given
        elif system == "Windows":
            folder = Path(environment["LOCALAPPDATA"])
        else:
            folder = Path.home() / ("Library/Caches" if system == "Darwin" else ".cache")
    except (KeyError, RuntimeError):
        return None
    return folder / "bertprof" / "peaks.json"


def _key(device: torch.device, dtype: str, threads: int) -> str:
    """What peaks depend on."""
    machine = host.describe(device)
    if device.type == "cuda":
        parts = [str(machine.gpu), f"driver {machine.driver}"]
    else:
        kernels = torch.backends.cpu.get_cpu_capability()
        parts = [machine.cpu, f"{machine.cores} cores", f"{threads} threads", kernels]
    return ", ".join([*parts, f"{dtype} {_precision()}" if dtype == "float32" else dtype, f"torch {machine.torch}"])


def _precision() -> str:
    """How exactly products of float32 are computed."""
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:  # it was set by the names that came with torch 2.9
        backends: Any = torch.backends
        return f"cuda {backends.cuda.matmul.fp32_precision}, mkldnn {backends.mkldnn.matmul.fp32_precision}"


def _entries(path: Path) -> dict[str, Peaks]:
    """The peaks in a cache; none where it cannot be read, is none, or is of another version."""
    try:
        cache = msgspec.json.decode(path.read_bytes(), type=_Cache)
    except (OSError, msgspec.MsgspecError):
        return {}
    return cache.peaks if cache.version == VERSION else {}


def _sound(found: Peaks, dtype: str, threads: int | None) -> bool:
    """Whether peaks in a cache are whole, and those that their key says."""
    return _whole(found) and (found.dtype, found.threads) == (dtype, threads)


def _whole(found: Peaks) -> bool:
    """Whether all working sets were measured: where memory was short that is so today, and not for ever."""
    return [point.working_set_bytes for point in found.bandwidths] == list(WORKING_SETS)


def _kept(device: torch.device, threads: int, found: Peaks) -> Peaks:
    """The same peaks, which are in the cache from now on if they are whole."""
    path = cache_file()
    if path is not None and _whole(found):
        _keep(path, _key(device, found.dtype, threads), found)
    return found


def _keep(path: Path, key: str, found: Peaks) -> None:
    """Adds peaks to a cache. Of two processes that add at one time, one may take out what the other has added, which is
    then measured again. One that cannot be written stays as it is."""
    entries = _entries(path) | {key: found}
    with contextlib.suppress(OutputError):
        write_whole(path, msgspec.json.format(msgspec.json.encode(_Cache(VERSION, entries))) + b"\n")
