"""Data quantization (DQ): fewer bits a weight, as other floats or run by kernels that read integers.

Counts stay those of the float model; bytes are those that the quantised modules hold. For widths that no kernel runs
see `groupwise`.
"""

import copy
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bertprof.attribution import component_of_parameter
from bertprof.components import Component
from bertprof.compress import kernels
from bertprof.compress.methods import FLOAT_BITS
from bertprof.compress.recipe import Recipe
from bertprof.compress.subjects import (
    BACKBONES,
    Place,
    chosen_units,
    converted,
    lost_nonzeros,
    places_of,
    stored_of,
    units_of,
)
from bertprof.measure.build import DTYPES
from bertprof.measure.parameters import Storage
from bertprof.measure.subject import Opened, Subject
from bertprof.record import Caveat

# Another float format ------------------------------------------------------------------------------------------------

_CASTS = {"fp16": "float16", "bf16": "bfloat16"}


def cast(subject: Subject, recipe: Recipe) -> Subject:
    """fp16, bf16: every weight, buffer and floating-point input; 2 bytes a scalar, however a checkpoint stores it.

    Non-zeros are those from before: few weights as BERT's, about one in a million, are below 2^-25, what float16 rounds
    to zero.
    """
    assert subject.twin is not None
    name = _CASTS[recipe.method.name]
    dtype = DTYPES[name]
    asked = subject.workload.dtype
    if asked not in ("float32", name) and subject.workload.weights != "module":
        raise recipe.refused(f"the model is asked for in {asked} already; leave out --dtype or the recipe")

    def moved(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        range_ = torch.finfo(dtype)  # a mask's least number of float32 is below it
        return tensor.clamp(range_.min, range_.max).to(dtype)

    @contextmanager
    def open_() -> Iterator[Opened]:
        with subject.open() as opened:
            yield opened._replace(model=opened.model.to(dtype), inputs=opened.inputs.mapped(moved))

    storage = {}
    for parameter_name, parameter in subject.twin.named_parameters():
        before = stored_of(subject, parameter_name, parameter)
        if parameter.is_floating_point():
            size = before.index_bytes + values_of(before) * dtype.itemsize
            storage[parameter_name] = before._replace(parameter_bytes=size)
        else:
            storage[parameter_name] = before
    unpadded = None if subject.unpadded is None else [inputs.mapped(moved) for inputs in subject.unpadded]
    return replace(
        subject,
        workload=msgspec.structs.replace(subject.workload, dtype=name),
        twin=copy.deepcopy(subject.twin).to(dtype),
        twin_inputs=subject.twin_inputs.mapped(moved),
        unpadded=unpadded,
        open=open_,
        storage=storage,
        caveats=[caveat for caveat in subject.caveats if caveat.code != "stored-otherwise"],
    )


# Kernels of linears --------------------------------------------------------------------------------------------------


def int8(subject: Subject, recipe: Recipe) -> Subject:
    """int8: 8-bit linears on activations quantised as they come; see `kernels.dynamic_int8`."""
    dtype = subject.workload.dtype
    if subject.device.type != "cuda" and dtype != "float32":
        raise recipe.refused(
            f"the integer kernels of the CPU take float32 activations, and these are {dtype}; leave out --dtype"
        )
    return _run_by(kernels.dynamic_int8(subject.device), 8, subject, recipe)


def int8_weight(subject: Subject, recipe: Recipe) -> Subject:
    """int8-weight: 8-bit linears on float activations; see `kernels.weight_int8`."""
    return _run_by(kernels.weight_int8(subject.device), 8, subject, recipe)


def int4_weight(subject: Subject, recipe: Recipe) -> Subject:
    """int4-weight: 4-bit linears on bfloat16 activations; see `kernels.weight_int4`."""
    group = recipe.options["group-size"]
    if wrong := kernels.unknown_group(group):
        raise recipe.refused(wrong)
    return _run_by(kernels.weight_int4(subject.device, group), 4, subject, recipe)


class _Linear(NamedTuple):
    """Modules that multiply with one weight and add one bias: one linear, or several that share both.

    `weight` and `bias` are the names of their parameters in the twin; `paths` are all names of the modules.
    """

    weight: str
    bias: str | None
    outputs: int
    inputs: int
    paths: list[str]


def _run_by(kernel: kernels.Kernel, width: int, subject: Subject, recipe: Recipe) -> Subject:
    """The subject with linears that run by a kernel.

    They are all `nn.Linear`, and GPT-2's `Conv1D`, which is one transposed; with `units=` those of these units alone.
    Tables are quantised where `embedding=8` says so. A weight that is a table as well (a tied LM head) is then stored
    twice, in the form that each of both reads. How many are not zero is not known of what is rounded.

    Raises:
        UsageError: weights of the units are no linears, are of shapes that the kernel does not take, are stored without
            their zeros, or are shared with units that the recipe is not for.
    """
    assert subject.twin is not None
    places = places_of(subject)
    linears, left = _linears_of(kernel, subject, recipe, places)
    tables = _tables_of(subject, recipe, places)
    forms: dict[str, list[int]] = {}
    copies: Counter[str] = Counter()
    for linear in linears:
        forms.setdefault(linear.weight, []).append(kernel.weight_bytes(linear.outputs, linear.inputs))
        if linear.bias is not None and kernel.copies_bias:
            copies[linear.bias] += 1
    for name in tables:
        rows, columns = places[name].parameter.shape
        forms.setdefault(name, []).append(kernels.table_bytes(rows, columns))
    if any(name in subject.storage and subject.storage[name].index_bytes for name in forms):
        raise recipe.refused(
            "its kernel reads every weight, zeros as well: leave out storage= or 2:4 of sparsity, or take bits=8, "
            "which packs the rest alone and is executed dequantised"
        )
    converts = {path for holder in (*(linear.paths for linear in linears), *tables.values()) for path in holder}
    floats = _held_outside(subject.twin, converts, places)
    storage = {}
    for name, sizes in forms.items():
        before = stored_float(subject, recipe, places[name])
        if name in floats:
            sizes.append(before.parameter_bytes)
        storage[name] = Storage(before.parameters, sum(sizes))
    for name, number in copies.items():
        before = stored_of(subject, name, places[name].parameter)
        more = (number - 1 + (name in floats)) * places[name].parameter.nbytes
        storage[name] = before._replace(parameter_bytes=before.parameter_bytes + more)

    def convert(model: nn.Module) -> None:
        for linear in linears:
            module: Any = model.get_submodule(linear.paths[0])
            weight = module.weight.detach()
            weight = weight.t().contiguous() if isinstance(module, Conv1D) else weight
            _put(model, linear.paths, kernel.linear(weight, module.bias))
        for paths in tables.values():
            table: Any = model.get_submodule(paths[0])
            _put(model, paths, kernels.Int8Embedding(table.weight))

    listing = f"{len(linears)} × {width}-bit linear" + (f", {len(tables)} × 8-bit table" if tables else "")
    caveats = [quantised_caveat(listing, len(linears) + len(tables))]
    if several := [name for name, sizes in forms.items() if len(sizes) > 1]:
        text = f"{', '.join(several)}: stored once for each module that uses it, since they read it in different forms"
        caveats.append(Caveat(code="stored-twice", text=text))
    if left:
        text = f"{len(left)} linears outside of the units stay float, since the kernel takes other shapes: "
        caveats.append(Caveat(code="left-float", text=text + ", ".join(left), value=float(len(left))))
    if not kernel.exists:
        caveats.append(no_kernel_caveat(f"{width}-bit weights"))
    caveats += lost_nonzeros(subject, recipe, forms)
    backend = backend_with(subject, kernel.name)
    return converted(subject, convert, storage=storage, backend=backend, caveats=caveats)


def _linears_of(
    kernel: kernels.Kernel, subject: Subject, recipe: Recipe, places: Mapping[str, Place]
) -> tuple[list[_Linear], list[str]]:
    """The linears that a recipe is for, and those outside of the units that stay float, since they do not fit."""
    assert subject.twin is not None
    slots = units_of(subject.twin, subject.regions)
    chosen = frozenset(chosen_units(recipe, len(slots)))
    for unit in sorted(chosen):
        for path, module in slots[unit].module.named_modules():
            if type(module) not in (nn.Linear, nn.Embedding, Conv1D):
                for leaf, parameter in module.named_parameters(recurse=False):
                    if is_matrix(leaf, parameter):
                        where = ".".join(part for part in (slots[unit].path, path) if part)
                        raise recipe.refused(_unquantisable(leaf, where, module))
    for place in () if slots else places.values():
        path, _, leaf = place.name.rpartition(".")
        if place.component in BACKBONES and is_matrix(leaf, place.parameter):
            raise recipe.refused(_unquantisable(leaf, path, place.holder))
    names = {id(place.parameter): name for name, place in places.items()}
    found: dict[tuple[int, int], _Linear] = {}
    left: list[str] = []
    for path, module in subject.twin.named_modules(remove_duplicate=False):
        if not path or type(module) not in (nn.Linear, Conv1D):
            continue
        weight, bias = module.weight, module.bias
        assert isinstance(weight, Tensor)
        place = places[names[id(weight)]]
        if recipe.units is not None and not place.units & chosen:
            continue
        if place.units - chosen:
            raise recipe.refused(f"{sharers(place)}; name all of them or none")
        outputs, inputs = weight.shape[::-1] if isinstance(module, Conv1D) else weight.shape
        if wanted := kernel.misfit(outputs, inputs):
            if place.units:
                raise recipe.refused(f"{path} has {inputs} inputs and {outputs} outputs; the kernel takes {wanted}")
            left.append(path)
            continue
        name = None if bias is None else names[id(bias)]
        linear = _Linear(place.name, name, outputs, inputs, [])
        found.setdefault((id(weight), id(bias)), linear).paths.append(path)
    if not found:
        raise recipe.refused("the model has no nn.Linear that the kernel takes; there is nothing to quantise")
    return list(found.values()), left


def _unquantisable(leaf: str, path: str, module: nn.Module) -> str:
    return (
        f"{leaf} of {path} ({type(module).__name__}) is not the weight of an nn.Linear, and no kernel here runs it; "
        "bits= quantises weights of any kind, executed dequantised"
    )


def _tables_of(subject: Subject, recipe: Recipe, places: Mapping[str, Place]) -> dict[str, list[str]]:
    """The weights of the tables that a recipe is for → the paths of the modules that look up in them."""
    width = recipe.options.get("embedding", FLOAT_BITS)
    if width not in (8, FLOAT_BITS):
        raise recipe.refused(f"embedding={width}: tables run in 8 bits, or in {FLOAT_BITS}: they stay as they are")
    if width == FLOAT_BITS:
        return {}
    assert subject.twin is not None
    names = {id(place.parameter): name for name, place in places.items()}
    found: dict[str, list[str]] = {}
    for path, module in subject.twin.named_modules(remove_duplicate=False):
        if type(module) is nn.Embedding:
            name = names[id(module.weight)]
            if component_of_parameter(f"{path}.weight", subject.regions) is Component.EMBEDDING:
                found.setdefault(name, []).append(path)
    if not found:
        raise recipe.refused("the model has no nn.Embedding; leave out embedding=")
    return found


def _held_outside(model: nn.Module, paths: Collection[str], places: Mapping[str, Place]) -> set[str]:
    """The parameters that some other module than those at the paths holds."""
    names = {id(place.parameter): name for name, place in places.items()}
    holders = [module for path, module in model.named_modules() if path not in paths]
    return {names[id(p)] for holder in holders for p in holder.parameters(recurse=False)}


def _put(model: nn.Module, paths: list[str], module: nn.Module) -> None:
    for path in paths:
        holder, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(holder), leaf, module)


# What is quantised, and what a reader must know -----------------------------------------------------------------------


def is_matrix(leaf: str, parameter: Tensor) -> bool:
    """Whether a parameter has two dimensions or more, and is no bias that is kept by heads (XLNet's r_w_bias)."""
    return sum(size > 1 for size in parameter.shape) >= 2 and not leaf.endswith("bias")


def sharers(place: Place) -> str:
    """Which units use a weight, in words."""
    units = ", ".join(map(str, sorted(place.units)))
    return f"units {units} share {place.name}"


def values_of(storage: Storage) -> int:
    """The scalars that are stored: all, or those that are not zero."""
    if storage.index_bytes and storage.nonzero_parameters is not None:
        return storage.nonzero_parameters
    return storage.parameters


def stored_float(subject: Subject, recipe: Recipe, place: Place) -> Storage:
    """What is stored for a weight before.

    Raises:
        UsageError: it is quantised already, by another recipe.
    """
    before = stored_of(subject, place.name, place.parameter)
    if before.parameter_bytes - before.index_bytes < 2 * values_of(before):
        raise recipe.refused(f"{place.name} is quantised already")
    return before


def backend_with(subject: Subject, by: str) -> str:
    """By what the model runs, that which was said before included."""
    before = subject.workload.backend
    return before if by in before else f"{before}, {by}"


def quantised_caveat(listing: str, number: int) -> Caveat:
    """That `number` weights, listed by kind, are quantised."""
    text = (
        f"weights are quantised ({listing}): parameters, MACs, FLOPs and traffic are those of the float model, "
        "bytes as stored"
    )
    return Caveat(code="quantised", text=text, value=float(number))


def no_kernel_caveat(weights: str) -> Caveat:
    """That weights run dequantised; `bertprof.conditions` keeps their times from being compared."""
    text = f"no kernel runs {weights} here: they are dequantised before, so times are those of the float model"
    return Caveat(code="no-kernel", text=text)
