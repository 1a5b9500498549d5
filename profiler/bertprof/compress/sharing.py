"""Parameter sharing (AIC-PS): one set of weights for all units.

Lan et al. 2019 (ALBERT, arXiv 1909.11942), Section 3.1: all parameters shared across units, or those of the attention
or of the FFN alone (Table 5). Units stay the modules that they are and hold the same parameters: a unit may have state
of its own (GPT-2's place in the cache, ModernBERT's local or global attention), which is not shared.
"""

from collections.abc import Mapping

from torch import nn

from bertprof.attribution import Region, component_of_parameter
from bertprof.components import Component
from bertprof.compress.recipe import Recipe
from bertprof.compress.subjects import Slot, chosen_units, restructured, units_of
from bertprof.measure.subject import Subject

_SHARED: Mapping[str, frozenset[Component]] = {
    "all": frozenset(Component),
    "attention": frozenset(
        (Component.ATTENTION_LINEAR_IN, Component.SOFTMAX_ATTENTION, Component.ATTENTION_LINEAR_OUT)
    ),
    "ffn": frozenset((Component.FFN,)),
}


def share_units(subject: Subject, recipe: Recipe) -> Subject:
    """Every chosen unit uses the weights of the first of them.

    Norms are shared with `all` alone; a parameter that the first unit lacks (ModernBERT has no norm before its first
    attention) is that of the first unit that has it. Work is as before; weights stand once, outside of all units.

    Raises:
        UsageError: there are not two units, they differ in shape, or they share the weights already.
    """
    assert subject.twin is not None
    source = _sources(subject.twin, subject.regions, recipe)

    def change(model: nn.Module, regions: Mapping[str, Region]) -> None:
        for name, first in source.items():
            path, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(path), leaf, model.get_parameter(first))

    return restructured(subject, recipe, change)


def _sources(model: nn.Module, regions: Mapping[str, Region], recipe: Recipe) -> dict[str, str]:
    """Parameter → the parameter that is to stand in its place."""
    slots = units_of(model, regions)
    if len(slots) < 2:
        calls_it_often = getattr(getattr(model, "config", None), "num_hidden_layers", 1) > 1
        why = (
            "one set of weights serves all of its units already" if slots and calls_it_often else "it has no two units"
        )
        raise recipe.refused(f"{why}; there is nothing to share")
    chosen = [(unit, slots[unit]) for unit in chosen_units(recipe, len(slots))]
    if len(chosen) < 2:
        raise recipe.refused("one unit has none to share with; name two or more")
    firsts: dict[str, tuple[int, str, nn.Parameter]] = {}
    source: dict[str, str] = {}
    for unit, slot in chosen:
        for below, parameter in _parameters(slot, regions, recipe.value):
            name = f"{slot.path}.{below}"
            first_unit, first, shared = firsts.setdefault(below, (unit, name, parameter))
            if parameter.shape != shared.shape:
                shapes = [" × ".join(map(str, p.shape)) for p in (parameter, shared)]
                raise recipe.refused(
                    f"{below} is {shapes[0]} in unit {unit} and {shapes[1]} in unit {first_unit}; "
                    "only units of one shape can share weights"
                )
            if parameter is not shared:
                source[name] = first
    if not firsts:
        raise recipe.refused(f"no weights of {recipe.value} are found in its units")
    if not source:
        raise recipe.refused("these units share the weights already")
    return source


def _parameters(slot: Slot, regions: Mapping[str, Region], which: str) -> list[tuple[str, nn.Parameter]]:
    """The parameters of a unit that are to be shared, by their names in it."""
    return [
        (below, parameter)
        for below, parameter in slot.module.named_parameters(remove_duplicate=False)
        if component_of_parameter(f"{slot.path}.{below}", regions) in _SHARED[which]
    ]
