"""Peaks: of a machine that is told how fast it is, exactly; of this one, that there are some; and what is kept."""

import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import bertprof
from bertprof import roofline
from bertprof.components import Component
from bertprof.measure import peaks
from bertprof.measure.peaks import Bench, Operation, Shape
from bertprof.observations import Peaks
from conftest import tiny

CPU = torch.device("cpu")
MB = 1_000_000


class FakeMachine:
    """It takes the time that it is told to, and has a clock that nothing else moves."""

    def __init__(
        self,
        flops_per_ns: Callable[[Shape], float] = lambda shape: 100.0,
        bytes_per_ns: Sequence[Callable[[int], float]] = (lambda size: 10.0,),
        launch_ns: float = 700.0,
        slower: Callable[[float], float] = lambda now_ns: 1.0,
    ) -> None:
        self.now_ns = 0.0
        self.products: list[Shape] = []
        self.sets: list[int] = []
        self._flops_per_ns = flops_per_ns
        self._bytes_per_ns = bytes_per_ns
        self._launch_ns = launch_ns
        self._slower = slower

    def takes(self, ns: float) -> Operation:
        def operation() -> None:
            self.now_ns += ns * self._slower(self.now_ns)

        return operation

    def product(self, shape: Shape) -> Operation:
        self.products.append(shape)
        return self.takes(2 * math.prod(shape) / self._flops_per_ns(shape))

    def streams(self, size: int) -> list[Operation]:
        self.sets.append(size)
        return [self.takes(size / rate(size)) for rate in self._bytes_per_ns]

    def bench(self, shapes: Sequence[Shape] = peaks.CPU_SHAPES, free_bytes: int | None = None) -> Bench:
        watch = peaks.by_host(lambda: round(self.now_ns))
        launched = self.takes(self._launch_ns)
        return Bench(shapes, self.product, self.streams, launched, watch, watch, free_bytes, 4)


def test_peaks_are_those_of_the_machine():
    # 100 FLOP/ns and 120 for the tall product; a copy at 10 byte/ns up to 1 MB and 4 beyond, a sum at 6: the faster.
    machine = FakeMachine(
        flops_per_ns=lambda shape: 120.0 if shape == (128, 3072, 768) else 100.0,
        bytes_per_ns=(lambda size: 10.0 if size <= MB else 4.0, lambda size: 6.0),
        launch_ns=700,
    )
    found = peaks.measured(machine.bench(), "float32", 3)
    assert found.flops_per_s == 120e9
    assert [(point.working_set_bytes, point.bytes_per_s) for point in found.bandwidths] == [
        (250_000, 10e9),
        (1 * MB, 10e9),
        (8 * MB, 6e9),
        (64 * MB, 6e9),
        (512 * MB, 6e9),
    ]
    assert (found.launch_ns, found.dtype, found.threads) == (700, "float32", 3)
    # 2 · 4096³ / 120 is 1,145 ms, which is not tried; 2 · 2048³ / 120 is 143 ms.
    assert machine.products == list(peaks.CPU_SHAPES[:-1])


def test_what_disturbs_most_of_the_time_does_not_count():
    # In 8 of every 10 ms another program takes two thirds. Budgets are longer than that, blocks shorter than the rest.
    noisy = FakeMachine(slower=lambda now_ns: 3.0 if now_ns % 10e6 < 8e6 else 1.0)
    found = peaks.measured(noisy.bench(), "float32", 1)
    assert found.flops_per_s == 100e9
    assert found.launch_ns == 700
    assert {point.bytes_per_s for point in found.bandwidths[:3]} == {10e9}


@pytest.mark.parametrize(
    ("flops_per_ns", "products"),
    [
        (0.01, 1),  # 2 · 256³ / 0.01 is 3.4 s: once, and nothing larger
        (1.0, 2),  # 34 ms, then 268 ms, then 604 ms each, which is too long
        (1e4, len(peaks.CPU_SHAPES)),
    ],
)
def test_where_products_are_slow_only_small_ones_are_made(flops_per_ns: float, products: int):
    machine = FakeMachine(flops_per_ns=lambda shape: flops_per_ns)
    found = peaks.measured(machine.bench(), "float16", 1)
    assert found.flops_per_s == pytest.approx(1e9 * flops_per_ns, rel=1e-3)
    assert machine.products == list(peaks.CPU_SHAPES[:products])
    # The longest: one product that is not known to be slow, or a few within twice what the others may take.
    streams_and_launch_ns = 11 * 4 * peaks.BUDGET_NS
    assert machine.now_ns < 3.4e9 + products * 4 * peaks.BUDGET_NS + streams_and_launch_ns


@pytest.mark.parametrize(
    ("free_bytes", "sizes", "products"),
    [
        (None, 5, 6),
        (2048 * MB, 5, 6),
        (2047 * MB, 4, 6),  # 512 MB are a quarter of 2,048
        (4 * MB, 2, 1),  # three matrices of 256² numbers are 0.8 MB, of 512² 3.1 MB, which is above 1 MB
        (1000, 1, 1),  # the smallest is always measured
    ],
)
def test_no_more_than_a_share_of_the_memory_is_taken(free_bytes: int | None, sizes: int, products: int):
    machine = FakeMachine()
    found = peaks.measured(machine.bench(free_bytes=free_bytes), "float32", 1)
    assert [point.working_set_bytes for point in found.bandwidths] == list(peaks.WORKING_SETS[:sizes])
    assert machine.sets == list(peaks.WORKING_SETS[:sizes])
    assert len(machine.products) == products


class FakeGpu:
    """One stream: a launch costs the host 5 µs, and a kernel begins when it is launched and the one before is done."""

    LAUNCH_NS = 5000.0

    def __init__(self) -> None:
        self.host_ns = self.done_ns = 0.0
        self.synchronised = True

    def kernel(self, ns: float) -> Operation:
        def launch() -> None:
            self.host_ns += self.LAUNCH_NS
            self.done_ns = max(self.done_ns, self.host_ns) + ns
            self.synchronised = False

        return launch

    def synchronize(self) -> None:
        self.host_ns = max(self.host_ns, self.done_ns)
        self.synchronised = True

    def record(self, event: "FakeGpuEvent") -> None:
        event.at_ns = max(self.done_ns, self.host_ns)

    def watch(self, ahead_ns: float) -> peaks.Stopwatch:
        return peaks.by_events(
            new_event=lambda: FakeGpuEvent(self),
            record=self.record,
            ahead=self.kernel(ahead_ns),
            synchronize=self.synchronize,
        )


class FakeGpuEvent:
    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        self.at_ns = -1.0

    def elapsed_time(self, later: "FakeGpuEvent") -> float:
        assert self.gpu.synchronised, "read before the device was done"
        return (later.at_ns - self.at_ns) / 1e6


def test_on_a_gpu_launches_do_not_count_where_the_device_is_kept_busy():
    gpu = FakeGpu()
    # 100 kernels of 1 µs take 500 µs to launch: behind 1 ms of other work they run one after another.
    assert gpu.watch(1e6)(gpu.kernel(1000), 100) == pytest.approx(1000)
    # Without, each would wait for its launch; so the test can tell.
    assert gpu.watch(0)(gpu.kernel(1000), 100) == pytest.approx(5000, rel=0.02)


def test_on_a_gpu_a_launch_is_what_it_costs_the_host():
    gpu = FakeGpu()
    settled = []

    def settle() -> None:
        settled.append(gpu.host_ns)
        gpu.synchronize()

    watch = peaks.by_host(lambda: round(gpu.host_ns), settle)
    assert watch(gpu.kernel(50_000), 10) == gpu.LAUNCH_NS  # and not the 50 µs of the kernel
    assert settled == [10 * gpu.LAUNCH_NS]


def test_this_machine_has_peaks():
    bench = peaks._cpu_bench("float32")
    with torch.inference_mode():
        found = peaks.measured(bench._replace(shapes=bench.shapes[:1], free_bytes=4 * MB), "float32", 1)
        product = bench.product((8, 4, 2))()
        streamed = [operation() for operation in bench.streams(80)]
    assert isinstance(product, torch.Tensor)
    assert product.shape == (8, 2)
    assert [str(tensor.shape) for tensor in streamed if isinstance(tensor, torch.Tensor)] == [
        "torch.Size([10])",  # 40 bytes are read and 40 written
        "torch.Size([])",  # 80 bytes are read
    ]
    assert streamed[1] == 20
    assert found.flops_per_s > 1e6
    assert [point.working_set_bytes for point in found.bandwidths] == [250_000, MB]
    assert 10 < found.launch_ns < 1e7


# What is kept ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of a cache that is still empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "bertprof" / "peaks.json"


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> list[FakeMachine]:
    """The machines that were measured; each launches in another time: 1 µs, 2 µs, ..."""
    used: list[FakeMachine] = []

    def next_bench(dtype: str) -> Bench:
        used.append(FakeMachine(launch_ns=1000 * (len(used) + 1)))
        return used[-1].bench()

    monkeypatch.setattr(peaks, "_cpu_bench", next_bench)
    return used


def found(dtype: str = "float32", threads: int = 1, again: bool = False) -> float:
    """By which measurement the peaks are."""
    return peaks.of(CPU, dtype, threads, again=again).launch_ns / 1000


def test_peaks_are_measured_once_and_kept(cache: Path, machines: list[FakeMachine]):
    first = peaks.of(CPU, "float32", 1, again=False)
    assert peaks.of(CPU, "float32", 1, again=False) == first
    assert len(machines) == 1
    assert json.loads(cache.read_text())["version"] == peaks.VERSION


def test_what_peaks_depend_on_is_kept_apart(cache: Path, machines: list[FakeMachine], monkeypatch: pytest.MonkeyPatch):
    assert [found(), found("bfloat16"), found(threads=2)] == [1, 2, 3]
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert found() == 4
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    assert [found(), found("bfloat16"), found(threads=2)] == [1, 2, 3]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        monkeypatch.setattr(peaks, "_cpu_bench", lambda dtype: FakeMachine(launch_ns=9000).bench())
        assert (found(), found("bfloat16")) == (9, 2)  # it is about float32 alone
    finally:
        torch.set_float32_matmul_precision(before)


def test_again_measures_and_replaces(cache: Path, machines: list[FakeMachine]):
    assert [found(), found("bfloat16"), found(again=True), found(), found("bfloat16")] == [1, 2, 3, 3, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"version": 1}',
        b'{"version": 1, "peaks": {"x": {"dtype": "float32"}}}',
        b'{"version": 1, "peaks": 7}',
    ],
)
def test_a_cache_that_is_none_is_replaced(content: bytes, cache: Path, machines: list[FakeMachine]):
    cache.parent.mkdir()
    cache.write_bytes(content)
    assert [found(), found()] == [1, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(version=peaks.VERSION + 1),
        lambda document: next(iter(document["peaks"].values()))["bandwidths"].reverse(),
        lambda document: next(iter(document["peaks"].values()))["bandwidths"].clear(),
        lambda document: next(iter(document["peaks"].values()))["bandwidths"].pop(),
        lambda document: next(iter(document["peaks"].values())).update(flops_per_s=0),
        lambda document: next(iter(document["peaks"].values())).update(dtype="bfloat16"),
        lambda document: next(iter(document["peaks"].values())).update(threads=2),
        lambda document: next(iter(document["peaks"].values())).update(threads=None),
    ],
)
def test_a_cache_of_another_version_or_with_odd_figures_is_measured_anew(
    change: Callable[[Any], object], cache: Path, machines: list[FakeMachine]
):
    assert found() == 1
    document = json.loads(cache.read_text())
    change(document)
    cache.write_text(json.dumps(document))
    assert [found(), found()] == [2, 2]


def test_what_was_cut_short_for_want_of_memory_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch):
    free_bytes = [2047 * MB, 2048 * MB, 2047 * MB]  # a quarter of the first is less than the largest set
    monkeypatch.setattr(peaks, "_cpu_bench", lambda dtype: FakeMachine().bench(free_bytes=free_bytes.pop(0)))

    def sets(again: bool = False) -> int:
        return len(peaks.of(CPU, "float32", 1, again=again).bandwidths)

    assert sets() == 4
    assert not cache.exists()
    assert [sets(), sets(), sets(again=True), sets()] == [5, 5, 4, 5]
    assert free_bytes == []


def test_better_peaks_are_the_best_of_each_figure_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch):
    coming = [
        FakeMachine(lambda shape: 100.0, [lambda size: 10.0 if size <= MB else 4.0], 700).bench(),
        FakeMachine(lambda shape: 120.0, [lambda size: 8.0 if size <= MB else 5.0], 800).bench(free_bytes=2047 * MB),
    ]
    monkeypatch.setattr(peaks, "_cpu_bench", lambda dtype: coming.pop(0))
    found = peaks.better(CPU, 1, peaks.of(CPU, "float32", 1, again=False))
    assert (found.flops_per_s, found.launch_ns) == (120e9, 700)
    # The largest set was measured the first time only.
    assert [point.bytes_per_s for point in found.bandwidths] == [10e9, 10e9, 5e9, 5e9, 4e9]
    assert peaks.of(CPU, "float32", 1, again=False) == found
    assert coming == []


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path, machines: list[FakeMachine]):
    cache.parent.write_text("a file where the folder should be")
    assert [found(), found()] == [1, 2]
    assert cache.parent.read_text() == "a file where the folder should be"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_read_is_no_error(cache: Path, machines: list[FakeMachine]):
    cache.parent.mkdir(mode=0o000)
    assert [found(), found()] == [1, 2]
    cache.parent.chmod(0o700)


def test_without_a_folder_nothing_is_kept(machines: list[FakeMachine], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peaks, "cache_file", lambda: None)
    assert [found(), found()] == [1, 2]


def test_who_reads_while_others_write_never_sees_half_a_cache(cache: Path):
    kept = peaks.measured(FakeMachine().bench(), "float32", 1)
    cache.parent.mkdir()

    def write(number: int) -> None:
        for _ in range(20):
            peaks._keep(cache, f"machine {number}", kept)

    def read(_: int) -> list[dict[str, Peaks]]:
        return [peaks._entries(cache) for _ in range(100)]

    peaks._keep(cache, "machine 0", kept)
    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, number) for number in range(2)]
        seen = list(itertools.chain(*pool.map(read, range(2))))
        for future in writing:
            future.result()
    # One may take out what the other has added; a reader always finds a whole file with somebody's peaks.
    assert all(entries and all(one == kept for one in entries.values()) for entries in seen)
    assert [path.name for path in cache.parent.iterdir()] == ["peaks.json"]


def test_a_record_has_the_peaks(cache: Path, machines: list[FakeMachine]):
    before = torch.get_num_threads()
    records = [
        bertprof.profile(tiny("bert"), torch.ones(1, 8, dtype=torch.long), min_time_s=0, **further)
        for further in ({}, {}, {"peaks": True}, {"roofline": False})
    ]
    assert [None if r.peaks is None else r.peaks.launch_ns for r in records] == [1000, 1000, 2000, None]
    assert [roofline.of(r, r.of(Component.FFN)) is None for r in records] == [False, False, False, True]
    assert records[0].peaks is not None
    assert records[0].peaks.threads == before


@pytest.mark.parametrize(
    ("system", "environment", "file"),
    [
        ("Linux", {"XDG_CACHE_HOME": "/c"}, "/c/bertprof/peaks.json"),
        ("Darwin", {"XDG_CACHE_HOME": "/c"}, "/c/bertprof/peaks.json"),
        ("Linux", {}, "/home/u/.cache/bertprof/peaks.json"),
        ("Linux", {"XDG_CACHE_HOME": ""}, "/home/u/.cache/bertprof/peaks.json"),
        ("Linux", {"XDG_CACHE_HOME": "relative"}, "/home/u/.cache/bertprof/peaks.json"),  # to be ignored
        ("Darwin", {}, "/home/u/Library/Caches/bertprof/peaks.json"),
        ("Windows", {"LOCALAPPDATA": "/l"}, "/l/bertprof/peaks.json"),
        ("Windows", {}, None),
    ],
)
def test_where_peaks_are_kept(
    system: str, environment: dict[str, str], file: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", "/home/u")
    found = peaks.cache_file(system, environment)
    assert found == (None if file is None else Path(file))


def test_a_user_without_a_home_keeps_nothing(monkeypatch: pytest.MonkeyPatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert peaks.cache_file("Linux", {}) is None
