"""What recipes are made of: a Subject whose model has another structure, or is stored and run otherwise.

A recipe changes two models in the same way: the twin without storage, now, and the model with weights, each time that
it is opened. What it does must therefore work on the meta device, where it shows in shapes alone.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec
import torch
from torch import nn

from bertprof import formatting
from bertprof.attribution import Region, component_of_parameter
from bertprof.components import Component
from bertprof.compress.recipe import Recipe
from bertprof.errors import BertprofError, first_line
from bertprof.measure import build
from bertprof.measure.anatomy import regions_of
from bertprof.measure.inputs import Inputs
from bertprof.measure.parameters import Storage
from bertprof.measure.subject import Opened, Subject
from bertprof.record import Caveat

NONZERO_UNKNOWN = "nonzero-unknown"
"""The code of the caveat that a count of non-zeros is lost."""

BACKBONES = (Component.RECURRENT, Component.CONVOLUTION)
"""What stands for the units of a student that has none."""

Change = Callable[[nn.Module, Mapping[str, Region]], None]
"""Changes a model in place, given its regions as they are before."""


@dataclass(frozen=True)
class Slot:
    """An encoder unit where it stands in the model; units that share one module have a slot each.

    Attributes:
        holder: the list of units.
        key: its name in that list.
        path: of the unit's module; where several slots hold the same module, that of the first.
        module: the unit.
    """

    holder: nn.Module
    key: str
    path: str
    module: nn.Module


def units_of(model: nn.Module, regions: Mapping[str, Region]) -> list[Slot]:
    """The encoder units in the order in which a list of the model holds them.

    A module that is called once for each unit, as ALBERT's, has one slot.
    """
    paths = [path for path, region in regions.items() if region.unit]
    slots: list[Slot] = []
    seen: set[int] = set()
    first = {id(model.get_submodule(path)): path for path in reversed(paths)}
    for path in paths:
        holder = model.get_submodule(path.rpartition(".")[0])
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        for key, module in holder._modules.items():  # named_children leaves out what was there before
            if module is not None and id(module) in first:
                slots.append(Slot(holder, key, first[id(module)], module))
    return slots


def chosen_units(recipe: Recipe, count: int) -> tuple[int, ...]:
    """The indices of the units that a recipe is for.

    Raises:
        UsageError: it names one that the model does not have.
    """
    if recipe.units is None:
        return tuple(range(count))
    if recipe.units[-1] >= count:
        raise recipe.refused(f"there is no unit {recipe.units[-1]}; the model has {count}, counted from 0")
    return recipe.units


def one_a_unit(recipe: Recipe, count: int) -> dict[int, Any]:
    """Unit → the recipe's value for it.

    Raises:
        UsageError: it has several values, and not as many as there are units that it is for.
    """
    units = chosen_units(recipe, count)
    values = recipe.values if len(recipe.values) > 1 else recipe.values * len(units)
    if len(values) != len(units):
        of = "the model has" if recipe.units is None else "it is for"
        raise recipe.refused(f"{len(values)} values, one for each unit, but {of} {len(units)}")
    return dict(zip(units, values, strict=True))


def own_copy(subject: Subject, recipe: Recipe) -> Subject:
    """The subject with a model that may be changed: a live module belongs to whoever made it.

    Raises:
        UsageError: the model cannot be copied, or its weights are quantised already.
    """
    if subject.twin is None:
        raise recipe.refused(f"{subject.workload.model} cannot be copied without its weights")
    if any(2 * s.parameters > s.parameter_bytes for s in subject.storage.values()):
        raise recipe.refused(
            f"the weights of {subject.workload.model} are quantised already; apply it to the float model"
        )
    if subject.workload.weights != "module":
        return replace(subject)

    @contextmanager
    def open_() -> Iterator[Opened]:
        with subject.open() as opened:
            yield opened._replace(model=copy.deepcopy(opened.model))

    return replace(subject, open=open_)


def restructured(
    subject: Subject,
    recipe: Recipe,
    change: Change,
    *,
    inputs: Callable[[Inputs], Inputs] | None = None,
    caveats: Sequence[Caveat] = (),
) -> Subject:
    """The subject with another structure.

    What is stored is taken over for parameters that the change leaves as they are; a new one is stored in as many bytes
    a scalar as the one of its name was, or, where there was none, as most are. How many of its scalars are not zero its
    shape does not tell: where a count that had zeros is lost so, a caveat says it.

    Args:
        subject: the model as it is.
        recipe: in whose name it is changed.
        change: changes the twin and, each time it is opened, the model.
        inputs: changes what it is run on.
        caveats: what a reader must know of it.

    Raises:
        UsageError: `change` refuses the model, or one of no known family does not run with it.
    """
    assert subject.twin is not None
    twin = copy.deepcopy(subject.twin)
    stored = {id(p): subject.storage[name] for name, p in twin.named_parameters() if name in subject.storage}
    names = {id(parameter): name for name, parameter in twin.named_parameters()}
    before = subject.regions
    _keeping_ties(twin, before, change)
    moved = subject.twin_inputs if inputs is None else inputs(subject.twin_inputs)
    most = _bytes_a_scalar(subject.storage.values())
    storage = {}
    for name, parameter in twin.named_parameters() if most is not None else ():
        size = _bytes_a_scalar([subject.storage[name]]) if name in subject.storage else most
        new = Storage(parameter.numel(), parameter.numel() * (size or 0))
        storage[name] = stored.get(id(parameter), new)
    left = {id(parameter) for parameter in twin.parameters()}
    lost = [name for identity, name in names.items() if identity not in left] if left - names.keys() else []

    @contextmanager
    def open_() -> Iterator[Opened]:
        with subject.open() as opened:
            with torch.no_grad():
                _keeping_ties(opened.model, before, change)
            yield opened._replace(inputs=opened.inputs if inputs is None else inputs(opened.inputs))

    try:
        with build.quiet():
            regions = regions_of(twin, moved, subject.anatomy)
    except BertprofError:
        raise
    except Exception as error:  # of an architecture that is followed as it runs
        raise recipe.refused(f"the model does not run with it: {type(error).__name__}: {first_line(error)}") from None
    return replace(
        subject,
        twin=twin,
        twin_inputs=moved,
        regions=regions,
        open=open_,
        storage=storage,
        caveats=[*subject.caveats, *caveats, *lost_nonzeros(subject, recipe, lost)],
    )


def _keeping_ties(model: nn.Module, regions: Mapping[str, Region], change: Change) -> None:
    """Changes a model; what was one parameter of several modules, and is now another of one shape, is one again."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    held = {id(parameter): parameter for parameter in model.parameters()}  # alive, so that no other takes its id
    for module in model.modules():
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                places.setdefault(id(parameter), []).append((module, leaf))
    change(model, regions)
    for identity, own in places.items():
        new: dict[torch.Size, nn.Parameter] = {}
        for module, leaf in own if len(own) > 1 else ():
            parameter = module._parameters.get(leaf)
            if parameter is not None and parameter is not held[identity]:
                setattr(module, leaf, new.setdefault(parameter.shape, parameter))


def _bytes_a_scalar(stored: Iterable[Storage]) -> int | None:
    """Those of most scalars; None where nothing is stored otherwise than the model runs."""
    sizes: dict[int, int] = {}
    for one in stored:
        if one.parameters:
            size = one.parameter_bytes // one.parameters
            sizes[size] = sizes.get(size, 0) + one.parameters
    return max(sizes, key=lambda size: sizes[size], default=None)


def converted(
    subject: Subject,
    convert: Callable[[nn.Module], None],
    *,
    storage: Mapping[str, Storage],
    backend: str | None = None,
    caveats: Sequence[Caveat] = (),
) -> Subject:
    """The subject with other values, stored and run otherwise, of the same structure: the float twin stays.

    Args:
        subject: the model as it is.
        convert: changes the model, each time it is opened.
        storage: parameter of the twin → what is stored for it, where that is now another.
        backend: by what the model is now run; None: as before.
        caveats: what a reader must know of it.
    """

    @contextmanager
    def open_() -> Iterator[Opened]:
        with subject.open() as opened:
            with torch.no_grad():
                convert(opened.model)
            yield opened

    workload = subject.workload
    if backend is not None:
        workload = msgspec.structs.replace(workload, backend=backend)
    return replace(
        subject,
        workload=workload,
        open=open_,
        storage={**subject.storage, **storage},
        caveats=[*subject.caveats, *caveats],
    )


def lost_nonzeros(subject: Subject, recipe: Recipe, lost: Iterable[str]) -> list[Caveat]:
    """A caveat where a count of non-zeros is lost that had zeros; one is enough.

    Args:
        subject: the model as it was.
        recipe: what is applied to it.
        lost: the parameters of its twin whose non-zeros are not counted after that; vectors among them say nothing.
    """
    assert subject.twin is not None
    known: dict[str, tuple[int, int]] = {}
    had_zeros = set()
    for name, parameter in subject.twin.named_parameters():
        stored = subject.storage.get(name)
        if stored is not None and stored.nonzero_parameters is not None:
            known[name] = stored.nonzero_parameters, stored.parameters
            if parameter.dim() >= 2 and stored.nonzero_parameters < stored.parameters:
                had_zeros.add(name)
    if had_zeros.isdisjoint(lost) or any(caveat.code == NONZERO_UNKNOWN for caveat in subject.caveats):
        return []
    nonzero, every = (formatting.exact(sum(counts)) for counts in zip(*known.values(), strict=True))
    quantised = recipe.method.stage == "quantization"
    why = "rounding changes which weights are zero" if quantised else "how many zeros go depends on the weights"
    text = f"non-zeros are not counted after {recipe.text}: {why}; before it {nonzero} of {every} were left"
    return [Caveat(code=NONZERO_UNKNOWN, text=text)]


class Place(NamedTuple):
    """A parameter of the twin: its first name, the module that holds it, its component, and the units that use it."""

    name: str
    parameter: nn.Parameter
    holder: nn.Module
    component: Component
    units: frozenset[int]


def places_of(subject: Subject) -> dict[str, Place]:
    """Every parameter by its first name; one that is tied to a head belongs to what it is tied to.

    So does `count_parameters` have it: a tied table is of the embedding, though a head may be built first.
    """
    assert subject.twin is not None
    twin = subject.twin
    users = users_of(units_of(twin, subject.regions))
    components: dict[int, list[Component]] = {}
    for name, parameter in twin.named_parameters(remove_duplicate=False):
        components.setdefault(id(parameter), []).append(component_of_parameter(name, subject.regions))
    places = {}
    for name, parameter in twin.named_parameters():
        component = next((c for c in components[id(parameter)] if c is not Component.HEAD), Component.HEAD)
        holder = twin.get_submodule(name.rpartition(".")[0])
        places[name] = Place(name, parameter, holder, component, frozenset(users.get(id(parameter), ())))
    return places


def is_table(place: Place) -> bool:
    """Whether a matrix is a table: of words, positions and segments with their projection, or of relative positions.

    What scores tokens in a student's additive attention is a linear.
    """
    if place.component is Component.SOFTMAX_ATTENTION:
        return not isinstance(place.holder, nn.Linear)
    return place.component is Component.EMBEDDING


def users_of(slots: Iterable[Slot]) -> dict[int, set[int]]:
    """Parameter, by identity → the units that use it, in the order of the slots."""
    users: dict[int, set[int]] = {}
    for unit, slot in enumerate(slots):
        for parameter in slot.module.parameters():
            users.setdefault(id(parameter), set()).add(unit)
    return users


def stored_of(subject: Subject, name: str, parameter: nn.Parameter) -> Storage:
    """What is stored for a parameter of the twin: as it stands there, where nothing else is said."""
    return subject.storage.get(name, Storage(parameter.numel(), parameter.nbytes))
