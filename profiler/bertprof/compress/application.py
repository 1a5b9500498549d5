"""From a Subject to the Subject of the compressed model: recipes are applied one after another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import msgspec

from bertprof.compress import (
    decomposition,
    embedding,
    fixed,
    groupwise,
    pruning,
    quantization,
    sharing,
    sparse_execution,
    sparsity,
)
from bertprof.compress.recipe import Recipe
from bertprof.compress.subjects import own_copy
from bertprof.measure.subject import Subject

_APPLIED: Mapping[str, Callable[[Subject, Recipe], Subject]] = MappingProxyType(
    {
        "fp16": quantization.cast,
        "bf16": quantization.cast,
        "int8": quantization.int8,
        "int8-weight": quantization.int8_weight,
        "int4-weight": quantization.int4_weight,
        "bits": groupwise.bits,
        "sparsity": sparsity.sparsity,
        "heads": pruning.heads,
        "ffn": pruning.ffn,
        "layers": pruning.layers,
        "share-units": sharing.share_units,
        "factor-embedding": embedding.factor_embedding,
        "vocabulary": embedding.vocabulary,
        "fixed-attention": fixed.fixed_attention,
        "decompose-attention": decomposition.decompose,
        "cache-segment": decomposition.cache_segment,
    }
)
"""Method → what applies it. A student is another model from the start; see `bertprof.measurement`."""


def apply(subject: Subject, recipes: Sequence[Recipe]) -> Subject:
    """The compressed model, ready to be measured. No weights are built but where a recipe says so.

    Args:
        subject: the model as it is.
        recipes: in the order in which they apply; a student, which is that model already, is only recorded.

    Raises:
        UsageError: a recipe does not fit the model; nothing was built.
    """
    texts = [recipe.text for recipe in recipes]
    recipes = [recipe for recipe in recipes if recipe.method.stage != "student"]
    if recipes:
        subject = own_copy(subject, recipes[0])
    for recipe in sparsity.in_order(recipes):
        sparse_execution.check_floats(subject, recipe)
        subject = _APPLIED[recipe.method.name](subject, recipe)
    caveats = [*subject.caveats, *decomposition.caveats_of(subject)]
    return replace(subject, workload=msgspec.structs.replace(subject.workload, recipes=texts), caveats=caveats)
