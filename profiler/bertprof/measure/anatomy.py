"""Which module of a model is which component: one table a family, structure for what no table knows.

A table maps patterns of module paths, relative to the base model (`BertModel`, not `BertForMaskedLM`), to regions. A
pattern is a dotted path in which `*` stands for one name and `{a,b}` for either; one that ends in `()` names a bound
method. A module that no row names belongs to the nearest one around it that has a row. To add a family: one table here,
one line in the test of families.

Two rules hold for every family. Every norm is add-norm, wherever it stands, but where a table names it. Whatever a
task's model puts around the base model is head. A model of no family, or what is wrapped around one, is placed by
`structure`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from torch import nn

from bertprof.attribution import Region, module_of
from bertprof.components import Component
from bertprof.errors import UsageError
from bertprof.measure import structure
from bertprof.measure.inputs import Inputs
from bertprof.measure.wrapping import target

Table = Mapping[str, Region]


def _bert_attention(name: str) -> Table:
    return {
        f"encoder.layer.*.{name}.self": Region(Component.SOFTMAX_ATTENTION),
        f"encoder.layer.*.{name}.self.{{query,key,value}}": Region(Component.ATTENTION_LINEAR_IN),
        # The residual sum is computed in the module that also holds the linear.
        f"encoder.layer.*.{name}.output": Region(Component.ADD_NORM),
        f"encoder.layer.*.{name}.output.dense": Region(Component.ATTENTION_LINEAR_OUT),
    }


_BERT: Table = {
    "": Region(Component.OTHER),
    "embeddings": Region(Component.EMBEDDING),
    "encoder.layer.*": Region(Component.OTHER, unit=True),
    **_bert_attention("attention"),
    **_bert_attention("crossattention"),
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

_MOBILEBERT: Table = {
    **_BERT,
    "encoder.layer.*.bottleneck": Region(Component.BOTTLENECK),
    "encoder.layer.*.ffn.*": Region(Component.FFN),
    "encoder.layer.*.ffn.*.output": Region(Component.ADD_NORM),
    "encoder.layer.*.ffn.*.output.dense": Region(Component.FFN),
    "encoder.layer.*.output.bottleneck.dense": Region(Component.BOTTLENECK),
}

_SQUEEZEBERT: Table = {
    "": Region(Component.OTHER),
    "embeddings": Region(Component.EMBEDDING),
    "encoder.layers.*": Region(Component.OTHER, unit=True),
    # Its core is three child modules and the transposes around them; its linears are grouped convolutions of width 1.
    "encoder.layers.*.attention": Region(Component.SOFTMAX_ATTENTION),
    "encoder.layers.*.attention.{query,key,value}": Region(Component.ATTENTION_LINEAR_IN),
    "encoder.layers.*.post_attention": Region(Component.ADD_NORM),
    "encoder.layers.*.post_attention.conv1d": Region(Component.ATTENTION_LINEAR_OUT),
    "encoder.layers.*.intermediate": Region(Component.FFN),
    "encoder.layers.*.output": Region(Component.ADD_NORM),
    "encoder.layers.*.output.conv1d": Region(Component.FFN),
    "pooler": Region(Component.HEAD),
}

_MPNET: Table = {
    "": Region(Component.OTHER),
    "embeddings": Region(Component.EMBEDDING),
    "encoder.compute_position_bias()": Region(Component.SOFTMAX_ATTENTION),
    "encoder.relative_attention_bias": Region(Component.SOFTMAX_ATTENTION),
    "encoder.layer.*": Region(Component.OTHER, unit=True),
    "encoder.layer.*.attention": Region(Component.ADD_NORM),
    "encoder.layer.*.attention.attn": Region(Component.SOFTMAX_ATTENTION),
    "encoder.layer.*.attention.attn.{q,k,v}": Region(Component.ATTENTION_LINEAR_IN),
    "encoder.layer.*.attention.attn.o": Region(Component.ATTENTION_LINEAR_OUT),
    "encoder.layer.*.intermediate": Region(Component.FFN),
    "encoder.layer.*.output": Region(Component.ADD_NORM),
    "encoder.layer.*.output.dense": Region(Component.FFN),
    "pooler": Region(Component.HEAD),
}

# Projections of relative positions are linears before attention, as those of content: with `share_att_key` they are the
# very same modules. The tables that they project and the terms that they add to the scores are softmax attention.
_DEBERTA_V2: Table = {
    **_BERT,
    "encoder.rel_embeddings": Region(Component.SOFTMAX_ATTENTION),
    "encoder.get_rel_embedding()": Region(Component.SOFTMAX_ATTENTION),
    "encoder.get_rel_pos()": Region(Component.SOFTMAX_ATTENTION),
    "encoder.conv": Region(Component.CONVOLUTION),
    "encoder.layer.*.attention.self.{query_proj,key_proj,value_proj}": Region(Component.ATTENTION_LINEAR_IN),
    "encoder.layer.*.attention.self.{pos_key_proj,pos_query_proj}": Region(Component.ATTENTION_LINEAR_IN),
}
_DEBERTA: Table = {
    **_DEBERTA_V2,
    "encoder.layer.*.attention.self": Region(
        Component.SOFTMAX_ATTENTION,
        parameters=dict.fromkeys(("q_bias", "v_bias"), Component.ATTENTION_LINEAR_IN),
    ),
    "encoder.layer.*.attention.self.{in_proj,pos_proj,pos_q_proj}": Region(Component.ATTENTION_LINEAR_IN),
}

# The projections are bare parameters, multiplied in the attention module itself (q, k, v and r, the projection of
# relative positions) and in a method of it (o).
_XLNET: Table = {
    "": Region(Component.OTHER, parameters={"mask_emb": Component.EMBEDDING}),
    "word_embedding": Region(Component.EMBEDDING),
    "relative_positional_encoding()": Region(Component.SOFTMAX_ATTENTION),
    "layer.*": Region(Component.OTHER, unit=True),
    "layer.*.rel_attn": Region(
        Component.ATTENTION_LINEAR_IN,
        parameters={
            "o": Component.ATTENTION_LINEAR_OUT,
            **dict.fromkeys(("r_r_bias", "r_s_bias", "r_w_bias", "seg_embed"), Component.SOFTMAX_ATTENTION),
        },
    ),
    "layer.*.rel_attn.rel_attn_core()": Region(Component.SOFTMAX_ATTENTION),
    "layer.*.rel_attn.post_attention()": Region(Component.ATTENTION_LINEAR_OUT, after={"dropout": Component.ADD_NORM}),
    "layer.*.ff": Region(Component.FFN, after={"layer_2": Component.ADD_NORM}),
}

_GPT2: Table = {
    # The embeddings are summed in the base model itself.
    "": Region(Component.OTHER, after={"wpe": Component.EMBEDDING, "drop": Component.OTHER}),
    "{wte,wpe}": Region(Component.EMBEDDING),
    "h.*": Region(Component.ADD_NORM, unit=True),
    "h.*.{attn,crossattention}": Region(Component.SOFTMAX_ATTENTION),
    "h.*.{attn,crossattention}.{c_attn,q_attn}": Region(Component.ATTENTION_LINEAR_IN),
    "h.*.{attn,crossattention}.c_proj": Region(Component.ATTENTION_LINEAR_OUT),
    "h.*.mlp": Region(Component.FFN),
}

_MODERNBERT: Table = {
    "": Region(Component.OTHER),
    "embeddings": Region(Component.EMBEDDING),
    "rotary_emb": Region(Component.SOFTMAX_ATTENTION),
    "layers.*": Region(Component.ADD_NORM, unit=True),
    "layers.*.attn": Region(Component.SOFTMAX_ATTENTION),
    "layers.*.attn.Wqkv": Region(Component.ATTENTION_LINEAR_IN),
    "layers.*.attn.Wo": Region(Component.ATTENTION_LINEAR_OUT),
    "layers.*.mlp": Region(Component.FFN),
}

# Students with another backbone (`students`). Their classifiers are part of them: they are distilled on its output.

_BILSTM: Table = {
    "": Region(Component.OTHER),
    "embeddings": Region(Component.EMBEDDING),
    "backbone": Region(Component.RECURRENT),
    "head": Region(Component.HEAD),
}

_MKD: Table = {
    **_BILSTM,
    # Scores, softmax and the weighted sum of the states.
    "attention": Region(Component.SOFTMAX_ATTENTION),
    "attention.projection": Region(Component.ATTENTION_LINEAR_IN),
    "classifier": Region(Component.HEAD),
}

_CNN: Table = {
    "": Region(Component.OTHER),
    "embeddings": Region(Component.EMBEDDING),
    "backbone": Region(Component.CONVOLUTION),
    "head": Region(Component.HEAD),
}

_ADABERT: Table = {
    "": Region(Component.OTHER),
    "embeddings": Region(Component.EMBEDDING),
    "cells.*": Region(Component.CONVOLUTION, unit=True, parameters={"share": Component.HEAD}),
    # Batch norms too: they belong to an operation, scale its channels, and follow no residual sum.
    "cells.*.edges.*.*": Region(Component.CONVOLUTION),
    "head": Region(Component.HEAD),
}

FAMILIES: Mapping[str, Table] = MappingProxyType(
    {
        "bert": _BERT,
        "roberta": _BERT,
        "xlm-roberta": _BERT,
        "camembert": _BERT,
        "megatron-bert": _BERT,
        "electra": _ELECTRA,
        "distilbert": _DISTILBERT,
        "albert": _ALBERT,
        "mobilebert": _MOBILEBERT,
        "squeezebert": _SQUEEZEBERT,
        "mpnet": _MPNET,
        "deberta": _DEBERTA,
        "deberta-v2": _DEBERTA_V2,
        "xlnet": _XLNET,
        "gpt2": _GPT2,
        "modernbert": _MODERNBERT,
        "bertprof-bilstm": _BILSTM,
        "bertprof-mkd": _MKD,
        "bertprof-cnn": _CNN,
        "bertprof-adabert": _ADABERT,
    }
)
"""`model_type` of the configuration → table."""


class Base(NamedTuple):
    """A base model of a known family inside a model.

    Attributes:
        outer: the path of the transformers model, head and all.
        path: the path of its base model.
        family: its `model_type`.
    """

    outer: str
    path: str
    family: str


def bases_of(model: nn.Module) -> list[Base]:
    """The base models of known families that a model holds, outermost only: itself, or inside a wrapper or pipeline."""
    found: list[Base] = []
    for path, module in model.named_modules():
        family = getattr(getattr(module, "config", None), "model_type", None)
        inside = any(path == base.outer or _relative(path, base.outer) is not None for base in found)
        if family in FAMILIES and not inside and isinstance(getattr(module, "base_model_prefix", None), str):
            prefix = module.base_model_prefix
            has = bool(prefix) and isinstance(getattr(module, prefix, None), nn.Module)
            base = Base(path, ".".join(filter(None, (path, prefix))) if has else path, str(family))
            # An adapter's wrapper hands out the configuration of what it wraps, but has none of its parts.
            if _holds(model, base):
                found.append(base)
    return found


def regions_of(
    model: nn.Module, inputs: Inputs | None = None, mapping: Mapping[str, str] | None = None
) -> dict[str, Region]:
    """The regions of a model, in the order of `named_modules`.

    What stands in a base model of a known family is placed by that family's table; what transformers puts around it is
    head. Everything else is placed by its structure, for which one forward is followed (see `structure`). The user's
    mapping overrides both.

    Args:
        model: in eval mode, on any device, the meta device included.
        inputs: of its forward, on its device; None: nothing outside of known families is placed.
        mapping: regular expression on the full module path → component, or "unit". It replaces the region of the
            module itself; modules inside of it that have a region keep theirs, unless they match too.

    Raises:
        UsageError: an expression is none, or is mapped to no component. One that matches nothing is ignored here.
        Exception: whatever the forward raises, where it has to be followed.
    """
    regions: dict[str, Region] = {}
    bases = bases_of(model)
    if inputs is not None and not any(base.outer == "" for base in bases):
        regions = structure.regions_of(model, inputs)
    for base in bases:
        inside = [path for path in regions if base.outer == "" or _relative(path, base.outer) is not None]
        for path in inside:
            del regions[path]
        regions |= _tabled(model, base)
    order = {path: i for i, path in enumerate(dict(model.named_modules()))}
    regions |= _mapped(list(order), regions, mapping or {})
    return dict(sorted(regions.items(), key=lambda item: order.get(module_of(item[0]), -1)))


def _holds(model: nn.Module, base: Base) -> bool:
    """Whether a module holds what its family's table names: units, or, of a family without units, any part."""
    units = any(region.unit for region in FAMILIES[base.family].values())
    return any(region.unit if units else path != base.path for path, region in _tabled(model, base).items())


def _tabled(model: nn.Module, base: Base) -> dict[str, Region]:
    """The regions of one base model and what is around it."""
    table = [(_compile(pattern), region) for pattern, region in FAMILIES[base.family].items()]
    regions: dict[str, Region] = {}
    for path, module in model.get_submodule(base.outer).named_modules(prefix=base.outer):
        relative = _relative(path, base.path)
        for name in (relative, *_methods(relative, FAMILIES[base.family])):
            region: Region | None
            if name is None:
                region = Region(Component.HEAD) if "." not in (_relative(path, base.outer) or "") else None
            else:
                region = next((r for expression, r in table if expression.fullmatch(name)), None)
            if structure.is_norm(module) and name == relative and (region is None or name is None):
                region = Region(Component.ADD_NORM)
            full = path if name == relative else ".".join(filter(None, (base.path, name)))
            if region is not None and hasattr(*target(model, full)):
                regions[full] = region
    return regions


def _methods(relative: str | None, table: Table) -> list[str]:
    """The bound methods that a table names of a module: as they are called in that module."""
    if relative is None:
        return []
    found = []
    for pattern in table:
        if pattern.endswith("()"):
            module, _, method = pattern.rpartition(".")
            if _compile(module).fullmatch(relative):
                found.append(f"{relative}.{method}" if relative else method)
    return found


def _mapped(paths: list[str], regions: Mapping[str, Region], mapping: Mapping[str, str]) -> dict[str, Region]:
    """The regions that the user's mapping gives; of several expressions that match, the last one counts."""
    found: dict[str, Region] = {}
    for expression, name in mapping.items():
        matching = matching_paths(paths, expression)
        if name != "unit" and name not in set(Component):
            known = ", ".join((*Component, "unit"))
            raise UsageError(f"anatomy: {expression!r} is mapped to {name!r}; use one of {known}")
        for path in matching:
            before = found.get(path, regions.get(path, Region()))
            if name == "unit":
                found[path] = replace(before, unit=True)
            else:
                found[path] = Region(Component(name), unit=before.unit, joins=before.joins)
    return found


def matching_paths(paths: Iterable[str], expression: str) -> list[str]:
    """The module paths that an expression of a mapping matches, as a whole.

    Raises:
        UsageError: it is no regular expression.
    """
    try:
        return [path for path in paths if re.fullmatch(expression, path)]
    except re.error as error:
        raise UsageError(f"anatomy: {expression!r} is no regular expression: {error}") from None


def _relative(path: str, base: str) -> str | None:
    """The path as seen from the base model; None outside of it."""
    if not base:
        return path
    if path == base:
        return ""
    return path.removeprefix(f"{base}.") if path.startswith(f"{base}.") else None


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    expression = re.escape(pattern).replace(r"\*", r"[^.]+")
    expression = re.sub(r"\\{(.*?)\\}", lambda m: f"(?:{m[1].replace(',', '|')})", expression)
    return re.compile(expression)
