"""What a model is run on: tensors, tuples, dicts, keyword arguments or a tokenizer's output, in one form."""

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import nn

from bertprof.errors import UsageError

_MOST_KNOWN = 1 << 20
"""The most entries of an input that keeps its values when only shapes are run."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device, torch.Size)


class Inputs(NamedTuple):
    """The arguments of a forward.

    Attributes:
        args: by position.
        kwargs: by name.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Inputs":
        """Copies of all containers, in which every tensor is replaced; what else there is stays."""
        return Inputs(_mapped(self.args, change), _mapped(self.kwargs, change))

    def fresh(self) -> "Inputs":
        """The same tensors in new containers: a pipeline writes into its dict, a cache of keys grows with each call."""
        return self.mapped(lambda tensor: tensor)

    def for_twin(self) -> "Inputs":
        """The inputs of a model without storage: ids and masks with their values, on the CPU, the rest on meta."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            known = not tensor.is_floating_point() and tensor.numel() <= _MOST_KNOWN and tensor.device.type != "meta"
            return tensor.to("cpu" if known else "meta")

        return self.mapped(moved)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor with the name of the argument that it stands in, or its position."""
        for name, value in (*enumerate(self.args), *self.kwargs.items()):
            if isinstance(value, Mapping):
                yield from ((f"{key}", tensor) for key, item in value.items() for tensor in tensors_of(item))
            else:
                yield from ((f"{name}", tensor) for tensor in tensors_of(value))

    def get(self, name: str) -> Any:
        """The argument of that name, or the entry of that name in the one dict that is the argument; else None."""
        for holder in (self.kwargs, *self.args):
            if isinstance(holder, Mapping) and holder.get(name) is not None:
                return holder[name]
        return None


def read_inputs(inputs: Any, model: nn.Module) -> Inputs:
    """The inputs as a user gave them, in the form in which `model` takes them.

    A tensor or a tuple is passed by position. A dict is passed as keyword arguments if the forward has those names,
    else as one argument by position (a sentence-transformers pipeline). A tokenizer's output is a dict.

    Raises:
        UsageError: there is no tensor in them, or a dict's keys are no names.
    """
    if isinstance(inputs, Inputs):
        found = inputs
    elif isinstance(inputs, Mapping):
        values = dict(inputs)
        if not values or not all(isinstance(key, str) for key in values):
            raise UsageError("inputs: a dict maps the names of the forward's arguments to their values")
        found = Inputs(kwargs=values) if _takes(model, values) else Inputs(args=(inputs,))
    elif isinstance(inputs, tuple | list):
        found = Inputs(args=tuple(inputs))
    else:
        found = Inputs(args=(inputs,))
    if not any(True for _ in found.tensors()):
        raise UsageError(
            "inputs hold no tensor: give a tensor, a tuple of positional arguments, or a dict of keyword arguments"
        )
    return found


def _takes(model: nn.Module, values: Mapping[str, Any]) -> bool:
    """Whether the forward takes these names: it demands no other, and knows them or whatever comes."""
    parameters = inspect.signature(model.forward).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    needed = {
        p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.default is p.empty
    }
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return needed <= set(values) and (anything or set(values) <= named)


def size_of(inputs: Inputs) -> tuple[int, int | None]:
    """Sequences in the batch, and tokens in a sequence, None where none shows.

    From input_ids (batch, ..., sequence) or inputs_embeds (batch, ..., sequence, hidden) where there are such, the
    choices of a multiple-choice model being sequences; else from the first tensor, (batch, sequence, ...).

    Raises:
        UsageError: input_ids or inputs_embeds have too few dimensions, or a dimension is empty.
    """
    for key, width in (("input_ids", 0), ("inputs_embeds", 1)):
        value = inputs.get(key)
        if value is not None:
            if not isinstance(value, torch.Tensor) or value.ndim < 2 + width:
                raise UsageError(f"input {key} must be a tensor of shape (batch, sequence, ...)")
            leading = value.shape[: value.ndim - width]
            break
    else:
        first = next(tensor for _, tensor in inputs.tensors())
        leading = first.shape[: 1 if first.ndim > 3 else 2]  # (batch, channels, height, width) is no sequence
    sizes = (*leading[:-1], leading[-1]) if len(leading) > 1 else (*leading, None)
    batch = math.prod(sizes[:-1])
    if batch < 1 or sizes[-1] == 0:
        raise UsageError(f"inputs of shape {tuple(leading)} are empty: there is nothing to measure")
    return batch, sizes[-1]


def tensors_of(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in an argument or an output, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_of(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_of(item)


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) is dict:
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, MutableMapping):  # a tokenizer's output, whose entries are attributes too
        changed = copy.copy(value)
        for key, item in value.items():
            changed[key] = _mapped(item, change)
        return changed
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(item, change) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(_mapped(item, change) for item in value)
    if isinstance(value, _PLAIN) or callable(value):
        return value
    # An object with tensors inside, such as transformers' caches: a copy in which each tensor is the changed one.
    held: dict[int, torch.Tensor] = {}
    _collect(value, held, set())
    return copy.deepcopy(value, {key: change(tensor) for key, tensor in held.items()})


def _collect(value: Any, held: dict[int, torch.Tensor], seen: set[int]) -> None:
    if id(value) in seen or isinstance(value, _PLAIN):
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        held[id(value)] = value
    elif isinstance(value, Mapping):
        for item in value.values():
            _collect(item, held, seen)
    elif isinstance(value, tuple | list):
        for item in value:
            _collect(item, held, seen)
    elif hasattr(value, "__dict__"):
        _collect(vars(value), held, seen)
