"""Modules that others quantised: the float module that each stands for, and what it stores.

Counts are those of the float model; bytes are those that are stored. A quantised linear is recognised without its
library: by torch's own classes, which pack weights away, or by `in_features` and `out_features` that its parameters do
not add up to (bitsandbytes, GPTQ). Tensor subclasses (torchao) stay parameters of the logical shape and are opened.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize

from bertprof.measure.parameters import Storage


class StandIn(NamedTuple):
    """A float module without storage, of the same shape as a quantised one, and what the quantised one stores.

    Attributes:
        module: on the meta device.
        storage: name of its parameter (weight, bias) → what is stored for it.
        format: what the quantised module is called.
    """

    module: nn.Module
    storage: dict[str, Storage]
    format: str


def stand_in(module: nn.Module, dtype: torch.dtype) -> StandIn | None:
    """The float module that a quantised one stands for; None for a module that is not quantised.

    Args:
        module: any module.
        dtype: of the float model.
    """
    if isinstance(module, torch.jit.ScriptModule) or parametrize.is_parametrized(module):
        return None
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    inside, outside = getattr(module, "in_features", None), getattr(module, "out_features", None)
    rows, width = getattr(module, "num_embeddings", None), getattr(module, "embedding_dim", None)
    if isinstance(inside, int) and isinstance(outside, int):
        weight = module._parameters.get("weight")
        if type(module) is nn.Linear or (weight is not None and weight.shape == (outside, inside)):
            return None
        if weight is None and any(isinstance(child, nn.Linear) for child in module.children()):
            return None  # an adapter around a linear
        biased = _tensor(module, "bias") is not None
        made: nn.Module = nn.Linear(inside, outside, bias=biased, device="meta", dtype=dtype)
        return StandIn(made, _linear_storage(module, inside * outside, outside if biased else 0), kind)
    if isinstance(rows, int) and isinstance(width, int) and module._parameters.get("weight") is None:
        packed = _tensor(module, "weight")
        if packed is None:
            return None
        made = nn.Embedding(rows, width, device="meta", dtype=dtype)
        return StandIn(made, {"weight": _of_tensor(packed, rows * width)}, kind)
    return None


def _tensor(module: nn.Module, name: str) -> torch.Tensor | None:
    """A tensor of a module; torch's quantised modules hand theirs out by a method of that name."""
    value: Any = getattr(module, name, None)
    if callable(value) and not isinstance(value, torch.Tensor):
        value = value()
    return value if isinstance(value, torch.Tensor) else None


def _linear_storage(module: nn.Module, weights: int, biases: int) -> dict[str, Storage]:
    weight, bias = _tensor(module, "weight"), _tensor(module, "bias")
    stored: dict[str, Storage] = {}
    if bias is not None:
        stored["bias"] = of_parameter(bias)
    if weight is not None and weight.is_quantized:
        stored["weight"] = _of_tensor(weight, weights)
    else:
        # Whatever the module holds besides its bias is how it stores its weight: packed integers, scales, zero points.
        held = [t for t in (*module.parameters(), *module.buffers()) if t is not bias]
        stored["weight"] = Storage(weights, sum(map(stored_bytes, held)))
    return stored


def _of_tensor(tensor: torch.Tensor, logical: int) -> Storage:
    if not tensor.is_quantized:
        return Storage(logical, stored_bytes(tensor), _nonzero(tensor))
    return Storage(logical, stored_bytes(tensor), int(torch.count_nonzero(tensor.dequantize())))


def of_parameter(parameter: torch.Tensor) -> Storage:
    """What is stored for a parameter of the logical shape, a tensor subclass opened."""
    return Storage(parameter.numel(), stored_bytes(parameter), _nonzero(parameter))


def stored_bytes(tensor: torch.Tensor) -> int:
    """Bytes as stored.

    A quantised tensor of torch holds its integers and, per tensor, a float64 scale and an int64 zero point, or one of
    each per channel. A tensor subclass holds the tensors inside of it.
    """
    if tensor.is_quantized:
        integers = tensor.numel() * tensor.element_size()
        if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            return integers + 16
        scales, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
        return integers + scales.numel() * scales.element_size() + zeros.numel() * zeros.element_size()
    if tensor.layout is not torch.strided:
        return sum(map(stored_bytes, _of_sparse(tensor)))
    inner = list(_inside(tensor))
    return sum(map(stored_bytes, inner)) if inner else tensor.numel() * tensor.element_size()


def _of_sparse(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The values of a sparse tensor, then its indices."""
    detached = tensor.detach()
    if detached.layout is torch.sparse_coo:
        detached = detached.coalesce()
        return [detached.values(), detached.indices()]
    by_rows = detached.layout in (torch.sparse_csr, torch.sparse_bsr)
    if by_rows:
        return [detached.values(), detached.crow_indices(), detached.col_indices()]
    return [detached.values(), detached.ccol_indices(), detached.row_indices()]


def is_opened(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a subclass that holds others."""
    return next(_inside(tensor), None) is not None


def _inside(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None or type(tensor) in (torch.Tensor, nn.Parameter):
        return
    names, _ = flatten()
    for name in names:
        value = getattr(tensor, name)
        if isinstance(value, torch.Tensor):
            yield value


def _nonzero(tensor: torch.Tensor) -> int | None:
    if tensor.device.type == "meta":
        return None
    if tensor.layout is not torch.strided:
        return int(torch.count_nonzero(_of_sparse(tensor)[0]))
    if is_opened(tensor):
        dequantize = getattr(tensor, "dequantize", None)
        if dequantize is None:
            return None
        try:
            tensor = dequantize()
        except Exception:  # a layout that only its kernels can read
            return None
    with torch.inference_mode():
        return int(torch.count_nonzero(tensor))
