"""Parameters: how many there are and how many bytes they take, each with its owner."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from bertprof.attribution import Owner, Region, region_of


class Storage(NamedTuple):
    """Logical scalars, and their bytes as stored."""

    parameters: int
    parameter_bytes: int


def count_parameters(
    model: nn.Module, regions: Mapping[str, Region], units: Mapping[str, set[int | None]]
) -> dict[Owner, Storage]:
    """Gives every parameter to the module that holds it; one that several modules hold, to the first by name.

    Args:
        model: on any device.
        regions: module path → region.
        units: module path → the units that call it, as the counted forward found them.

    Returns:
        owner, with the path of the holding module → its parameters. Their sum is that of the model's unique parameters.
    """
    found: dict[Owner, Storage] = {}
    for name, parameter in model.named_parameters():
        owner = standing(name.rpartition(".")[0], regions, units)
        before = found.get(owner, Storage(0, 0))
        size = parameter.numel()
        found[owner] = Storage(before.parameters + size, before.parameter_bytes + size * parameter.element_size())
    return found


def standing(path: str, regions: Mapping[str, Region], units: Mapping[str, set[int | None]]) -> Owner:
    """The owner of what stands in a module, whoever calls it.

    Weights that several units call stand outside of all units (`unit` None), once.
    """
    called_by = units.get(path)
    above = path
    while called_by is None and above:  # a module that never runs (dropout of zero) stands where those around it do
        above = above.rpartition(".")[0]
        called_by = units.get(above)
    unit = next(iter(called_by)) if called_by is not None and len(called_by) == 1 else None
    return Owner(unit, region_of(path, regions)[1], path)
