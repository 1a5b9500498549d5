"""Structured pruning (PR-SP): attention heads, FFN columns or whole units removed.

What is removed is gone: shapes, MACs and time are those of a smaller dense model. Which heads and columns stay follows
from the weights, so that a model without weights shows it in shapes alone. A heads= or ffn= that asks for as many as
there are changes nothing.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bertprof.attribution import Region
from bertprof.compress.recipe import Recipe
from bertprof.compress.subjects import Slot, one_a_unit, restructured, units_of
from bertprof.measure.anatomy import bases_of
from bertprof.measure.subject import Subject
from bertprof.measure.weights import pruned
from bertprof.measure.weights.pruned import Slices, UnprunableError

_Find = Callable[[nn.Module, str, Mapping[str, Region]], list[Slices]]


def called_units(model: nn.Module, regions: Mapping[str, Region]) -> list[Slot]:
    """The encoder units in the order in which they run: ALBERT's one module as often as it is called."""
    slots = units_of(model, regions)
    bases = bases_of(model)
    if [base.family for base in bases] != ["albert"]:
        return slots
    config: Any = model.get_submodule(bases[0].path).config
    calls, groups, inner = config.num_hidden_layers, config.num_hidden_groups, config.inner_group_num
    # As in AlbertTransformer.forward; each call of a group runs all of its layers.
    return [slots[int(call / (calls / groups)) * inner + layer] for call in range(calls) for layer in range(inner)]


# Heads and columns ---------------------------------------------------------------------------------------------------


def heads(subject: Subject, recipe: Recipe) -> Subject:
    """Attention heads removed, with their rows of query, key and value and their columns of the output projection.

    Kept are those of the largest L2 norm of all these weights, of equal ones the lower index. (Michel et al. 2019 rank
    by the loss's gradient, which needs data; what a head costs does not depend on which goes.) Units that share their
    attention (ALBERT, `share-units`) or a table with a column for each head (MPNet) keep the same heads, those of the
    largest norm over all of them.

    Raises:
        UsageError: there are fewer heads, or they cannot be removed: SqueezeBERT's grouped convolutions, XLNet's bare
            parameters, nn.MultiheadAttention, own code that does not say how wide a head is.
    """
    return _narrowed(subject, recipe, pruned.heads_of)


def ffn(subject: Subject, recipe: Recipe) -> Subject:
    """FFN columns removed, with their row of the first linear and their column of the second.

    Kept are those with the largest product of the two norms; of a gated FFN, the row is that of both halves. Of stacked
    FFNs (MobileBERT) each keeps as many. Units that share their FFN keep the same columns.

    Raises:
        UsageError: there are fewer columns, or they cannot be removed: SqueezeBERT's grouped convolutions, own code
            whose FFN is not made of linears.
    """
    return _narrowed(subject, recipe, pruned.columns_of)


def _narrowed(subject: Subject, recipe: Recipe, find: _Find) -> Subject:
    def change(model: nn.Module, regions: Mapping[str, Region]) -> None:
        for group, number in _groups(model, regions, recipe, find):
            if number < group[0].count:
                pruned.keep(group, _largest(group, number))

    return restructured(subject, recipe, change)


def _largest(group: Sequence[Slices], number: int) -> list[int]:
    """The indices, rising, of those with the largest norm over the group; without weights, the first."""
    squares: Tensor = torch.stack([slices.squared_norms() for slices in group]).sum(0)
    if squares.is_meta:
        return list(range(number))
    return sorted(torch.argsort(squares, descending=True, stable=True)[:number].tolist())


def _groups(
    model: nn.Module, regions: Mapping[str, Region], recipe: Recipe, find: _Find
) -> Iterator[tuple[list[Slices], int]]:
    """What keeps the same heads or columns, since it shares parameters, and how many it is to keep."""
    slots = called_units(model, regions)
    if not slots:
        raise recipe.refused("the model has no encoder units")
    wanted = one_a_unit(recipe, len(slots))
    found: dict[str, list[Slices]] = {}
    users: dict[str, list[int]] = {}
    for unit, slot in enumerate(slots):
        users.setdefault(slot.path, []).append(unit)
        try:
            found[slot.path] = found.get(slot.path) or find(model, slot.path, regions)
        except UnprunableError as why:
            if unit in wanted:
                what = "heads" if find is pruned.heads_of else "FFN columns"
                raise recipe.refused(f"{what} of unit {unit} cannot be removed: {why}") from None
    groups = _that_share([(slices, users[path]) for path, several in found.items() for slices in several])
    holders = _holders(model)
    for group in groups:
        numbers = {unit: wanted.get(unit, slices.count) for slices, units in group for unit in units}
        first, *rest = numbers
        other = next((unit for unit in rest if numbers[unit] != numbers[first]), None)
        if other is not None:
            raise recipe.refused(
                f"units {first} and {other} share weights or a table of position biases, and cannot keep "
                f"{numbers[first]:,} and {numbers[other]:,}; give all that share the same"
            )
        for slices, units in group:
            if numbers[first] > slices.count:
                raise recipe.refused(f"unit {units[0]} has no more than {slices.count:,} {slices.kind}")
        members = [slices for slices, _ in group]
        cuts = [cut for slices in members for cut in slices.cuts]
        own = {(id(cut.module), cut.leaf) for cut in cuts}
        if numbers[first] < members[0].count and any(holders[id(cut.parameter)] - own for cut in cuts):
            raise recipe.refused(f"unit {first} shares these weights with other parts of the model")
        yield members, numbers[first]


def _that_share(found: Sequence[tuple[Slices, list[int]]]) -> list[list[tuple[Slices, list[int]]]]:
    """These, with the units that they are of, put together where they have a parameter in common."""
    groups: list[tuple[set[int], list[tuple[Slices, list[int]]]]] = []
    for slices, units in found:
        parameters = {id(cut.parameter) for cut in slices.cuts}
        sharing = [group for group in groups if group[0] & parameters]
        groups = [group for group in groups if not group[0] & parameters]
        members = [one for _, several in sharing for one in several]
        groups.append((parameters.union(*(p for p, _ in sharing)), [*members, (slices, units)]))
    return [members for _, members in groups]


def _holders(model: nn.Module) -> dict[int, set[tuple[int, str]]]:
    """Parameter → the modules that hold it, with the name that each gives it; all by identity."""
    holders: dict[int, set[tuple[int, str]]] = {}
    for module in model.modules():
        for leaf, parameter in module._parameters.items():
            holders.setdefault(id(parameter), set()).add((id(module), leaf))
    return holders


# Units ---------------------------------------------------------------------------------------------------------------

_COUNTS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
"""What modules and configurations call the number of units, by which a forward may count."""


def layers(subject: Subject, recipe: Recipe) -> Subject:
    """Whole units removed (Fan et al. 2019, Section 3.2: every other; the bottom or the top ones for comparison).

    Of L units the K kept are those of index floor(i · L / K), the first K or the last K; or those that are named. The
    rest of the model, and what each kept unit computes, stay. ALBERT calls its one unit less often.

    Raises:
        UsageError: there are not as many units, there is none of an index, or they stand in no list.
    """
    assert subject.twin is not None
    count = len(called_units(subject.twin, subject.regions))
    if count == 0:
        raise recipe.refused("the model has no encoder units")
    kept = _kept(recipe, count)
    if len(kept) == count:
        return subject
    if any(region.joins for region in subject.regions.values()):
        raise recipe.refused("attention and FFN of a unit stand in two lists of the model")

    def change(model: nn.Module, regions: Mapping[str, Region]) -> None:
        slots = units_of(model, regions)
        modules = {id(module) for slot in slots for module in slot.module.modules()}
        if len(slots) == count:
            _drop(slots, kept, recipe)
        elif len(slots) > 1:
            raise recipe.refused(f"{len(slots)} modules serve its {count} units, and which serves which would change")
        _tell(model, modules, count, kept)
        if bases_of(model) and len(slots) == count:
            # Their place in the cache of keys and values.
            for place, unit in enumerate(kept):
                module: Any
                for module in slots[unit].module.modules():
                    if isinstance(getattr(module, "layer_idx", None), int):
                        module.layer_idx = place

    before = subject.kept_units or range(count)
    return replace(restructured(subject, recipe, change), kept_units=[before[unit] for unit in kept])


def _kept(recipe: Recipe, count: int) -> list[int]:
    """The indices of the units that stay."""
    if len(recipe.values) > 1:
        if recipe.values[-1] >= count:
            raise recipe.refused(f"there is no unit {recipe.values[-1]}; the model has {count}, counted from 0")
        if "keep=" in recipe.text:
            raise recipe.refused("keep= chooses units, and here they are named; leave it out")
        return list(recipe.values)
    number = recipe.value
    if number > count:
        raise recipe.refused(f"the model has no more than {count} unit{'s' if count != 1 else ''}")
    chosen = {
        "every-other": [place * count // number for place in range(number)],
        "bottom": list(range(number)),
        "top": list(range(count - number, count)),
    }
    return chosen[recipe.options["keep"]]


def _drop(slots: Sequence[Slot], kept: Sequence[int], recipe: Recipe) -> None:
    """Takes the other units out of their list, whose remaining modules are numbered anew."""
    holder = slots[0].holder
    numbered = list(holder._modules) == [str(place) for place in range(len(holder._modules))]
    if not isinstance(holder, nn.ModuleList | nn.Sequential) or not numbered:
        raise recipe.refused("its units stand in no nn.ModuleList or nn.Sequential")
    if any(slot.holder is not holder for slot in slots):
        raise recipe.refused("its units stand in several lists")
    for unit in reversed(range(len(slots))):
        if unit not in kept:
            del holder[int(slots[unit].key)]


def _tell(model: nn.Module, inside: Collection[int], count: int, kept: Sequence[int]) -> None:
    """Sets the number of units wherever the model keeps it, but within units; ModernBERT also lists their kinds."""
    modules = [module for module in model.modules() if id(module) not in inside]
    configs = {id(config): config for module in modules if (config := getattr(module, "config", None)) is not None}
    for config in configs.values():
        kinds = getattr(config, "layer_types", None)
        if isinstance(kinds, list) and len(kinds) == count:
            config.layer_types = [kinds[unit] for unit in kept]
    for told in (*configs.values(), *modules):
        for name in _COUNTS:
            if getattr(told, name, None) == count:
                with suppress(AttributeError):  # a frozen configuration of the user's own
                    setattr(told, name, len(kept))
