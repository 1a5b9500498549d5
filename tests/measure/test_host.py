from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bertprof.measure import host


def test_this_machine():
    found = host.describe(torch.device("cpu"))
    assert found.cores >= 1
    assert found.memory_bytes is None or found.memory_bytes > 10**8
    assert found.torch == torch.__version__
    assert found.gpu is None
    assert found.driver is None


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
