from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bertprof.measure import host
from bertprof.observations import GpuState


def test_this_machine():
    found = host.describe(torch.device("cpu"))
    assert found.cores >= 1
    assert found.memory_bytes is None or found.memory_bytes > 10**8
    assert found.torch == torch.__version__
    assert found.gpu is None
    assert found.driver is None


# The files of a system ------------------------------------------------------------------------------------------------

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of a fake system below `tmp_path`."""

    def written(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return written


@pytest.mark.parametrize(("text", "number"), [("12\n", 12), ("-1\n", -1), ("max\n", None), ("", None), ("1.5", None)])
def test_numbers(text: str, number: int | None, write: Write, tmp_path: Path):
    write("file", text)
    assert host.number(tmp_path / "file") == number
    assert host.number(tmp_path / "none") is None


def test_tables(write: Write, tmp_path: Path):
    write("file", "MemTotal:       24684084 kB\nnr_throttled 3\nbroken\n\nword other\n")
    assert host.table(tmp_path / "file") == {"MemTotal": 24684084, "nr_throttled": 3}


def test_hyperthreads_share_a_core(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host, "cpus", lambda: [0, 1, 2, 5])
    for cpu, siblings in {0: "0,4", 1: "1,5", 2: "2,6", 4: "0,4", 5: "1,5"}.items():
        write(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings + "\n")
    assert host.physical_cores(tmp_path) == [[0], [1, 5], [2]]
    assert host.physical_cores(tmp_path / "none") == [[0], [1], [2], [5]]


def test_the_tightest_quota_counts(write: Write, tmp_path: Path):
    write("proc/self/cgroup", "0::/pod/job\n")
    assert host.quota_cores(tmp_path) is None
    write("sys/fs/cgroup/pod/job/cpu.max", "max 100000\n")
    write("sys/fs/cgroup/cpu.stat", "")
    assert host.quota_cores(tmp_path) is None
    write("sys/fs/cgroup/pod/cpu.max", "150000 100000\n")
    assert host.quota_cores(tmp_path) == 1.5
    write("sys/fs/cgroup/pod/job/cpu.max", "400000 100000\n")
    assert host.quota_cores(tmp_path) == 1.5


@pytest.mark.parametrize(("quota", "cores"), [("-1", None), ("250000", 2.5)])
def test_a_quota_of_version_1(quota: str, cores: float | None, write: Write, tmp_path: Path):
    write("proc/self/cgroup", "8:memory:/other\n4:cpu,cpuacct:/docker/abc\n")
    write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", quota)  # a container sees its own group as the outermost
    write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    assert host.quota_cores(tmp_path) == cores


def test_available_memory_is_that_of_the_machine_and_of_each_container(write: Write, tmp_path: Path):
    assert host.available_bytes(tmp_path) is None
    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    assert host.available_bytes(tmp_path) == 4000 * 1024
    write("proc/self/cgroup", "0::/job\n")
    write("sys/fs/cgroup/job/memory.max", "max\n")
    write("sys/fs/cgroup/job/memory.current", "1000000\n")
    assert host.available_bytes(tmp_path) == 4000 * 1024
    write("sys/fs/cgroup/job/memory.max", "3000000\n")
    assert host.available_bytes(tmp_path) == 2_000_000
    write("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 400000\n")
    assert host.available_bytes(tmp_path) == 2_400_000
    write("sys/fs/cgroup/memory.max", "500000\n")
    write("sys/fs/cgroup/memory.current", "900000\n")
    assert host.available_bytes(tmp_path) == 0


def test_available_memory_in_version_1(write: Write, tmp_path: Path):
    write("proc/meminfo", "MemAvailable: 4000 kB\n")
    write("proc/self/cgroup", "8:memory:/job\n")
    write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "3000000")
    write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "2900000")
    write("sys/fs/cgroup/memory/job/memory.stat", "total_inactive_file 50000\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "2900000")
    assert host.available_bytes(tmp_path) == 150_000


# GPU ------------------------------------------------------------------------------------------------------------------


class FakeNvml:
    """NVML for one device, found by its UUID only."""

    NVMLError = RuntimeError
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    def __init__(self, readable: bool = True) -> None:
        self.readable = readable
        self.open = False

    def nvmlInit(self) -> None:  # noqa: N802
        self.open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open = False

    def nvmlSystemGetDriverVersion(self) -> bytes:  # noqa: N802
        return b"580.1"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        assert uuid == "GPU-abc"
        return "handle"

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        if not self.readable:
            raise RuntimeError("not supported")
        return {1: 1410, 2: 1593}[kind]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="H100", total_memory=80 * 10**9, uuid="abc")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


@pytest.mark.usefixtures("gpu")
def test_a_gpu_with_nvml(monkeypatch: pytest.MonkeyPatch):
    nvml = FakeNvml()
    monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
    found = host.describe(torch.device("cuda:0"))
    assert (found.gpu, found.gpu_memory_bytes, found.driver) == ("H100", 80 * 10**9, "580.1")
    assert found.clocks == {"sm_mhz": 1410, "memory_mhz": 1593}
    assert not nvml.open


@pytest.mark.usefixtures("gpu")
def test_a_gpu_whose_clocks_are_hidden(monkeypatch: pytest.MonkeyPatch):
    nvml = FakeNvml(readable=False)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
    found = host.describe(torch.device("cuda:0"))
    assert (found.driver, found.clocks) == ("580.1", None)
    assert not nvml.open


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("nvml", [None, SimpleNamespace()])
def test_a_gpu_without_nvml(nvml: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
    found = host.describe(torch.device("cuda:0"))
    assert (found.gpu, found.driver, found.clocks) == ("H100", None, None)


@pytest.mark.parametrize(
    ("uuid", "known"), [("12-34", "GPU-12-34"), ("GPU-12", "GPU-12"), ("12", "MIG-12"), ("MIG-12", "MIG-12")]
)
def test_a_device_is_found_by_any_of_its_names(uuid: str, known: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=uuid))

    def handle(name: str) -> str:
        if name != known:
            raise RuntimeError("not found")
        return f"handle of {name}"

    nvml = FakeNvml()
    monkeypatch.setattr(nvml, "nvmlDeviceGetHandleByUUID", handle)
    monkeypatch.setattr(nvml, "nvmlDeviceGetName", lambda handle: f"name by {handle}", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
    with host.nvml(torch.device("cuda:0")) as gpu:
        assert gpu.ask("Name") == f"name by handle of {known}"
        assert gpu.ask("Nonsense") is None
        assert gpu.missing is None
        assert gpu.partitioned is known.startswith("MIG")
    assert not nvml.open


@pytest.mark.parametrize(("mode", "partitioned"), [([1, 1], True), ([0, 1], False), ([0, 0], False)])
def test_a_gpu_that_is_cut_into_partitions(mode: list[int], partitioned: bool):
    gpu = host.Nvml(SimpleNamespace(nvmlDeviceGetMigMode=lambda handle: mode), "handle", name="GPU-1")
    assert gpu.partitioned is partitioned


def test_nothing_is_known_without_a_device():
    nothing = host.Nvml()
    assert nothing.ask("PowerUsage") is None
    assert nothing.driver is None
    assert not nothing.partitioned
    assert host.gpu_state(nothing) == GpuState()


class TwoGpus(FakeNvml):
    """Two GPUs, of which NVML's first is hidden from torch; its handles are their indices."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return {"GPU-first": "0", "GPU-second": "1"}[uuid]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        return {"0": 50_000, "1": 300_000}[handle]


@pytest.mark.parametrize("visible", ["1", "GPU-second", "GPU-second,GPU-first"])
def test_the_gpu_is_the_one_that_torch_means(visible: str, monkeypatch: pytest.MonkeyPatch):
    # torch's cuda:0 is then NVML's device 1; only the UUID is the same on both sides.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="second"))
    monkeypatch.setitem(__import__("sys").modules, "pynvml", TwoGpus())
    with host.nvml(torch.device("cuda:0")) as gpu:
        assert host.gpu_state(gpu).power_mw == 300_000


def test_a_gpu_that_nvml_does_not_know(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="third"))
    monkeypatch.setitem(__import__("sys").modules, "pynvml", TwoGpus())
    with host.nvml(torch.device("cuda:0")) as gpu:
        assert gpu.missing == "NVML does not know cuda:0 by its UUID, third"
        assert host.gpu_state(gpu) == GpuState()
        assert gpu.driver == "580.1"


def test_a_machine_without_nvml(monkeypatch: pytest.MonkeyPatch):
    def no_library() -> None:
        raise RuntimeError("NVML Shared Library Not Found")

    monkeypatch.setitem(__import__("sys").modules, "pynvml", SimpleNamespace(nvmlInit=no_library))
    with host.nvml(torch.device("cuda:0")) as gpu:
        assert gpu.missing == (
            "NVML is not on this machine (NVML Shared Library Not Found); it comes with NVIDIA's driver"
        )


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("raised", [None, KeyError("the work's own")])
def test_a_driver_that_is_loaded_anew_meanwhile_breaks_nothing(
    raised: KeyError | None, monkeypatch: pytest.MonkeyPatch
):
    class Reloaded(FakeNvml):
        def nvmlShutdown(self) -> None:  # noqa: N802
            raise RuntimeError("Driver/library version mismatch")

    monkeypatch.setitem(__import__("sys").modules, "pynvml", Reloaded())

    def work() -> None:
        with host.nvml(torch.device("cuda:0")):
            if raised is not None:
                raise raised

    if raised is None:
        work()
    else:
        with pytest.raises(KeyError, match="the work's own"):
            work()


@pytest.mark.usefixtures("gpu")
def test_a_gpus_state_stands_with_the_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", FakeNvml())
    before, after = GpuState(power_mw=1), GpuState(power_mw=2)
    found = host.describe(torch.device("cuda:0"), before, after)
    assert (found.gpu_before, found.gpu_after) == (before, after)
    counted = host.describe(torch.device("cuda:0"))
    assert (counted.gpu_before, counted.gpu_after) == (None, None)


def test_the_questions_are_those_of_the_real_library():
    pynvml = pytest.importorskip("pynvml")
    for bit, name in host._EVENT_REASONS.items():
        theirs = "nvmlClocksEventReason" + "".join(part.capitalize() for part in name.split("_"))
        assert getattr(pynvml, theirs) == bit
    assert pynvml.NVML_CLOCK_SM == host.SM_CLOCK
    assert pynvml.NVML_CLOCK_MEM == host.MEMORY_CLOCK
    assert pynvml.NVML_TEMPERATURE_GPU == host._TEMPERATURE_GPU
    asked = (
        *("ClockInfo", "PowerUsage", "Temperature", "CurrentClocksEventReasons", "CurrentClocksThrottleReasons"),
        *("MigMode", "ComputeRunningProcesses", "ViolationStatus", "TotalEnergyConsumption", "HandleByUUID"),
    )
    assert [what for what in asked if not hasattr(pynvml, f"nvmlDeviceGet{what}")] == []
