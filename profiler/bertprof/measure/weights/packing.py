"""How weights are packed: from the tensors stored for one parameter to the number of its non-zero scalars.

A weight is a tensor of its own name, or packed into tensors of other names; what else its module holds are scales, zero
points, shapes and maps. The layouts, as their libraries write them:

- `weight` int8 or uint8 with `weight_zero_point`, one for all, one a row or one a group. torch.ao's packed parameters
  are read as these; torchao writes `_weight_qdata` and `_weight_zero_point`.
- compressed-tensors, "pack-quantized": `weight_packed` int32 (out, ceil(in·bits/32)), dense from the lowest bit on,
  each value raised by 2^(bits-1); `weight_zero_point` is packed likewise but along out, or int8 (out, groups).
- GPTQ: `qweight` int32 (in·bits/32, out), `qzeros` (groups, out·bits/32), `g_idx` (in,) the group of each input.
  Zero points are stored as one less, unless the configuration's `checkpoint_format` is gptq_v2.
- AWQ, "gemm": `qweight` int32 (in, out·bits/32), `qzeros` (groups, out·bits/32). Both interleave their columns in the
  same way, so that they can be compared as they are.
- bitsandbytes: `weight` uint8 (n/2, 1), two indices into `weight.quant_map` a byte; or `weight` int8 and `SCB`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def nonzero(fields: Mapping[str, Tensor], own: str, size: int, one_less: bool = True) -> int | None:
    """How many scalars of a parameter differ from their zero point.

    Args:
        fields: what is stored for it, by name within its module.
        own: its own name within its module, such as weight.
        size: how many scalars it has.
        one_less: whether GPTQ's zero points are stored as one less.

    Returns:
        None where the layout is not known.
    """
    try:
        return _nonzero(fields, own, size, one_less)
    except (RuntimeError, IndexError, ValueError):  # shapes that do not go together: some other layout
        return None


def _nonzero(fields: Mapping[str, Tensor], own: str, size: int, one_less: bool) -> int | None:
    if "weight_packed" in fields or "qweight" in fields:
        unpacked = _compressed_tensors(fields, size) or _gptq_or_awq(fields, size, one_less)
        return None if unpacked is None else _differing(*unpacked)
    values = fields[own] if own in fields else fields.get("_weight_qdata")
    if values is None:
        return None
    if "weight.quant_map" in fields:
        if values.dtype is not torch.uint8 or values.numel() != (size + 1) // 2:
            return None
        halves = (values >> 4, values & 15)
        zeros = (fields["weight.quant_map"] == 0).nonzero().flatten().tolist()
        return 2 * values.numel() - sum(int((half == zero).sum()) for half in halves for zero in zeros)
    if values.numel() != size:
        return None
    if values.is_floating_point():
        return int((values.float() if values.itemsize == 1 else values).count_nonzero())
    zero_point = fields.get(f"{own}_zero_point", fields.get("_weight_zero_point"))
    if zero_point is None:  # which only signed numbers do without
        return int(values.count_nonzero()) if values.dtype.is_signed else None
    return _differing(values, zero_point)


def _compressed_tensors(fields: Mapping[str, Tensor], size: int) -> tuple[Tensor, Tensor] | None:
    """Values and zero points, both (out, in or groups)."""
    packed, shape = fields.get("weight_packed"), fields.get("weight_shape")
    if packed is None or shape is None or packed.dtype is not torch.int32 or not (bits := _bits(packed, size)):
        return None
    rows, columns = shape.tolist()
    if rows * columns != size:
        return None
    middle = 1 << bits - 1
    zero = fields.get("weight_zero_point", torch.zeros(1, dtype=torch.int8))
    zero = _unpacked(zero.T, bits, rows).T if zero.dtype is torch.int32 else zero.short() + middle
    return _unpacked(packed, bits, columns), zero


def _gptq_or_awq(fields: Mapping[str, Tensor], size: int, one_less: bool) -> tuple[Tensor, Tensor] | None:
    """Values and zero points, both (in or groups, out)."""
    if not {"qweight", "qzeros", "scales"} <= fields.keys() or not (bits := _bits(fields["qweight"], size)):
        return None
    packed, outs = fields["qweight"], fields["scales"].shape[1]
    zeros = _unpacked(fields["qzeros"], bits, outs)
    if packed.shape[0] * outs == size:
        return _unpacked(packed, bits, outs), zeros
    if packed.shape[1] != outs:
        return None
    if one_less:
        zeros = zeros + 1 & (1 << bits) - 1
    if "g_idx" in fields:
        zeros = zeros[fields["g_idx"].long()]
    return _unpacked(packed.T, bits, size // outs).T, zeros


def _bits(packed: Tensor, size: int) -> int:
    """The bits of one of `size` values; 0 where words are not filled, so that they cannot be told."""
    bits, rest = divmod(32 * packed.numel(), size)
    return bits if not rest and bits <= 8 else 0


def _unpacked(words: Tensor, bits: int, count: int) -> Tensor:
    """The values in int32 words, dense from the lowest bit on: (rows, words) → uint8 (rows, count)."""
    start = torch.arange(count) * bits
    first, shift = start // 32, start % 32
    parts = []
    for some in words.split(256):  # a value takes 8 bytes on the way
        wide = nn.functional.pad(some.long() & 0xFFFFFFFF, (0, 1))
        parts.append((wide[:, first] | wide[:, first + 1] << 32) >> shift & (1 << bits) - 1)
        parts[-1] = parts[-1].to(torch.uint8)
    return torch.cat(parts)


def _differing(values: Tensor, zero: Tensor) -> int:
    """How many values differ from their zero point: one for all, one a row, or one a group in either dimension."""
    if zero.dim() == 1 and values.dim() == 2:
        zero = zero[:, None]
    for axis in range(zero.dim()) if zero.numel() > 1 else ():
        zero = zero.repeat_interleave(values.shape[axis] // zero.shape[axis], axis)
    return int((values != zero).sum())
