"""Fitting: which batch sizes are within a limit of memory, in theory.

A forward needs the weights as they are stored and the activations that are alive at a time. A step of training with
Adam in mixed precision needs 16 bytes a parameter, 2 for its weight, 2 for its gradient and 12 for the optimiser's
float32 weight, momentum and variance (Rajbhandari et al. 2020, ZeRO, section 3.1), and what the forward saves for the
backward pass. What allocators cannot use and kernels take for themselves is in neither.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal, NamedTuple

import torch

from bertprof.errors import shortened
from bertprof.measure.inputs import Inputs
from bertprof.measure.memory import lifeline
from bertprof.measure.parameters import Storage
from bertprof.measure.subject import Subject
from bertprof.measure.training import saved_bytes
from bertprof.observations import ENDLESS, Fit
from bertprof.record import Caveat

WEIGHT, GRADIENT, OPTIMIZER = 2, 2, 12
"""Bytes a parameter."""

MOST_ROWS = 10
"""Rows of a mode, beside those of batch 1, of the given batch and of the largest that fits."""

_FOLLOWED = (2, 4, 8)
"""The batch sizes that are followed to know all larger ones: two make a line, the third says whether it is one. One
sequence alone is followed by itself: where a dimension is 1, some copies are left out."""


def fits(subject: Subject, parameter_bytes: int, limit_bytes: int, *, training: bool) -> tuple[list[Fit], list[Caveat]]:
    """What batch sizes need for a forward and, where asked, for a step of training.

    Told are batches of 1, 2, 4, and so on, as long as they fit, the largest that fits, and, whether they fit or not, 1
    and the given one; of a module whose inputs cannot be made larger only the last.

    Args:
        subject: the model.
        parameter_bytes: its weights as they are stored.
        limit_bytes: what they have to fit into.
        training: tell it of training as well; what a recipe stores in fewer bits or leaves out is trained in full.

    Returns:
        mode by mode with rising batches; and what a reader must know of them.
    """
    twin = subject.twin
    if twin is None:
        return [], [_unknown("the model cannot be copied without its weights")]
    count = sum(parameter.numel() for parameter in twin.parameters())
    modes = [_Needs("inference", parameter_bytes, None, None, lambda inputs: lifeline(twin, inputs))]
    if training:
        held = (count * WEIGHT, count * GRADIENT, count * OPTIMIZER)
        modes.append(_Needs("training", *held, lambda inputs: [saved_bytes(twin, inputs)]))
    found: list[Fit] = []
    caveats: list[Caveat] = []
    for needs in modes:
        try:
            rows, scales = _rows(subject, needs, limit_bytes)
        except Exception as error:  # as it may raise whatever the user's code does
            caveats.append(_unknown(f"the forward of {needs.mode} does not run without weights: {shortened(error)}"))
            continue
        found += rows
        if not scales and not caveats:
            text = "the inputs cannot be given another batch size: what fits is told of the given one alone"
            caveats.append(Caveat(code="fits-one-batch", text=text))
    if training and any(map(_compressed, subject.storage.values())):
        text = "training is told of the float model: what is stored in fewer bits or left out here is trained in full"
        caveats.append(Caveat(code="float-training", text=text))
    return found, caveats


def _compressed(storage: Storage) -> bool:
    return storage.parameter_bytes < WEIGHT * storage.parameters or bool(storage.index_bytes)


def _unknown(why: str) -> Caveat:
    return Caveat(code="fits-unknown", text=f"which batch sizes fit is not known: {why}")


class _Needs(NamedTuple):
    """What a mode needs: bytes that do not depend on the batch, and those of activations, moment by moment."""

    mode: Literal["inference", "training"]
    parameter_bytes: int
    gradient_bytes: int | None
    optimizer_bytes: int | None
    activations: Callable[[Inputs], list[int]]

    def fit(self, batch_size: int, activation_bytes: int, limit_bytes: int) -> Fit:
        """The row of a batch size."""
        states = self.parameter_bytes + (self.gradient_bytes or 0) + (self.optimizer_bytes or 0)
        return Fit(
            mode=self.mode,
            batch_size=batch_size,
            parameter_bytes=self.parameter_bytes,
            gradient_bytes=self.gradient_bytes,
            optimizer_bytes=self.optimizer_bytes,
            activation_bytes=activation_bytes,
            fits=states + activation_bytes <= limit_bytes,
        )


def _rows(subject: Subject, needs: _Needs, limit_bytes: int) -> tuple[list[Fit], bool]:
    """The rows of a mode, and whether the batch could be changed."""
    given = subject.workload.batch_size
    own = max(needs.activations(subject.twin_inputs), default=0)

    @cache
    def followed(batch_size: int) -> list[int]:
        return needs.activations(at_batch(subject.twin_inputs, given, batch_size))

    def row(batch_size: int) -> Fit:
        return needs.fit(batch_size, own if batch_size == given else most(batch_size), limit_bytes)

    most = _Most(followed)
    try:
        smallest = row(1)
        largest = _largest(lambda batch_size: row(batch_size).fits)
    except Exception:  # the forward takes no other batch
        return [row(given)], False
    return [smallest if size == 1 else row(size) for size in _shown(largest, given)], True


def at_batch(inputs: Inputs, before: int, batch_size: int) -> Inputs:
    """The inputs with another number of sequences: the first one over and over, in every tensor that has as many rows.

    Raises:
        ValueError: no tensor has.
    """
    if not any(_has_rows(tensor, before) for _, tensor in inputs.tensors()):
        raise ValueError(f"no input has {before} rows")

    def scaled(tensor: torch.Tensor) -> torch.Tensor:
        if not _has_rows(tensor, before):
            return tensor
        return tensor[:1].expand(batch_size, *tensor.shape[1:]).contiguous()

    return inputs.mapped(scaled)


def _has_rows(tensor: torch.Tensor, number: int) -> bool:
    return tensor.ndim > 0 and tensor.shape[0] == number


class _Most:
    """The most bytes of activations that are alive at a time, for any batch size.

    Every storage is as large as a line of the batch says, if the same operators run for all; so is therefore what is
    alive behind each operator, and the peak is the highest of these lines. Where a third batch does not lie on them,
    each batch is followed.
    """

    def __init__(self, followed: Callable[[int], list[int]]) -> None:
        """
        Args:
            followed: batch size → bytes, moment by moment.
        """
        self._followed = followed
        self._lines: Sequence[tuple[int, int]] | None = None
        self._tried = False

    def __call__(self, batch_size: int) -> int:
        """The most at that batch size."""
        if batch_size > max(_FOLLOWED) and not self._tried:
            self._lines, self._tried = self._found(), True
        if batch_size <= max(_FOLLOWED) or self._lines is None:
            return max(self._followed(batch_size), default=0)
        return max((start + slope * batch_size for start, slope in self._lines), default=0)

    def _found(self) -> list[tuple[int, int]] | None:
        first, second, third = _FOLLOWED
        low, high, beyond = map(self._followed, _FOLLOWED)
        if not len(low) == len(high) == len(beyond):
            return None
        slopes = [(b - a) // (second - first) for a, b in zip(low, high, strict=True)]
        lines = {(a - slope * first, slope) for a, slope in zip(low, slopes, strict=True)}
        if [a + slope * (third - first) for a, slope in zip(low, slopes, strict=True)] != beyond:
            return None
        return sorted(lines)


def _largest(fits: Callable[[int], bool]) -> int:
    """The largest batch that fits; 0: none."""
    if not fits(1):
        return 0
    low = 1
    while low < ENDLESS and fits(2 * low):
        low *= 2
    high = 2 * low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _shown(largest: int, given: int) -> list[int]:
    """The batch sizes of which rows tell: powers of two, every second or third where they are many, and those asked."""
    powers = [1 << exponent for exponent in range(largest.bit_length())]
    step = -(-len(powers) // MOST_ROWS) if powers else 1
    return sorted({1, given, *powers[::step], max(1, largest)})
