"""Physically pruned models: units that hold fewer heads or FFN columns than their configuration says.

A pruned layer differs from its configuration in inner widths alone: rows of query, key and value with the columns of
the output projection, a whole number of heads, or rows of the first linear of an FFN with the columns of its second.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bertprof.attribution import Region, component_of_parameter
from bertprof.components import Component
from bertprof.errors import ConfigurationError
from bertprof.measure.anatomy import bases_of

Shape = tuple[int, ...]

_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
_WIDTHS = ("all_head_size", "split_size")
"""What attention modules call their number of heads, and the width of all heads together where their forward uses it.
Most forwards use neither and take the heads from the shapes."""

_OUTPUTS = ("out_features", "out_channels", "nf", "embedding_dim")
_INPUTS = ("in_features", "in_channels", "nx")

_ATTENTION = (Component.ATTENTION_LINEAR_IN, Component.SOFTMAX_ATTENTION)


class UnprunableError(Exception):
    """Why heads or columns of a unit cannot be removed."""


class _Cut(NamedTuple):
    """A parameter that has a part of each head or column.

    Attributes:
        module: the module that holds it.
        leaf: its name there.
        axis: the axis along which these parts stand.
        shape: how that axis is arranged, in two dimensions or more.
        along: the dimension of `shape` that counts heads or columns.
    """

    module: nn.Module
    leaf: str
    axis: int
    shape: Shape
    along: int

    @property
    def parameter(self) -> nn.Parameter:
        return self.module._parameters[self.leaf]  # type: ignore[return-value]

    def squares(self) -> Tensor:
        """The sum of squares of each part, in float64."""
        others = [axis for axis in range(self.parameter.dim()) if axis != self.axis]
        norms: Tensor = torch.linalg.vector_norm(self.parameter.detach(), dim=others, dtype=torch.float64)
        return norms.square().view(self.shape).movedim(self.along, 0).flatten(1).sum(1)

    def of(self, kept: Sequence[int]) -> nn.Parameter:
        """A new parameter with these parts alone."""
        places = torch.arange(math.prod(self.shape)).view(self.shape)
        places = places.index_select(self.along, torch.tensor(kept)).flatten()
        old = self.parameter
        new = old.detach().index_select(self.axis, places.to(old.device))
        return nn.Parameter(new, requires_grad=old.requires_grad)


@dataclass(frozen=True)
class Slices:
    """What can be removed of a unit: the heads of its attention, or the columns of an FFN.

    Attributes:
        kind: which of both.
        count: how many there are.
        firsts: the weights of the linears before softmax attention, or before the activation: outputs are removed.
        second: the weight of the linear behind it, of which inputs are removed.
        others: biases and whatever else has a part of each.
        holders: modules that have the number of heads, or the width of all, as an attribute.
        shared: whether `others` has a table that serves the heads of all units.
    """

    kind: Literal["heads", "FFN columns"]
    count: int
    firsts: Sequence[_Cut]
    second: _Cut
    others: Sequence[_Cut]
    holders: Sequence[nn.Module] = ()
    shared: bool = False

    @property
    def cuts(self) -> list[_Cut]:
        """All parameters that have a part of each."""
        return [*self.firsts, self.second, *self.others]

    def squared_norms(self) -> Tensor:
        """How much each weighs, squared, in float64.

        Of a head the L2 norm of all its weights, its rows of each linear before attention and its columns of the one
        behind. Of an FFN column the product of two norms: that of its row of the first linear (of both halves of a
        gated one together) and that of its column of the second, as the one scales what the other finds.
        """
        before = torch.stack([cut.squares() for cut in self.firsts]).sum(0)
        return before + self.second.squares() if self.kind == "heads" else before * self.second.squares()


def keep(group: Sequence[Slices], kept: Sequence[int]) -> None:
    """Removes all heads or columns but these, in place. A parameter that several modules hold stays one.

    Args:
        group: of one unit, or of several that share parameters.
        kept: the indices that stay, rising.
    """
    narrowed: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}  # the old one too, so that its id stays its own
    done = set()
    for slices in group:
        for cut in slices.cuts:
            old = cut.parameter
            if (id(cut.module), cut.leaf) in done:  # a table of all units
                continue
            done.add((id(cut.module), cut.leaf))
            if id(old) not in narrowed:
                narrowed[id(old)] = old, cut.of(kept)
            setattr(cut.module, cut.leaf, narrowed[id(old)][1])
            names = _INPUTS if cut is slices.second else _OUTPUTS
            if cut.leaf == "weight":
                _set(cut.module, names, old.shape[cut.axis], cut.parameter.shape[cut.axis])
        width = math.prod(slices.second.shape)
        for holder in slices.holders:
            _set(holder, _HEADS, slices.count, len(kept))
            _set(holder, _WIDTHS, width, width // slices.count * len(kept))


def _set(module: nn.Module, names: Sequence[str], before: int, after: int) -> None:
    for name in names:
        if getattr(module, name, None) == before:
            setattr(module, name, after)


# What a unit has -----------------------------------------------------------------------------------------------------


class _Linear(NamedTuple):
    """A linear of a unit, whatever its class."""

    path: str
    module: Any
    component: Component

    @property
    def outputs(self) -> int:
        return int(self.module.weight.shape[self._axis])

    @property
    def inputs(self) -> int:
        return int(self.module.weight.shape[1 - self._axis])

    @property
    def _axis(self) -> int:
        """Of its outputs."""
        return 1 if isinstance(self.module, Conv1D) else 0

    def cuts_of_outputs(self, shape: Shape, along: int) -> list[_Cut]:
        """Its weight and, where there is one, its bias."""
        weight = _Cut(self.module, "weight", self._axis, shape, along)
        return [weight] if self.module.bias is None else [weight, weight._replace(leaf="bias", axis=0)]

    def cut_of_inputs(self, shape: Shape) -> _Cut:
        return _Cut(self.module, "weight", 1 - self._axis, shape, 0)


def heads_of(model: nn.Module, path: str, regions: Mapping[str, Region]) -> list[Slices]:
    """The heads of a unit's attention.

    Fused projections hold query, key and value one after the other (GPT-2, ModernBERT), DeBERTa's those of a head
    together. Projections of relative positions are linears before attention like others.

    Args:
        model: on any device.
        path: of the unit.
        regions: module path → region.

    Raises:
        UnprunableError: they cannot be removed; the text says why.
    """
    unit, family = model.get_submodule(path), _family(model, path)
    if any(isinstance(module, nn.MultiheadAttention) for module in unit.modules()):
        raise UnprunableError("nn.MultiheadAttention cannot run with fewer heads than fill its width")
    linears = _linears(unit, path, regions, (*_ATTENTION, Component.ATTENTION_LINEAR_OUT))
    seconds = [linear for linear in linears if linear.component is Component.ATTENTION_LINEAR_OUT]
    attention = next((module for module in unit.modules() if _head_size(module)), None)
    if len(seconds) != 1:
        raise UnprunableError(f"it has {'more than one' if seconds else 'no'} linear behind attention")
    if attention is None:
        raise UnprunableError("no module of it says how wide a head is (attention_head_size or head_dim)")
    (second,), size = seconds, _head_size(attention)
    width, count = second.inputs, second.inputs // size
    if width % size:
        raise UnprunableError(f"heads of {size} do not make up the {width} inputs of {second.path}")
    firsts, others = [], []
    for linear in linears:
        if linear is second:
            continue
        parts = linear.outputs // width
        if linear.outputs % width:
            raise UnprunableError(f"{linear.path} does not have outputs of each head")
        if parts > 1 and family is None:
            raise UnprunableError(f"which outputs of {linear.path} are of which head does not show")
        fused_by_head = family == "deberta" and parts > 1
        shape, along = ((count, parts, size), 0) if fused_by_head else ((parts, count, size), 1)
        weight, *bias = linear.cuts_of_outputs(shape, along)
        firsts.append(weight)
        others += bias
    for name, parameter in attention.named_parameters(recurse=False):
        if parameter.shape == (width,):  # biases of DeBERTa's queries and values
            others.append(_Cut(attention, name, 0, (count, size), 0))
    holders = [attention]
    if family == "mpnet":
        encoder: Any = model.get_submodule(path.rpartition(".layer.")[0])
        others.append(_Cut(encoder.relative_attention_bias, "weight", 1, (count, 1), 0))
        holders.append(encoder)
    if not firsts:
        raise UnprunableError("no linear before attention is found")
    second_cut = second.cut_of_inputs((count, size))
    return [Slices("heads", count, firsts, second_cut, others, holders, shared=family == "mpnet")]


def columns_of(model: nn.Module, path: str, regions: Mapping[str, Region]) -> list[Slices]:
    """The columns of a unit's FFN, or of each where several are stacked (MobileBERT).

    A gated FFN has two linears before its activation, or one that holds both, one after the other (ModernBERT).

    Args:
        model: on any device.
        path: of the unit.
        regions: module path → region.

    Raises:
        UnprunableError: they cannot be removed; the text says why.
    """
    pairs: list[tuple[list[_Linear], _Linear]] = []
    open_: list[_Linear] = []
    for linear in _linears(model.get_submodule(path), path, regions, (Component.FFN,)):
        width = linear.inputs
        if open_ and linear.outputs == open_[0].inputs and all(one.outputs % width == 0 for one in open_):
            pairs.append((open_, linear))
            open_ = []
        else:
            open_.append(linear)
    for linear in open_:  # the gate of an FFN may be listed behind its second linear
        fits = len(pairs) == 1 and linear.inputs == pairs[0][1].outputs and linear.outputs == pairs[0][1].inputs
        if not fits or linear.inputs == linear.outputs:
            raise UnprunableError(f"which linears of its FFN belong together does not show ({linear.path})")
        pairs[0][0].append(linear)
    if not pairs:
        raise UnprunableError("no two linears of an FFN are found")
    found = []
    for before, second in pairs:
        width = second.inputs
        cuts = [one.cuts_of_outputs((one.outputs // width, width), 1) for one in before]
        biases = [bias for _, *rest in cuts for bias in rest]
        found.append(
            Slices("FFN columns", width, [weight for weight, *_ in cuts], second.cut_of_inputs((width, 1)), biases)
        )
    return found


def _linears(
    unit: nn.Module, path: str, regions: Mapping[str, Region], components: Sequence[Component]
) -> list[_Linear]:
    """The linears of these components, in the order in which the unit holds them.

    Raises:
        UnprunableError: one of them is a grouped convolution, or a matrix of theirs is no linear's: a bare parameter
            (XLNet), a parametrisation, an adapter. Tables of positions do not matter.
    """
    found = []
    for below, module in unit.named_modules():
        pointwise = isinstance(module, nn.Conv1d) and module.kernel_size == (1,)
        component = component_of_parameter(f"{path}.{below}.weight", regions)
        if (isinstance(module, nn.Linear | Conv1D) or pointwise) and component in components:
            if getattr(module, "groups", 1) > 1:
                raise UnprunableError(f"{below} is a grouped convolution, whose groups cut across heads and columns")
            if isinstance(module._parameters.get("weight"), nn.Parameter):
                found.append(_Linear(below, module, component))
    known = {id(linear.module.weight) for linear in found}
    for below, parameter in unit.named_parameters():
        component = component_of_parameter(f"{path}.{below}", regions)
        matters = component in components and component is not Component.SOFTMAX_ATTENTION
        if matters and parameter.dim() > 1 and id(parameter) not in known:
            raise UnprunableError(f"{below} is the weight of no linear")
    return found


def _head_size(module: nn.Module) -> int:
    """The width of one head, where this is the module that splits heads, else 0."""
    size = getattr(module, "attention_head_size", getattr(module, "head_dim", 0))
    return size if isinstance(size, int) else 0


def _family(model: nn.Module, path: str) -> str | None:
    """The family of the base model in which a unit stands; None: none that is known."""
    return next((base.family for base in bases_of(model) if not base.path or path.startswith(f"{base.path}.")), None)


# The shapes of a checkpoint ------------------------------------------------------------------------------------------


def shrink(model: nn.Module, wanted: Mapping[str, Shape], regions: Mapping[str, Region]) -> dict[str, str]:
    """Gives the units of a model the smaller shapes of a pruned one, as far as these are shapes of a pruned one.

    Changed in place are the linears, parameters of the attention module itself and its numbers of heads; device and
    dtype stay. What is narrowed holds the first of its values until others are loaded.

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
    asked = {id(p): wanted.get(name, shapes[name]) for name, p in model.named_parameters()}
    different = [name for name, shape in wanted.items() if shape != shapes[name]]
    left: dict[str, str] = {}
    for path, region in regions.items():
        if not region.unit or not any(name.startswith(f"{path}.") for name in different):
            continue
        parts = []
        for find in (heads_of, columns_of):
            slices: list[Slices] = []
            with suppress(UnprunableError):
                slices = find(model, path, regions)
            for one in slices:
                kept = _left_by(one, asked)
                if kept is None:
                    continue
                parts.append(f"{kept:,} of {one.count:,} {one.kind}")
                if one.shared:
                    raise ConfigurationError(
                        f"unit {_number(path)} holds {parts[-1]}, but one table of position biases serves the heads "
                        f"of all units of {type(model).__name__}, which therefore cannot run it; remove the same heads "
                        "everywhere"
                    )
                keep([one], range(kept))
        if parts:
            left[_number(path)] = ", ".join(parts)
    return left


def _left_by(slices: Slices, asked: Mapping[int, Shape]) -> int | None:
    """How many heads or columns these shapes leave, by parameter; None: all, or they are not those of fewer."""
    cut, now = slices.second, slices.second.parameter.shape
    then = asked[id(cut.parameter)]
    first = [asked[id(one.parameter)] != tuple(one.parameter.shape) for one in slices.firsts]
    size = now[cut.axis] // slices.count
    if len(then) != len(now) or not any(first) or not 0 < then[cut.axis] < now[cut.axis] or then[cut.axis] % size:
        return None
    return then[cut.axis] // size


def _number(path: str) -> str:
    """The unit's number, or numbers: ALBERT has that of the group and that within it."""
    return ".".join(part for part in path.split(".") if part.isdecimal())
