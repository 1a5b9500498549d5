"""Memory: what a forward takes at most, in theory and as measured."""

import ctypes
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from bertprof.attribution import Key, Walker
from bertprof.measure import host
from bertprof.measure.clocks import Tape
from bertprof.measure.dispatch import Operation, follow
from bertprof.measure.inputs import Inputs
from bertprof.measure.lifetimes import Alive
from bertprof.measure.timing import Marked
from bertprof.measure.weights.quantised import stand_in, stored_bytes

# In theory -----------------------------------------------------------------------------------------------------------


def lifeline(model: nn.Module, inputs: Inputs) -> list[int]:
    """The bytes of activations that are alive behind each operator of a forward; `flops.Counts` says what that is.

    Raises:
        Exception: whatever the forward raises.
    """
    recorder = _Recorder(inputs)
    follow(model, inputs, recorder)
    return recorder.alive_bytes


class _Recorder:
    """Notes what is alive behind each operator, when its inputs still are."""

    def __init__(self, inputs: Inputs) -> None:
        self._alive = Alive(tensor for _, tensor in inputs.tensors())
        self.alive_bytes: list[int] = []

    def enter(self, path: str) -> None:
        pass

    def leave(self, path: str) -> None:
        pass

    def operate(self, operation: Operation) -> None:
        self.alive_bytes.append(self._alive.ran(operation.name, operation.inputs, operation.outputs))


def _largest(amounts: Iterator[tuple[Key, int]]) -> dict[Key, int]:
    largest: dict[Key, int] = {}
    for key, amount in amounts:
        largest[key] = max(largest.get(key, 0), amount)
    return largest


# On a CPU -------------------------------------------------------------------------------------------------------------

FORWARDS = 3
"""Of so many the middle one counts: which freed pieces of the heap fit for what comes next differs between forwards."""


def _give_back() -> bool:
    """Has glibc give back what was freed; False where the process allocates by another library."""
    try:
        process, glibc = ctypes.CDLL(None), ctypes.CDLL("libc.so.6")
        in_use, of_glibc = (ctypes.cast(library.malloc, ctypes.c_void_p).value for library in (process, glibc))
        if in_use != of_glibc:  # jemalloc or tcmalloc, loaded before it
            return False
        glibc.malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another system, or musl
        return False
    return True


def resident_peak(marked: Marked, *, root: Path = host.ROOT, trim: Callable[[], bool] = _give_back) -> int | None:
    """The most memory that one forward takes on a CPU: by how much the process grows, and the model and its inputs.

    Linux notes the most that was resident (VmHWM of proc(5)), and starts anew from what is resident now when 5 is
    written to clear_refs. What the C library keeps of freed memory would be filled first and hide the growth; it is
    given back before. Unlike in theory, what kernels take for themselves while they run is in it, and so is what the
    heap cannot use again between pieces that are still held.

    Args:
        marked: the model, warm.
        root: below which the system's files are.
        trim: gives back what was freed; False: it cannot.

    Returns:
        bytes; None where the system does not tell (not Linux, not glibc, or a container that forbids it).
    """
    grown = []
    for _ in range(FORWARDS):
        if not trim() or not _start_anew(root):
            return None
        before = _most_resident(root)
        with torch.inference_mode():
            marked.run()
        after = _most_resident(root)
        if before is None or after is None:
            return None
        grown.append(max(0, after - before))
    return sorted(grown)[FORWARDS // 2] + held(marked.model, marked.inputs, torch.device("cpu"))


def _start_anew(root: Path) -> bool:
    try:
        (root / "proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _most_resident(root: Path) -> int | None:
    kibibytes = host.table(root / "proc/self/status").get("VmHWM")
    return None if kibibytes is None else 1024 * kibibytes


def held(model: nn.Module, inputs: Inputs, device: torch.device) -> int:
    """The bytes that a model and its inputs hold on a device, each tensor once.

    With them is what modules hold as plain attributes, and what quantised ones pack away.
    """
    tensors: dict[int, torch.Tensor] = {id(tensor): tensor for _, tensor in inputs.tensors()}
    packed = 0
    for module in model.modules():
        values = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
        own = {id(value): value for value in values if isinstance(value, torch.Tensor)}
        tensors |= own
        stand = None if own else stand_in(module, torch.float32)
        packed += 0 if stand is None else sum(storage.parameter_bytes for storage in stand.storage.values())
    return packed + sum(stored_bytes(tensor) for tensor in tensors.values() if tensor.device == device)


# On a GPU -------------------------------------------------------------------------------------------------------------


def allocated_peaks(marked: Marked, device: torch.device, clock: "PeakClock | None" = None) -> Mapping[Key, int]:
    """The most that is allocated on the GPU while each row runs: what one forward allocates, and the model and inputs.

    Counted from what was allocated before, as the run's `peak_memory_bytes` is, so that neither other models nor what
    libraries keep (workspaces of cuBLAS) are in it.

    Args:
        marked: the model, warm.
        device: a CUDA device.
        clock: reads the allocator; for tests.

    Returns:
        bytes by unit and component. The largest is the whole forward's.
    """
    measured = replace(marked, clock=clock or PeakClock(device), style="wrappers")
    with torch.inference_mode(), measured.marks():
        tape = measured.run()
    own = held(marked.model, marked.inputs, device)
    return _largest((key, own + amount) for key, amount in _by_key(measured, tape))


def _by_key(marked: Marked, tape: Tape) -> Iterator[tuple[Key, int]]:
    """Whose each interval of a tape is."""
    walker = Walker(marked.regions)
    for amount, code in itertools.zip_longest(tape.intervals_ns, tape.codes):  # one interval more
        yield walker.owner.key, amount
        if code is not None:
            walker.cross(marked.crossings[code])


class PeakClock:
    """A clock that reads bytes: of each interval, the most that was allocated beyond what was when the tape began.

    The allocator counts on the host as it hands memory out, before kernels run; nothing here waits for the device.
    """

    name = "allocator"

    def __init__(
        self,
        device: torch.device,
        *,
        allocated: Callable[[torch.device], int] = torch.cuda.memory_allocated,
        peak: Callable[[torch.device], int] = torch.cuda.max_memory_allocated,
        reset: Callable[[torch.device], None] = torch.cuda.reset_peak_memory_stats,
    ) -> None:
        """
        Args:
            device: a CUDA device.
            allocated: the bytes that are allocated now.
            peak: the most that were since the last reset.
            reset: sets that to what is allocated now.
        """
        self._device = device
        self._allocated = allocated
        self._peak = peak
        self._reset = reset
        self._before = 0
        self._codes: list[int] = []
        self._peaks: list[int] = []

    def start(self) -> None:
        """Begins a tape."""
        self._codes, self._peaks = [], []
        self._before = self._allocated(self._device)
        self._reset(self._device)

    def mark(self, code: int) -> None:
        """Notes the peak since the last mark."""
        self._codes.append(code)
        self._note()

    def stop(self) -> Tape:
        """Ends the tape, whose intervals are bytes."""
        self._note()
        return Tape(self._codes, self._peaks)

    def _note(self) -> None:
        self._peaks.append(self._peak(self._device) - self._before)
        self._reset(self._device)
