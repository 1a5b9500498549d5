"""What machine this is, and which versions run on it."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from bertprof.record import Host


def describe(device: torch.device) -> Host:
    """The machine, with its GPU where `device` is one. What cannot be found out is None."""
    gpu = _gpu(device) if device.type == "cuda" else {}
    return Host(
        cpu=_cpu(),
        cores=_cores(),
        memory_bytes=_memory_bytes(),
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        torch=str(torch.__version__),
        transformers=_version("transformers"),
        fvcore=_version("fvcore"),
        **gpu,
    )


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    """The cores that this process may use, which in a container is fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def available_bytes() -> int | None:
    """Memory that a process can still get without swapping; None where the system does not tell (not Linux)."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _gpu(device: torch.device) -> dict[str, Any]:
    """Name and memory from torch; driver and clocks (MHz) from NVML, for the same device by its UUID."""
    properties = torch.cuda.get_device_properties(device)
    found: dict[str, Any] = {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory}
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no NVML on this machine: torch's figures stand alone
        return found
    try:
        found["driver"] = _text(pynvml.nvmlSystemGetDriverVersion())
        uuid = str(properties.uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        found["clocks"] = {
            "sm_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "memory_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        }
    except (pynvml.NVMLError, AttributeError):  # clocks are not readable under every driver or partition
        pass
    finally:
        pynvml.nvmlShutdown()
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
