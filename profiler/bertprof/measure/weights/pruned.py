"""Physically pruned models: units that hold fewer heads or FFN columns than their configuration says.

A pruned layer differs from its configuration in inner widths alone: rows of query, key and value with the columns of
the output projection, a whole number of heads, or rows of the first linear of an FFN with the columns of its second.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from bertprof.attribution import Region, component_of_parameter
from bertprof.components import Component
from bertprof.errors import ConfigurationError

Shape = tuple[int, ...]

_HEADS = ("num_attention_heads", "n_heads", "num_heads")
_WIDTHS = ("all_head_size", "split_size")
"""What attention modules call their number of heads, and the width of all heads together where their forward uses it.
Most forwards use neither and take the heads from the shapes."""

_ATTENTION = (Component.ATTENTION_LINEAR_IN, Component.SOFTMAX_ATTENTION)


class _Linear(NamedTuple):
    """A linear of a unit, whatever its class, and the shape that its weight is to have."""

    module: Any
    component: Component
    wanted: Shape

    @property
    def now(self) -> tuple[int, int]:
        """Its outputs and inputs."""
        return self._widths(tuple(self.module.weight.shape))

    @property
    def then(self) -> tuple[int, int]:
        """The outputs and inputs that it is to have."""
        return self._widths(self.wanted)

    def _widths(self, shape: Shape) -> tuple[int, int]:
        if isinstance(self.module, Conv1D):
            return shape[1], shape[0]
        return shape[0], shape[1] * getattr(self.module, "groups", 1)

    def resize(self, outs: int, ins: int) -> None:
        """Gives it these widths; whether there is a bias stays."""
        module = self.module
        if isinstance(module, Conv1D):
            _replace(module, "weight", (ins, outs))
        else:
            _replace(module, "weight", (outs, ins // getattr(module, "groups", 1), *module.weight.shape[2:]))
        if module.bias is not None:
            _replace(module, "bias", (outs,))
        _set(module, ("out_features", "out_channels", "nf"), outs)
        _set(module, ("in_features", "in_channels", "nx"), ins)


def shrink(model: nn.Module, wanted: Mapping[str, Shape], regions: Mapping[str, Region]) -> dict[str, str]:
    """Gives the units of a model the smaller shapes of a pruned one, as far as these are shapes of a pruned one.

    Changed in place are the linears, parameters of the attention module itself and its numbers of heads; device and
    dtype stay. New parameters are zero.

    Args:
        model: as its configuration makes it, on any device.
        wanted: parameter → shape. Parameters that are not in it are taken to fit.
        regions: module path → region.

    Returns:
        The number of each unit that was changed → what is left of it, in words.

    Raises:
        ConfigurationError: heads are removed from a model whose units share a table with one column a head.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    different = [name for name, shape in wanted.items() if shape != shapes[name]]
    left: dict[str, str] = {}
    for path, region in regions.items():
        if not region.unit or not any(name.startswith(f"{path}.") for name in different):
            continue
        unit = model.get_submodule(path)
        linears = []
        for below, module in unit.named_modules():
            name = f"{path}.{below}.weight"
            pointwise = isinstance(module, nn.Conv1d) and module.kernel_size == (1,)
            if isinstance(module, nn.Linear | Conv1D) or pointwise:
                shape = wanted.get(name, shapes[name])
                if len(shape) == len(shapes[name]):
                    linears.append(_Linear(module, component_of_parameter(name, regions), shape))
        heads = _shrink_attention(unit, linears)
        if heads and getattr(model.config, "relative_attention_num_buckets", None):  # MPNet
            raise ConfigurationError(
                f"unit {_number(path)} holds {heads[0]}, but one table of position biases serves the heads of all "
                f"units of {type(model).__name__}, which therefore cannot run it; remove the same heads everywhere"
            )
        if parts := [*heads, *_shrink_ffn(linears)]:
            left[_number(path)] = ", ".join(parts)
    return left


def _number(path: str) -> str:
    """The unit's number, or numbers: ALBERT has that of the group and that within it."""
    return ".".join(part for part in path.split(".") if part.isdecimal())


def _shrink_attention(unit: nn.Module, linears: Sequence[_Linear]) -> list[str]:
    """Removes heads where the output projection is to have the columns of fewer."""
    attention = next((m for m in unit.modules() if _head_size(m)), None)
    out = next((linear for linear in linears if linear.component is Component.ATTENTION_LINEAR_OUT), None)
    if attention is None or out is None:
        return []
    (rows, width), (_, kept), size = out.now, out.then, _head_size(attention)
    if not 0 < kept < width or kept % size:
        return []
    out.resize(rows, kept)
    for linear in linears:
        outs, ins = linear.now
        if linear.component in _ATTENTION and outs % width == 0:  # fused ones are several times as wide
            linear.resize(outs // width * kept, ins)
    for name, parameter in attention.named_parameters(recurse=False):
        if parameter.shape == (width,):  # biases of DeBERTa's queries and values
            _replace(attention, name, (kept,))
    _set(attention, _HEADS, kept // size)
    _set(attention, _WIDTHS, kept)
    return [f"{kept // size} of {width // size} heads"]


def _head_size(module: nn.Module) -> int:
    """The width of one head, where this is the module that splits heads, else 0."""
    size = getattr(module, "attention_head_size", getattr(module, "head_dim", 0))
    return size if isinstance(size, int) else 0


def _shrink_ffn(linears: Sequence[_Linear]) -> list[str]:
    """Removes columns where a linear of the FFN is to have fewer, and so are those before it that feed it."""
    parts: list[str] = []
    feeding: list[_Linear] = []
    for linear in linears:
        if linear.component is not Component.FFN:
            continue
        (outs, width), (_, kept) = linear.now, linear.then
        changed = [one for one in feeding if one.then[0] != one.now[0]]
        if not (0 < kept < width and changed):
            feeding.append(linear)
            continue
        linear.resize(outs, kept)
        for one in changed:
            one.resize(one.now[0] * kept // width, one.now[1])
        parts.append(f"{kept:,} of {width:,} FFN columns")
        feeding = []
    return parts


def _replace(module: nn.Module, name: str, shape: Shape) -> None:
    old = getattr(module, name)
    new = torch.zeros(shape, dtype=old.dtype, device=old.device)
    setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))


def _set(module: nn.Module, names: Sequence[str], value: int) -> None:
    for name in names:
        if hasattr(module, name):
            setattr(module, name, value)
