"""Which module of a model is which component: one table a family.

A table maps patterns of module paths, relative to the base model (`BertModel`, not `BertForMaskedLM`), to regions. A
pattern is a dotted path in which `*` stands for one name and `{a,b}` for either. A module that no row names belongs to
the nearest one around it that has a row. To add a family: one table here, one line in the test of families.

Two rules hold for every family. Every LayerNorm is add-norm, wherever it stands. Whatever a task's model puts around
the base model is head.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from bertprof.attribution import Region
from bertprof.components import Component
from bertprof.errors import UnsupportedModelError

Table = Mapping[str, Region]

_BERT: Table = {
    "": Region(Component.OTHER),
    "embeddings": Region(Component.EMBEDDING),
    "encoder.layer.*": Region(Component.OTHER, unit=True),
    "encoder.layer.*.attention.self": Region(Component.SOFTMAX_ATTENTION),
    "encoder.layer.*.attention.self.{query,key,value}": Region(Component.ATTENTION_LINEAR_IN),
    # The residual sum is computed in the module that also holds the linear.
    "encoder.layer.*.attention.output": Region(Component.ADD_NORM),
    "encoder.layer.*.attention.output.dense": Region(Component.ATTENTION_LINEAR_OUT),
    "encoder.layer.*.intermediate": Region(Component.FFN),
    "encoder.layer.*.output": Region(Component.ADD_NORM),
    "encoder.layer.*.output.dense": Region(Component.FFN),
    "pooler": Region(Component.HEAD),
}

_DISTILBERT: Table = {
    "": Region(Component.OTHER),
    "embeddings": Region(Component.EMBEDDING),
    # The unit's own work is its two residual sums.
    "transformer.layer.*": Region(Component.ADD_NORM, unit=True),
    "transformer.layer.*.attention": Region(Component.SOFTMAX_ATTENTION),
    "transformer.layer.*.attention.{q_lin,k_lin,v_lin}": Region(Component.ATTENTION_LINEAR_IN),
    "transformer.layer.*.attention.out_lin": Region(Component.ATTENTION_LINEAR_OUT),
    "transformer.layer.*.ffn": Region(Component.FFN),
}

_ALBERT_LAYER = "encoder.albert_layer_groups.*.albert_layers.*"
_ALBERT: Table = {
    "": Region(Component.OTHER),
    "embeddings": Region(Component.EMBEDDING),
    "encoder.embedding_hidden_mapping_in": Region(Component.EMBEDDING),
    # FFN linears and activation are children of the unit itself; behind the second linear comes its residual sum.
    _ALBERT_LAYER: Region(Component.OTHER, unit=True, after={"ffn_output": Component.ADD_NORM}),
    f"{_ALBERT_LAYER}.{{ffn,activation,ffn_output}}": Region(Component.FFN),
    # One module computes softmax attention and, behind `dense`, the residual sum.
    f"{_ALBERT_LAYER}.attention": Region(Component.SOFTMAX_ATTENTION, after={"dense": Component.ADD_NORM}),
    f"{_ALBERT_LAYER}.attention.{{query,key,value}}": Region(Component.ATTENTION_LINEAR_IN),
    f"{_ALBERT_LAYER}.attention.dense": Region(Component.ATTENTION_LINEAR_OUT),
    "pooler": Region(Component.HEAD),
    "pooler_activation": Region(Component.HEAD),
}

_ELECTRA: Table = {**_BERT, "embeddings_project": Region(Component.EMBEDDING)}

FAMILIES: Mapping[str, Table] = MappingProxyType(
    {"bert": _BERT, "roberta": _BERT, "electra": _ELECTRA, "distilbert": _DISTILBERT, "albert": _ALBERT}
)
"""`model_type` of the configuration → table."""


def family_of(model: nn.Module) -> str:
    """The family of a model, by its configuration's `model_type`.

    Raises:
        UnsupportedModelError: the model has no configuration, or no table is known for it.
    """
    family = getattr(getattr(model, "config", None), "model_type", None)
    if family not in FAMILIES:
        raise UnsupportedModelError(
            f"no anatomy is known for {type(model).__name__}"
            + (f" (model_type {family!r})" if family else " (it has no config.model_type)")
            + f"; known families: {', '.join(FAMILIES)}"
        )
    return str(family)


def regions_of(model: nn.Module) -> dict[str, Region]:
    """The regions of a model, in the order of `named_modules`.

    Args:
        model: a base model or a task's model of a known family, on any device, the meta device included.

    Returns:
        module path → region, for every module that a row of the table, or one of the two rules, names.

    Raises:
        UnsupportedModelError: see `family_of`; or the model's modules are not those that the family's table names.
    """
    family = family_of(model)
    table = [(_compile(pattern), region) for pattern, region in FAMILIES[family].items()]
    base = _path_of_base(model)
    regions: dict[str, Region] = {}
    units = 0
    for path, module in model.named_modules():
        relative = _relative(path, base)
        region: Region | None
        if relative is None:
            region = Region(Component.HEAD) if "." not in path else None
        else:
            region = next((r for expression, r in table if expression.fullmatch(relative)), None)
        if isinstance(module, nn.LayerNorm):
            region = Region(Component.ADD_NORM)
        if region is not None:
            regions[path] = region
            units += region.unit
    if not units:
        raise UnsupportedModelError(
            f"{type(model).__name__} says that it is a {family} model but has none of that family's encoder units"
        )
    return regions


def _path_of_base(model: nn.Module) -> str:
    prefix = getattr(model, "base_model_prefix", "")
    return prefix if prefix and isinstance(getattr(model, prefix, None), nn.Module) else ""


def _relative(path: str, base: str) -> str | None:
    """The path as seen from the base model; None outside of it."""
    if not base:
        return path
    if path == base:
        return ""
    return path.removeprefix(f"{base}.") if path.startswith(f"{base}.") else None


def _compile(pattern: str) -> re.Pattern[str]:
    expression = re.escape(pattern).replace(r"\*", r"[^.]+")
    expression = re.sub(r"\\{(.*?)\\}", lambda m: f"(?:{m[1].replace(',', '|')})", expression)
    return re.compile(expression)
