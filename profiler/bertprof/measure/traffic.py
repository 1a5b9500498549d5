"""Traffic: the bytes that an operator reads and writes, in theory, and which memory they are in."""

import math

import torch

from bertprof.measure.operators import NOT_READ, NOTHING_MOVED, READ_IN_PART
from bertprof.measure.weights.quantised import stored_bytes


def moved_bytes(
    name: str, ins: tuple[torch.Tensor, ...], outs: tuple[torch.Tensor, ...], weight_bytes: int | None = None
) -> int:
    """Bytes of inputs and outputs, each once. Of a table only the rows that are looked up are read.

    `weight_bytes`: those of the second input that are read, where it stands for what stores no zeros.
    """
    if name in NOTHING_MOVED:
        return 0
    written = sum(map(held_bytes, outs))
    if name in NOT_READ:
        return written
    if name == "copy":
        ins = ins[1:]  # what is written over is not read
    unique = {_place(tensor): tensor for tensor in ins}.values()
    read = [held_bytes(tensor) for tensor in unique]
    if weight_bytes is not None:
        read[1] = weight_bytes
    if name in READ_IN_PART and read:
        read[0] = min(read[0], written)
    return written + sum(read)


def memory_of(tensor: torch.Tensor) -> int:
    """The identity of the memory that a tensor and all views of it are in."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a sparse or wrapped tensor shows no storage
        return id(tensor)


def _place(tensor: torch.Tensor) -> tuple[int, ...]:
    """Which stretch of memory a tensor is, so that one that is given twice, also through a view, is read once."""
    offset = int(tensor.storage_offset()) if tensor.layout is torch.strided else 0
    return memory_of(tensor), offset, tensor.numel()


def held_bytes(tensor: torch.Tensor) -> int:
    """A tensor's bytes; of one that repeats itself (expanded), those that are there; of a sparse one with indices."""
    if tensor.layout is not torch.strided:
        return stored_bytes(tensor)
    try:
        sizes = zip(tensor.shape, tensor.stride(), strict=True)
        there = math.prod(size for size, stride in sizes if stride) if tensor.numel() else 0
    except (NotImplementedError, RuntimeError):  # a wrapped tensor shows no strides
        there = tensor.numel()
    return there * tensor.element_size()
