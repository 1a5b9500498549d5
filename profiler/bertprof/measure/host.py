"""What machine this is, what it has left, and which versions run on it.

No system tells everything: what cannot be found out is None or empty, never an error. The files of the system are read
below `root`, which is another folder in tests.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from bertprof.errors import shortened
from bertprof.observations import GpuState
from bertprof.record import Host

ROOT = Path("/")


def describe(device: torch.device, before: GpuState | None = None, after: GpuState | None = None) -> Host:
    """The machine, with its GPU where `device` is one. What cannot be found out is None.

    Args:
        device: where the model runs.
        before, after: the GPU's state before sampling and behind it, where it was read.
    """
    gpu = _gpu(device) if device.type == "cuda" else {}
    return Host(
        cpu=_cpu(),
        cores=len(cpus()),
        memory_bytes=memory_bytes(),
        os=f"{platform.system()} {platform.release()}",
        gpu_before=before,
        gpu_after=after,
        python=platform.python_version(),
        torch=str(torch.__version__),
        transformers=version("transformers"),
        fvcore=version("fvcore"),
        **gpu,
    )


def version(package: str) -> str:
    """The installed version of a package, or "unknown"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


# Files of the system --------------------------------------------------------------------------------------------------


def contents(path: Path) -> str:
    """A system file's text without the blanks around it; empty where there is none, or none that may be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """The whole number that a system file holds; None where it holds none."""
    text = contents(path)
    return int(text) if text.removeprefix("-").isdecimal() else None


def table(path: Path) -> dict[str, int]:
    """A system file of lines of a name and a whole number, what follows left out."""
    rows = [line.split() for line in contents(path).splitlines()]
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


# CPU ------------------------------------------------------------------------------------------------------------------


def _cpu() -> str:
    for line in contents(ROOT / "proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpus() -> list[int]:
    """The logical CPUs that this process may use, which in a container can be fewer than the machine has."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return list(range(os.cpu_count() or 1))


def cpu_folder(cpu: int, root: Path = ROOT) -> Path:
    """Where Linux tells about a logical CPU."""
    return root / f"sys/devices/system/cpu/cpu{cpu}"


def physical_cores(root: Path = ROOT) -> list[list[int]]:
    """The usable logical CPUs by the physical core that they are on; each by itself where the system does not tell."""
    cores: dict[str, list[int]] = {}
    for cpu in cpus():
        siblings = contents(cpu_folder(cpu, root) / "topology/thread_siblings_list")
        cores.setdefault(siblings or f"cpu{cpu}", []).append(cpu)
    return list(cores.values())


def quota_cores(root: Path = ROOT) -> float | None:
    """How many cores' time the container's quota grants; None where there is no quota."""
    quotas = []
    for folder in cgroups("cpu", root):
        limit, _, period = contents(folder / "cpu.max").partition(" ")  # cgroup v2: "200000 100000", or "max 100000"
        if not limit:
            limit, period = contents(folder / "cpu.cfs_quota_us"), contents(folder / "cpu.cfs_period_us")
        if limit.isdecimal() and period.isdecimal() and int(period) > 0:  # v1 has -1 for none
            quotas.append(int(limit) / int(period))
    return min(quotas, default=None)


def cgroups(controller: str, root: Path = ROOT) -> list[Path]:
    """The folders of the control groups that bind this process, innermost first: of version 2, and of a controller's
    version 1. A container sees its own group as the outermost, whatever path the system names."""
    found = []
    for line in contents(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        own = PurePosixPath(path.lstrip("/"))
        for base in (controllers, controller) if controllers else ("", "unified"):
            found += [root / "sys/fs/cgroup" / base / part for part in (own, *own.parents)]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


# Memory ---------------------------------------------------------------------------------------------------------------


def memory_bytes() -> int | None:
    """The machine's memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def available_bytes(root: Path = ROOT) -> int | None:
    """Memory that this process can still get: without swapping, and within what its container may have.

    None where the system does not tell (not Linux).
    """
    available = table(root / "proc/meminfo").get("MemAvailable")
    if available is None:
        return None
    return min([available * 1024, *_left_in_cgroups(root)])


def _left_in_cgroups(root: Path) -> Iterator[int]:
    """What is left of each limit; files that were read and can be dropped again do not count as used."""
    for folder in cgroups("memory", root):
        for limit_file, used_file, droppable in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = number(folder / limit_file), number(folder / used_file)
            if limit is not None and used is not None:
                yield max(0, limit - used + table(folder / "memory.stat").get(droppable, 0))


# GPU ------------------------------------------------------------------------------------------------------------------

SM_CLOCK, MEMORY_CLOCK = 1, 2
"""NVML_CLOCK_SM and NVML_CLOCK_MEM of nvml.h."""

_TEMPERATURE_GPU = 0
"""NVML_TEMPERATURE_GPU of nvml.h."""

_EVENT_REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
"""nvmlClocksEventReason… of nvml.h, called as `nvidia-smi --query-gpu=clocks_event_reasons.…` calls them."""


class Nvml:
    """What NVIDIA's management library tells about one device; without the library, nothing.

    Attributes:
        missing: why it tells nothing, in one line; None where it knows the device.
    """

    def __init__(self, library: Any = None, handle: Any = None, *, name: str = "", missing: str | None = None) -> None:
        """
        Args:
            library: the module pynvml, open.
            handle: of the device.
            name: the UUID by which it was found; that of a partition begins with MIG.
            missing: why there is no handle.
        """
        self._library = library
        self._handle = handle
        self._name = name
        self.missing = missing

    def ask(self, what: str, *args: Any) -> Any:
        """The answer of `nvmlDeviceGet…`; None where the driver, the device or a partition of it does not give it."""
        if self._handle is None:
            return None
        try:
            return getattr(self._library, f"nvmlDeviceGet{what}")(self._handle, *args)
        except Exception:  # NVMLError, and AttributeError where the library is older than the question
            return None

    @property
    def driver(self) -> str | None:
        """The driver's version."""
        try:
            found = self._library.nvmlSystemGetDriverVersion()
        except Exception:
            return None
        return found.decode() if isinstance(found, bytes) else str(found)

    @property
    def partitioned(self) -> bool:
        """Whether the device is a partition of a GPU (MIG), or a GPU that is cut into some."""
        # By the partition's UUID, or by the GPU's where CUDA gives that of the whole.
        mode = self.ask("MigMode")
        return self._name.startswith("MIG") or (mode is not None and mode[0] == 1)


@contextmanager
def nvml(device: torch.device) -> Iterator[Nvml]:
    """A CUDA device as NVML knows it, by its UUID; closed on leaving.

    NVML counts all GPUs of the machine and torch those that CUDA_VISIBLE_DEVICES shows, so that indices do not agree.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:  # no NVML on this machine
        yield Nvml(missing=f"NVML is not on this machine ({shortened(error)}); it comes with NVIDIA's driver")
        return
    try:
        yield _known(pynvml, device)
    finally:
        with suppress(Exception):  # NVMLError, where the driver was loaded anew meanwhile
            pynvml.nvmlShutdown()


def _known(library: Any, device: torch.device) -> Nvml:
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    for name in (uuid,) if uuid.startswith(("GPU-", "MIG-")) else (f"GPU-{uuid}", f"MIG-{uuid}"):
        try:
            return Nvml(library, library.nvmlDeviceGetHandleByUUID(name), name=name)
        except Exception:  # not known by that name
            continue
    return Nvml(library, missing=f"NVML does not know {device} by its UUID, {uuid}")


def gpu_state(gpu: Nvml) -> GpuState:
    """Power, clocks, temperature and what holds the clocks back, now.

    The power is that of the whole board, from Ampere on (but for the GA100) the mean of the last second (NVML's
    documentation of nvmlDeviceGetPowerUsage).
    """
    reasons = gpu.ask("CurrentClocksEventReasons")
    if reasons is None:
        reasons = gpu.ask("CurrentClocksThrottleReasons")  # its name before CUDA 12.2
    return GpuState(
        power_mw=gpu.ask("PowerUsage"),
        sm_mhz=gpu.ask("ClockInfo", SM_CLOCK),
        memory_mhz=gpu.ask("ClockInfo", MEMORY_CLOCK),
        temperature_c=gpu.ask("Temperature", _TEMPERATURE_GPU),
        throttle_reasons=None if reasons is None else [name for bit, name in _EVENT_REASONS.items() if reasons & bit],
    )


def _gpu(device: torch.device) -> dict[str, Any]:
    """Name and memory from torch; driver and clocks (MHz) from NVML."""
    properties = torch.cuda.get_device_properties(device)
    found: dict[str, Any] = {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory}
    with nvml(device) as known:
        found["driver"] = known.driver
        sm_mhz, memory_mhz = known.ask("ClockInfo", SM_CLOCK), known.ask("ClockInfo", MEMORY_CLOCK)
    if sm_mhz is not None and memory_mhz is not None:
        found["clocks"] = {"sm_mhz": sm_mhz, "memory_mhz": memory_mhz}
    return found
