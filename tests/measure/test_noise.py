import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertprof import steadiness
from bertprof.measure import host, noise
from bertprof.observations import GpuState
from bertprof.record import Caveat

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
STEADY = [10.0] * 20


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cpus", lambda: [0, 1])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


class System:
    """A fake machine of CPUs 0 and 1, and of 2, on which this process may not run. It is watched for 10 s."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wall_s = 0.0
        self.own_s = 0.0
        self.write("proc/self/cgroup", "0::/job")
        self.stat()

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def stat(self, user: int = 0, nice: int = 0, kernel: int = 0, steal: int = 0) -> None:
        """Ticks of CPU 0; CPU 1 has 5 s of interrupts at all times, CPU 2 is always busy."""
        busy = round(100 * self.wall_s)
        rows = (
            f"cpu  {user + busy} {nice} {kernel} 14 14 250 250 {steal} 9 9",
            f"cpu0 {user} {nice} {kernel} 7 7 0 0 {steal} 0 0",
            "cpu1 0 0 0 7 7 250 250 0 9 9",
            f"cpu2 {busy} 0 0 0 0 0 0 0 0 0",
            "intr 1 2 3",
        )
        self.write("proc/stat", "\n".join(rows))

    def watched(self, meanwhile: Callable[[], None], device: torch.device = CPU) -> noise.Watch:
        watch = noise.Watch(device, root=self.root, wall=lambda: self.wall_s, own=lambda: self.own_s)
        watch.start()
        self.wall_s += 10.0
        meanwhile()
        watch.stop()
        return watch

    def caveats(self, meanwhile: Callable[[], None], series: Sequence[float] = STEADY) -> list[Caveat]:
        return noise.caveats(series, self.watched(meanwhile))


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def only(found: list[Caveat]) -> Caveat:
    assert len(found) == 1, [caveat.text for caveat in found]
    return found[0]


# Other load and stolen time -------------------------------------------------------------------------------------------


def work(system: System, *, own_s: float, steal: int = 0, **ticks: int) -> Callable[[], None]:
    def done() -> None:
        system.own_s += own_s
        system.stat(**ticks, steal=steal)

    return done


def test_other_load_is_what_the_cores_worked_less_what_this_process_did(system: System):
    # 18 s of work on the two cores in 10 s, 12 of them our own: others had 6 s, less one tick a core = 5.98 of 20.
    found = only(system.caveats(work(system, own_s=12.0, user=1500, nice=100, kernel=200)))
    assert (found.code, found.value) == ("other-load", pytest.approx(0.299))
    assert found.text == (
        "other programs used 30 % of the 2 cores, of which 2 were wanted here; stop them, or leave them room "
        "with --threads 1"
    )


def test_little_load_is_none(system: System):
    # 0.05 · 20 s = 1 s, and two ticks of 10 ms.
    assert system.caveats(work(system, own_s=10.0, user=1101)) == []
    assert [c.code for c in system.caveats(work(system, own_s=10.0, user=1101 + 1103))] == ["other-load"]


def test_load_on_cores_that_are_left_free_is_none(system: System, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    # 10.9 s of others in 20: half a core's worth beyond the free core would be 0.5 + 0.05.
    assert system.caveats(work(system, own_s=7.0, user=1790)) == []
    found = only(system.caveats(work(system, own_s=7.0, user=1790 + 1820)))
    assert (found.code, found.value) == ("other-load", pytest.approx((18.2 - 7.0 - 0.02) / 20))
    assert "--threads" not in found.text  # fewer than one there are not


def test_more_work_of_ours_than_the_ticks_tell_is_no_load(system: System):
    assert noise.other_share(*readings(system.watched(work(system, own_s=20.0, user=1900)))) == 0.0


def readings(watch: noise.Watch) -> tuple[noise.Reading, noise.Reading]:
    assert watch.before is not None
    assert watch.after is not None
    return watch.before, watch.after


def test_stolen_time_is_a_share_of_what_was_wanted(system: System):
    found = only(system.caveats(work(system, own_s=9.0, user=900, steal=100)))
    assert (found.code, found.value) == ("stolen-time", pytest.approx(1 / (9 + 1)))
    assert "gave 10 % of the CPU time" in found.text
    assert system.caveats(work(system, own_s=9.9, user=900 + 990, steal=100 + 19)) == []  # 0.19 of 10.09


# Throttling, swapping -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "path"),
    [
        ("0::/job", "sys/fs/cgroup/job/cpu.stat"),
        ("0::/job/inner", "sys/fs/cgroup/job/cpu.stat"),  # the quota of a group around
        ("0::/elsewhere/inner", "sys/fs/cgroup/cpu.stat"),  # a container sees its own group at the root
        ("4:cpu,cpuacct:/job", "sys/fs/cgroup/cpu,cpuacct/job/cpu.stat"),
        ("1:memory:/x\n2:cpu:/job", "sys/fs/cgroup/cpu/job/cpu.stat"),
    ],
)
def test_a_quota_that_stopped_the_process(group: str, path: str, system: System):
    system.write("proc/self/cgroup", group)
    system.write(path, "usage_usec 5\nnr_periods 100\nnr_throttled 3\nthrottled_usec 900\n")
    after = "usage_usec 9\nnr_periods 200\nnr_throttled 28\nthrottled_usec 90000\n"
    found = only(system.caveats(lambda: system.write(path, after)))
    assert (found.code, found.value) == ("throttled-quota", pytest.approx(25 / 100))
    assert found.text.startswith("the container's CPU quota stopped the process in 25 % of its periods; raise")
    seldom = "nr_periods 300\nnr_throttled 32\n"  # 4 in 100
    assert system.caveats(lambda: system.write(path, seldom)) == []
    assert system.caveats(lambda: None) == []


def test_heat(system: System):
    core = "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count"
    package = "sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count"
    elsewhere = "sys/devices/system/cpu/cpu2/thermal_throttle/core_throttle_count"
    for path in (core, package, elsewhere):
        system.write(path, "5\n")

    def hot() -> None:
        system.write(core, "7\n")
        system.write(package, "8\n")
        system.write(elsewhere, "99\n")

    found = only(system.caveats(hot))
    assert (found.code, found.value) == ("thermal-throttling", 3.0)  # the package's, not the sum
    assert system.caveats(lambda: None) == []


def test_swapping(system: System):
    system.write("proc/vmstat", "pswpin 10\npswpout 20\n")
    # 10 s of 100 pages each
    assert system.caveats(lambda: system.write("proc/vmstat", "pswpin 510\npswpout 519\n")) == []
    found = only(system.caveats(lambda: system.write("proc/vmstat", "pswpin 1010\npswpout 1519\n")))
    assert (found.code, found.value) == ("swapping", 1500.0)
    assert "swapped 1,500 pages" in found.text


def test_a_system_that_tells_nothing(tmp_path: Path):
    watch = noise.Watch(CPU, root=tmp_path / "nothing")
    assert noise.caveats(STEADY, watch) == []  # never started
    watch.start()
    assert noise.caveats(STEADY, watch) == []  # never stopped
    watch.stop()
    assert noise.caveats(STEADY, watch) == []
    assert noise.other_share(*readings(watch)) is None
    assert noise.caveats([], watch) == []


def test_broken_files_are_no_error(system: System):
    for path in ("proc/stat", "proc/vmstat", "proc/self/cgroup", "sys/fs/cgroup/job/cpu.stat"):
        system.write(path, "cpu0\n\nnr_periods many\n::\n")
    system.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "<unknown>\n")
    assert system.caveats(lambda: None) == []


# Clocks ---------------------------------------------------------------------------------------------------------------

SLOWER = [10 + 0.05 * i for i in range(40)]  # thirds of 13: medians 10.3 and 11.65, + 13 %


def clock(system: System, khz: int) -> None:
    system.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", f"{khz - 500_000}\n")
    system.write("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", f"{khz}\n")


def test_a_clock_that_fell_while_forwards_became_slower(system: System):
    clock(system, 4_000_000)
    found = system.caveats(lambda: clock(system, 3_000_000), SLOWER)
    assert [caveat.code for caveat in found] == ["clock-changed", "drift"]
    assert found[0].value == pytest.approx(0.25)
    assert found[0].text == (
        "the CPU's clock went from 4,000 to 3,000 MHz while forwards became 13 % slower; hold it with "
        "`sudo cpupower frequency-set -g performance`"
    )


@pytest.mark.parametrize(
    ("khz", "series"),
    [
        (3_000_000, STEADY),  # it fell before the first round or did no harm
        (5_000_000, SLOWER),  # not by its clock
        (3_900_000, SLOWER),  # as clocks do
    ],
)
def test_a_clock_that_did_not_spoil(khz: int, series: list[float], system: System):
    clock(system, 4_000_000)
    assert "clock-changed" not in [c.code for c in system.caveats(lambda: clock(system, khz), series)]


# GPU ------------------------------------------------------------------------------------------------------------------


class FakeNvml:
    """A GPU that was held back for some ns; what is None is not supported."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.power_ns: int | None = 5
        self.heat_ns: int | None = 7
        self.reasons: int | None = 0
        self.sm_mhz: int | None = 1980
        self.celsius: int | None = 71
        self.milliwatts: int | None = 412_345
        self.pids: list[int] | None = [4711]
        self.opened = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != "GPU-1234":
            raise self.NVMLError
        return "handle"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers: dict[str, Callable[..., Any]] = {
            "nvmlDeviceGetViolationStatus": lambda policy: self._held([self.power_ns, self.heat_ns][policy]),
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda: self.reasons,
            "nvmlDeviceGetClockInfo": lambda kind: {1: self.sm_mhz, 2: 1593}[kind],
            "nvmlDeviceGetTemperature": lambda sensor: [self.celsius][sensor],
            "nvmlDeviceGetPowerUsage": lambda: self.milliwatts,
            "nvmlDeviceGetComputeRunningProcesses": lambda: self.pids,
        }
        if name not in answers:
            raise AttributeError(name)  # an older library has no nvmlDeviceGetCurrentClocksEventReasons

        def ask(handle: str, *args: Any) -> Any:
            assert handle == "handle"
            assert self.opened
            answer = answers[name](*args)
            if answer is None:
                raise self.NVMLError
            return answer

        return ask

    def _held(self, ns: int | None) -> Any:
        return None if ns is None else SimpleNamespace(violationTime=ns)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    nvml = FakeNvml()
    monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234"))
    yield nvml
    assert nvml.opened == 0


def on_gpu(system: System, meanwhile: Callable[[], None], series: Sequence[float] = STEADY) -> list[Caveat]:
    return noise.caveats(series, system.watched(meanwhile, CUDA))


def test_a_gpu_that_held_its_clocks_back(system: System, gpu: FakeNvml):
    def held() -> None:
        gpu.power_ns, gpu.heat_ns = 5 + 10**8, 7 + 12 * 10**8  # 0.1 s and 1.2 s of 10 s

    found = only(on_gpu(system, held))
    assert (found.code, found.value) == ("gpu-throttled", pytest.approx(0.12))
    assert "held its clocks back for heat for 12 % of the time, at 71 °C; let it cool" in found.text


def test_a_gpu_that_was_held_back_for_heat_and_for_more_than_heat(system: System, gpu: FakeNvml):
    def held() -> None:
        gpu.power_ns, gpu.heat_ns = 5 + 4 * 10**9, 7 + 5 * 10**8

    found = only(on_gpu(system, held))
    assert found.value == pytest.approx(0.4)
    assert "clocks back for power for 40 % of the time and for heat for 5 % of the time, at 71 °C; let it" in found.text


def test_a_gpu_that_held_its_clocks_back_for_a_moment(system: System, gpu: FakeNvml):
    def held() -> None:
        gpu.power_ns, gpu.reasons = 5 + 10**8, 0x4  # 1 %; what is now is less than what was all the time

    assert on_gpu(system, held) == []


@pytest.mark.parametrize(
    ("reasons", "because"),
    [
        *((0x4, "power"), (0x40 | 0x1, "heat"), (0x20, "heat"), (0x80, "power"), (0x8, "heat or power")),
        (0x8 | 0x40, "heat"),  # the hardware's slowdown, and why
        *((0x1, None), (0x2, None), (0x10, None), (0x100, None), (0x0, None), (None, None)),
    ],
)
def test_a_gpu_that_counts_no_time(reasons: int | None, because: str | None, system: System, gpu: FakeNvml):
    gpu.power_ns = gpu.heat_ns = gpu.celsius = None

    def held() -> None:
        gpu.reasons = reasons

    found = on_gpu(system, held)
    assert [caveat.code for caveat in found] == ([] if because is None else ["gpu-throttled"])
    advice = "hold a clock" if because == "power" else "let it cool, or hold a clock"
    assert all(f"back for {because} at the end of the sampling; {advice}" in caveat.text for caveat in found)


@pytest.mark.parametrize(("pids", "others"), [([], 0), ([11], 0), ([11, 12], 1), ([11, 12, 13], 2), (None, 0)])
def test_others_on_the_gpu(pids: list[int] | None, others: int, system: System, gpu: FakeNvml):
    gpu.pids = pids
    found = on_gpu(system, lambda: None)
    assert [(c.code, c.value) for c in found] == ([("gpu-shared", float(others))] if others else [])
    gpu.pids = [11]
    assert len(on_gpu(system, lambda: setattr(gpu, "pids", pids))) == len(found)  # who comes meanwhile counts too


def test_the_gpus_clock(system: System, gpu: FakeNvml):
    def fallen() -> None:
        gpu.sm_mhz = 1485

    assert [c.code for c in on_gpu(system, fallen, SLOWER)] == ["clock-changed", "drift"]
    gpu.sm_mhz = 345  # it idled
    assert on_gpu(system, lambda: setattr(gpu, "sm_mhz", 1980)) == []


def test_a_gpu_that_warmed(system: System, gpu: FakeNvml):
    def hotter(celsius: int) -> Callable[[], None]:
        return lambda: setattr(gpu, "celsius", celsius)

    found = on_gpu(system, hotter(81), SLOWER)
    assert [(c.code, c.value) for c in found] == [("gpu-warmed", 10.0), ("drift", pytest.approx(11.65 / 10.3 - 1))]
    assert found[0].text.startswith("the GPU went from 71 to 81 °C while forwards became 13 % slower; measure once")
    # From idle any GPU warms: it is said only where the times followed.
    for celsius, series in ((111, STEADY), (111, SLOWER[::-1]), (120, SLOWER), (50, SLOWER)):
        assert "gpu-warmed" not in [c.code for c in on_gpu(system, hotter(celsius), series)]
        gpu.celsius = 111
    gpu.celsius = None
    assert "gpu-warmed" not in [c.code for c in on_gpu(system, hotter(81), SLOWER)]


def test_every_caveat_of_the_machine_is_known_as_such(system: System, gpu: FakeNvml):
    gpu.pids = [1, 2]

    def worse() -> None:
        gpu.sm_mhz, gpu.celsius, gpu.heat_ns = 1000, 95, 10**10

    found = on_gpu(system, worse, SLOWER)
    assert {c.code for c in found} == {"gpu-throttled", "gpu-shared", "clock-changed", "gpu-warmed", "drift"}
    assert {c.code for c in found} <= set(noise.CODES)


def test_the_state_of_a_gpu_before_and_after(system: System, gpu: FakeNvml):
    def worked() -> None:
        gpu.milliwatts, gpu.celsius, gpu.reasons = 687_654, 77, 0x4 | 0x20 | 0x2

    watch = system.watched(worked, CUDA)
    assert watch.gpu == (
        GpuState(power_mw=412_345, sm_mhz=1980, memory_mhz=1593, temperature_c=71, throttle_reasons=[]),
        GpuState(
            power_mw=687_654,
            sm_mhz=1980,
            memory_mhz=1593,
            temperature_c=77,
            throttle_reasons=["applications_clocks_setting", "sw_power_cap", "sw_thermal_slowdown"],
        ),
    )
    assert system.watched(lambda: None).gpu == (None, None)  # a CPU has none
    assert noise.Watch(CUDA).gpu == (None, None)  # never read


def test_a_gpu_is_warm_when_it_is_read(system: System, gpu: FakeNvml):
    gpu.sm_mhz = 345
    runs: list[float] = []

    def forward() -> None:
        system.wall_s += 0.125
        runs.append(system.wall_s)
        gpu.sm_mhz = 1980

    clock = {"wall": lambda: system.wall_s, "own": lambda: system.own_s}
    watch = noise.Watch(CUDA, root=system.root, **clock)
    watch.start([forward, forward])
    watch.stop()
    assert runs == [0.125 * i for i in range(1, 5)]  # 0.5 s of forwards
    assert watch.before is not None
    assert watch.before.wall_s == 0.5
    assert watch.gpu[0] is not None
    assert watch.gpu[0].sm_mhz == 1980
    noise.Watch(CPU, root=system.root, **clock).start([lambda: pytest.fail("a CPU is warmed by the rounds alone")])


def test_a_gpu_is_read_before_anything_else_that_takes_time(
    system: System, gpu: FakeNvml, monkeypatch: pytest.MonkeyPatch
):
    order: list[str] = []

    def noted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            order.append(name)
            return original(*args)

        return call

    for name in ("contents", "gpu_state"):
        monkeypatch.setattr(host, name, noted(name, getattr(host, name)))
    monkeypatch.setattr(gpu, "nvmlInit", noted("init", gpu.nvmlInit))
    monkeypatch.setattr(gpu, "nvmlShutdown", noted("shutdown", gpu.nvmlShutdown))
    with noise.Watch(CUDA, root=system.root, wall=lambda: len(order), own=lambda: 0.0) as watch:
        watch.start([lambda: order.append("forward")])
        order.append("sampling")
        watch.stop()
    seen = [name for name, _ in itertools.groupby(order)]
    once = ["gpu_state", "contents"]
    assert seen == ["init", "forward", *once, "sampling", *once, "shutdown"]


def test_a_watch_is_closed_whatever_is_raised_meanwhile(system: System, gpu: FakeNvml):
    def fails() -> None:
        raise ValueError("the forward's own")

    def watched(forwards: Sequence[Callable[[], None]]) -> None:
        with noise.Watch(CUDA, root=system.root) as watch:
            watch.start(forwards)
            assert gpu.opened == 1
            fails()

    for forwards in ([fails], []):
        with pytest.raises(ValueError, match="own"):
            watched(forwards)
        assert gpu.opened == 0
    with noise.Watch(CUDA, root=system.root) as watch:
        watch.start()
        watch.start()
        assert gpu.opened == 1
        watch.stop()
        assert gpu.opened == 0


def test_one_thread_launches_kernels(system: System, gpu: FakeNvml):
    assert system.watched(lambda: None, CUDA).threads == 1
    assert system.watched(lambda: None).threads == 2


def test_a_gpu_without_nvml(system: System, gpu: FakeNvml, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert on_gpu(system, lambda: None) == []
    assert system.watched(lambda: None, CUDA).gpu == (GpuState(), GpuState())


# The series -----------------------------------------------------------------------------------------------------------


def of_series(series: Sequence[float]) -> list[Caveat]:
    return noise.caveats(series, noise.Watch(CPU))


def test_first_rounds_that_were_slower():
    # 30 rounds: the first 4 at 12, the rest at 10 with a little of everything.
    series = [12.0, 12.1, 11.9, 12.2] + [10 + 0.01 * (i * 7 % 13) for i in range(26)]
    found = only(of_series(series))
    assert (found.code, found.value) == ("warming-up", pytest.approx(12.05 / 10.06 - 1, abs=0.003))
    assert found.text.startswith("the first 4 rounds were 20 % slower than the rest: ")


def test_first_rounds_of_many_are_counted_as_rounds():
    series = [12.0] * 100 + [10 + 0.01 * (i * 7 % 13) for i in range(900)]
    assert only(of_series(series)).text.startswith("the first 100 rounds were 19 % slower than the rest: ")


def test_bursts_are_no_warming_up():
    # The same at the start and once more later.
    series = [10 + 0.01 * (i * 7 % 13) for i in range(100)]
    series[:10] = [12.0] * 10
    assert [caveat.code for caveat in of_series(series)] == ["warming-up"]
    series[50:60] = [12.5] * 10
    assert of_series(series) == []


def test_a_drift():
    found = only(of_series(SLOWER))
    assert (found.code, found.value) == ("drift", pytest.approx(11.65 / 10.3 - 1))
    assert found.text.startswith("forwards became 13 % slower from the first third of the rounds to the last: ")
    found = only(of_series(SLOWER[::-1]))
    assert (found.code, found.value) == ("drift", pytest.approx(1 - 10.3 / 11.65))
    assert found.text.startswith("forwards became 12 % faster")


def test_a_drift_behind_slow_first_rounds():
    series = [20.0] * 4 + [x + 0.3 * (i * 7 % 13) / 13 for i, x in enumerate(SLOWER)]
    assert [caveat.code for caveat in of_series(series)] == ["warming-up", "drift"]


def test_a_small_drift_is_none():
    assert of_series([10 + 0.01 * i for i in range(40)]) == []  # 10.06 to 10.33: + 2.7 %


@pytest.mark.parametrize("n", [0, 1, 9])
def test_few_rounds_tell_nothing(n: int):
    assert of_series([10.0 + i for i in range(n)]) == []


def test_kendalls_count():
    # 1 … 10 and back to front: all 45 pairs agree; z = 44 / √(10 · 9 · 25 / 18) = 3.94, p = 8.3e-5.
    rising = steadiness.trend([float(i) for i in range(1, 11)])
    assert rising.p == pytest.approx(2 * (1 - 0.5 * (1 + math.erf(44 / math.sqrt(125) / math.sqrt(2)))), rel=0.01)
    assert rising.change == pytest.approx(9 / 2 - 1)  # medians of 1, 2, 3 and of 8, 9, 10


@given(st.lists(st.floats(0.01, 1e4), max_size=150))
def test_any_series_has_an_answer(series: list[float]):
    for caveat in of_series(series):
        assert caveat.value is not None
        assert caveat.value >= noise.DRIFT_FROM


@given(st.lists(st.integers(1, 10**6), min_size=10, max_size=150), st.sampled_from([0.125, 8.0, 4096.0]))
def test_the_unit_does_not_matter(series: list[int], factor: float):
    assert [c.code for c in of_series(series)] == [c.code for c in of_series([factor * x for x in series])]


NOISES: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda r: 10 + r.gauss(0, 0.3),
    "lognormal": lambda r: r.lognormvariate(2, 0.5),
    "without a mean": lambda r: 10 * r.paretovariate(1),
    "spikes": lambda r: 10 + 0.2 * r.random() + (r.random() < 0.1) * r.expovariate(0.2),
    "two levels": lambda r: (10 if r.random() < 0.5 else 13) * (1 + r.gauss(0, 0.01)),
}


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("n", [10, 13, 20, 100, 250])
def test_chance_does_not_alarm(kind: str, n: int):
    """Independent rounds: below 1 %. Of 500 series at most 9, which 1 % would give with 96.7 %."""
    generator = random.Random(f"{kind} {n}")
    alarms = sum(bool(of_series([NOISES[kind](generator) for _ in range(n)])) for _ in range(500))
    assert alarms <= 9


def disturbed(generator: random.Random, n: int, likeness: float = 0.0) -> list[float]:
    """Noise of 3 %, of which each round keeps a share of its neighbour's, with a spike in every 30th."""
    series, state = [], generator.gauss(0, 0.03)
    for _ in range(n):
        state = likeness * state + math.sqrt(1 - likeness**2) * generator.gauss(0, 0.03)
        series.append(10 * (1 + state + (generator.random() < 0.03) * generator.expovariate(2)))
    return series


@pytest.mark.parametrize(
    "shape",
    [lambda t: 1 + 0.1 * t, lambda t: 1.1 - 0.1 * t, lambda t: 1 + 0.1 * (t > 0.5), lambda t: 1.1 - 0.1 * (t > 0.3)],
    ids=["slower", "faster", "step up", "step down"],
)
@pytest.mark.parametrize("n", [100, 500])
def test_a_drift_of_a_tenth_is_found(shape: Callable[[float], float], n: int):
    generator = random.Random(5)
    found = 0
    for _ in range(100):
        series = [x * shape(i / (n - 1)) for i, x in enumerate(disturbed(generator, n))]
        found += "drift" in [caveat.code for caveat in of_series(series)]
    assert found >= 85  # the steady slopes change the median of a third by 6.7 % only


def test_neighbours_that_are_alike_do_not_alarm():
    generator = random.Random(6)
    alarms = sum(bool(of_series(disturbed(generator, 100, likeness=0.8))) for _ in range(500))
    assert alarms <= 9
