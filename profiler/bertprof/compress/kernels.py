"""Linears and tables that run with quantised weights, by kernels that torch brings along.

Rounding is to the nearest level, per output neuron or per group of inputs, by the range of the weights themselves: no
training, no calibration. Every module names its sizes as the float module does and holds nothing but what it stores.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_SMALLEST_SCALE = torch.finfo(torch.float32).eps
"""Of a row or group whose weights are all equal."""

_FEWEST_ROWS = 17
"""Rows of activations that `torch._int_mm` takes at least on CUDA."""


class Kernel(NamedTuple):
    """How linears run with quantised weights on one device.

    Attributes:
        name: as a record calls it.
        linear: weight of shape (outputs, inputs) and bias, both float → the module that stands for the linear.
        weight_bytes: outputs, inputs → bytes of the weight with its scales and zero points.
        misfit: outputs, inputs → what the kernel wants of a linear of that shape that it has not; None: nothing.
        copies_bias: whether the module holds a bias of its own, which is then no longer shared with others.
        exists: whether the kernel is there; otherwise `linear` gives a float linear with the rounded weight.
    """

    name: str
    linear: Callable[[Tensor, nn.Parameter | None], nn.Module]
    weight_bytes: Callable[[int, int], int]
    misfit: Callable[[int, int], str | None]
    copies_bias: bool = False
    exists: bool = True


# 8-bit weights and activations ---------------------------------------------------------------------------------------


def dynamic_int8(device: torch.device) -> Kernel:
    """8-bit weights per output neuron, 8-bit activations by the range that they turn out to have.

    On the CPU those of torch.ao, with one range for all activations of a call and the float64 scale and int64 zero
    point a row that torch keeps, 16 bytes. On CUDA `Int8Linear`, with a float32 scale a row, 4 bytes.
    """
    if device.type == "cuda":

        def misfit(outputs: int, inputs: int) -> str | None:
            return "inputs and outputs in multiples of 8" if outputs % 8 or inputs % 8 else None

        return Kernel("int8 by torch._int_mm", Int8Linear, lambda outs, ins: outs * (ins + 4), misfit)
    engine = int8_engine()
    return Kernel(
        f"int8 by torch.ao ({engine})",
        lambda weight, bias: _of_torch(weight, bias, engine),
        lambda outs, ins: outs * (ins + 16),
        lambda outs, ins: None,
        copies_bias=True,
    )


def int8_engine() -> str:
    """The engine of torch.ao whose 8-bit linears are the fastest here.

    It is oneDNN's where the CPU multiplies 8-bit integers (VNNI, AMX), and else torch's own choice: x86, which calls
    fbgemm, or qnnpack on ARM. (One thread of a Xeon with AMX, 128 × 768 by 768 × 3072: float32 4.0 ms, oneDNN 0.5 ms,
    fbgemm 1.2 ms, qnnpack 16 ms.)
    """
    if "onednn" in torch.backends.quantized.supported_engines and torch.cpu._is_vnni_supported():
        return "onednn"
    return str(torch.backends.quantized.engine)


@contextmanager
def _engine(name: str) -> Iterator[None]:
    """While open, torch.ao packs weights for that engine, without a word that it is deprecated."""
    before = torch.backends.quantized.engine
    try:
        torch.backends.quantized.engine = name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.quantized.engine = before


def rounded_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Levels -127 to 127 (int8) of a weight of shape (rows, columns), and the float32 scale of each row.

    Symmetric, so that zero stays zero: the scheme of Zafrir et al. 2019, with a range for each row.
    """
    scales = _scales(weight)
    return _levels(weight, scales), scales


def _scales(rows: Tensor) -> Tensor:
    return (rows.float().abs().amax(-1) / 127).clamp(min=_SMALLEST_SCALE)


def _levels(rows: Tensor, scales: Tensor) -> Tensor:
    return (rows.float() / scales[:, None]).round().clamp(-127, 127).to(torch.int8)


def _of_torch(weight: Tensor, bias: nn.Parameter | None, engine: str) -> nn.Module:
    levels, scales = rounded_rows(weight)
    outputs, inputs = weight.shape
    with _engine(engine):
        from torch.ao.nn.quantized import dynamic

        made = dynamic.Linear(inputs, outputs, bias is not None)
        zeros = torch.zeros(outputs, dtype=torch.long)
        rows = torch._make_per_channel_quantized_tensor(levels, scales.double(), zeros, 0)
        made.set_weight_bias(rows, None if bias is None else bias.detach().float())
    quantised: nn.Module = made.eval()
    return quantised


class _Linear(nn.Module):
    """What stands for a linear: its sizes, and its bias as it was."""

    def __init__(self, weight: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = bias
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """From (..., inputs) to (..., outputs), in the dtype of x."""
        product = self._product(x.reshape(-1, self.in_features)).to(x.dtype)
        if self.bias is not None:
            product = product + self.bias
        return product.view(*x.shape[:-1], self.out_features)

    def _product(self, rows: Tensor) -> Tensor:
        """From (rows, inputs) to (rows, outputs)."""
        raise NotImplementedError


class Int8Linear(_Linear):
    """A linear on 8-bit weights and activations, with a range for each output neuron and for each token.

    Runs on CUDA and on the CPU. Rows are padded to the 17 that the kernel wants at least.
    """

    levels: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__(weight, bias)
        levels, scales = rounded_rows(weight)
        self.register_buffer("levels", levels)
        self.register_buffer("scales", scales)

    def _product(self, rows: Tensor) -> Tensor:
        scales = _scales(rows)
        levels = _levels(rows, scales)
        if len(rows) < _FEWEST_ROWS:
            levels = functional.pad(levels, (0, 0, 0, _FEWEST_ROWS - len(rows)))
        product = torch._int_mm(levels, self.levels.t())[: len(rows)]
        return product * scales[:, None] * self.scales


# 8-bit weights -------------------------------------------------------------------------------------------------------


def weight_int8(device: torch.device) -> Kernel:
    """8-bit weights per output neuron, float activations.

    The kernel of the CPU has fast paths for bfloat16 alone (float32 takes 60 times as long) and reads beyond the weight
    where its rows are no multiples of 16: activations and scales, 2 bytes a row, are bfloat16. On CUDA it computes in
    float32, with scales of 4 bytes.
    """
    if device.type == "cuda":
        exists = _registered("aten::_weight_int8pack_mm")
        name = "8-bit weights by _weight_int8pack_mm" if exists else "8-bit weights dequantised"
        make = Int8WeightLinear if exists else _dequantised_rows
        return Kernel(name, make, lambda outs, ins: outs * (ins + 4), lambda outs, ins: None, exists=exists)
    return Kernel(
        "8-bit weights by _weight_int8pack_mm in bfloat16",
        Int8WeightLinear,
        lambda outs, ins: outs * (ins + 2),
        lambda outs, ins: "inputs in multiples of 16" if ins % 16 else None,
    )


class Int8WeightLinear(_Linear):
    """A linear on 8-bit weights, with a range for each output neuron, and float activations."""

    levels: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__(weight, bias)
        scales = _scales(weight)
        if not weight.is_cuda:
            scales = scales.bfloat16()  # before rounding the weight, which makes up for it
        self.register_buffer("levels", _levels(weight, scales.float()))
        self.register_buffer("scales", scales)

    def _product(self, rows: Tensor) -> Tensor:
        if not rows.is_cuda:
            rows = rows.bfloat16()
        product: Tensor = torch.ops.aten._weight_int8pack_mm(rows, self.levels, self.scales)
        return product


def _dequantised_rows(weight: Tensor, bias: nn.Parameter | None) -> nn.Module:
    levels, scales = rounded_rows(weight)
    return _float_linear((levels * scales[:, None]).to(weight.dtype), bias)


# 4-bit weights -------------------------------------------------------------------------------------------------------

_INT4_GROUPS = (32, 64, 128, 256)
"""Inputs that can share a scale."""


def weight_int4(device: torch.device, group: int) -> Kernel:
    """4-bit weights, a bfloat16 scale and zero point for `group` inputs of an output neuron, bfloat16 activations.

    CUDA has such a kernel from compute capability 8.0 on.
    """
    exists = device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)
    multiple = 8 if device.type == "cuda" else 16

    def misfit(outputs: int, inputs: int) -> str | None:
        if inputs % group:
            return f"inputs in multiples of its group-size {group}"
        return f"outputs in multiples of {multiple}" if outputs % multiple else None

    return Kernel(
        "4-bit weights by _weight_int4pack_mm in bfloat16" if exists else "4-bit weights dequantised",
        lambda weight, bias: (Int4WeightLinear if exists else _dequantised_groups)(weight, bias, group),
        lambda outs, ins: outs * ins // 2 + outs * ins // group * 4,
        misfit,
        exists=exists,
    )


def unknown_group(group: int) -> str | None:
    """What is wrong with a number of inputs that are to share a scale; None: nothing."""
    known = ", ".join(map(str, _INT4_GROUPS))
    return None if group in _INT4_GROUPS else f"group-size={group}: the kernels know {known}"


def rounded_groups(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Levels 0 to 15 (int32) of a weight of shape (outputs, inputs), and the bfloat16 ranges of its groups.

    A weight is (level - 8) · scale + zero point; ranges are of shape (inputs / group, outputs, 2), as the kernels read
    them. Levels are found with scales and zero points as they are stored.
    """
    groups = weight.float().unflatten(1, (-1, group))
    low, high = groups.aminmax(dim=-1)
    scales = ((high - low) / 15).clamp(min=_SMALLEST_SCALE).bfloat16()
    zeros = (low + 8 * scales.float()).bfloat16()
    levels = ((groups - zeros.float()[..., None]) / scales.float()[..., None] + 8).round().clamp(0, 15)
    return levels.flatten(1).to(torch.int32), torch.stack((scales, zeros), -1).transpose(0, 1).contiguous()


def dequantised_groups(levels: Tensor, ranges: Tensor) -> Tensor:
    """The float32 weight that `rounded_groups` stands for."""
    scales, zeros = ranges.float().transpose(0, 1).unbind(-1)
    groups: Tensor = levels.unflatten(1, (scales.shape[1], -1)) - 8
    return (groups * scales[..., None] + zeros[..., None]).flatten(1)


class Int4WeightLinear(_Linear):
    """A linear on 4-bit weights, with a range for each group of inputs, computing in bfloat16."""

    levels: Tensor
    ranges: Tensor

    def __init__(self, weight: Tensor, bias: nn.Parameter | None, group: int) -> None:
        super().__init__(weight, bias)
        self.group = group
        levels, ranges = rounded_groups(weight, group)
        if weight.is_cuda:
            pairs = (levels[:, ::2] << 4 | levels[:, 1::2]).to(torch.uint8)
            tiles = next(n for n in (8, 4, 2) if self.in_features % (16 * n) == 0)
            packed = torch.ops.aten._convert_weight_to_int4pack(pairs, tiles)
        else:
            packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels, 1)
        self.register_buffer("levels", packed)
        self.register_buffer("ranges", ranges)

    def _product(self, rows: Tensor) -> Tensor:
        multiply = torch.ops.aten._weight_int4pack_mm if rows.is_cuda else torch.ops.aten._weight_int4pack_mm_for_cpu
        product: Tensor = multiply(rows.bfloat16(), self.levels, self.group, self.ranges)
        return product


def _dequantised_groups(weight: Tensor, bias: nn.Parameter | None, group: int) -> nn.Module:
    return _float_linear(dequantised_groups(*rounded_groups(weight, group)).to(weight.dtype), bias)


def _float_linear(weight: Tensor, bias: nn.Parameter | None) -> nn.Module:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    made.register_parameter("bias", bias)
    return made.eval()


def _registered(operator: str) -> bool:
    """Whether this build of torch has a CUDA kernel for an operator."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(operator, "CUDA"))


# 8-bit tables --------------------------------------------------------------------------------------------------------


def table_bytes(rows: int, width: int) -> int:
    """Of an 8-bit table: a byte a value, and a float32 scale and zero point a row."""
    return rows * (width + 8)


class Int8Embedding(nn.Module):
    """A table of 8-bit rows, each with its range; only rows that are looked up become floats.

    A row is stored as torch's kernel of the CPU reads it: its levels 0 to 255, its scale and its least value. On CUDA,
    rows are gathered and then dequantised.
    """

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = weight.shape
        self.dtype = weight.dtype
        packed = torch.ops.quantized.embedding_bag_byte_prepack(weight.detach().float().cpu())
        self.register_buffer("weight", packed.to(weight.device))
        self.eval()

    def forward(self, ids: Tensor) -> Tensor:
        """From ids of any shape to (*ids, width), in the dtype of the float table."""
        if ids.is_cuda:
            rows = functional.embedding(ids, self.weight)
            scales, lows = rows[..., -8:].contiguous().view(torch.float32).split(1, -1)
            looked_up: Tensor = rows[..., :-8] * scales + lows
            return looked_up.to(self.dtype)
        bags_of_one = ids.reshape(-1, 1).contiguous()
        bags: Tensor = torch.ops.quantized.embedding_bag_byte_rowwise_offsets(self.weight, bags_of_one)
        return bags.to(self.dtype).view(*ids.shape, self.embedding_dim)
