"""Embedding matrix compression (AIC-EMC): the table of words narrower, or with fewer rows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bertprof.attribution import Region, component_of_parameter
from bertprof.components import Component
from bertprof.compress.recipe import Recipe
from bertprof.compress.subjects import restructured
from bertprof.measure.anatomy import bases_of
from bertprof.measure.inputs import Inputs
from bertprof.measure.structure import is_norm
from bertprof.measure.subject import Subject
from bertprof.record import Caveat


class FactoredEmbedding(nn.Module):
    """A table of V × H as the product of two: rows of V × E, projected to H without a bias.

    Args:
        words: the table of V × E.
        projection: from E to H.
    """

    def __init__(self, words: nn.Embedding, projection: nn.Linear) -> None:
        super().__init__()
        self.words = words
        self.projection = projection

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings of shape (*ids, H)."""
        projected: Tensor = self.projection(self.words(ids))
        return projected


# The table of words --------------------------------------------------------------------------------------------------


class _Table(NamedTuple):
    """The table of words, by its path in the model, and the other parameters that are tied to it."""

    path: str
    module: nn.Embedding
    tied: tuple[str, ...]


def _words_of(subject: Subject, recipe: Recipe) -> list[_Table]:
    """The tables of words of a model: one, or as many as each word has vectors (Tang's students have two).

    Raises:
        UsageError: it has none, or of several it cannot be told which it is.
    """
    model, regions = subject.twin, subject.regions
    assert model is not None
    bases = bases_of(model)
    found: set[nn.Module]
    if bases:
        base: Any = model.get_submodule(bases[0].path)
        found = set(base.get_input_embeddings().modules())
    else:
        found = {
            module
            for path, module in model.named_modules()
            if component_of_parameter(f"{path}.weight", regions) is Component.EMBEDDING
        }
    tables = [(p, m) for p, m in model.named_modules() if m in found and isinstance(m, nn.Embedding)]
    if not tables or (len(tables) > 1 and not bases):
        raise recipe.refused(f"of the model's {len(tables)} tables it cannot be told which is that of the words")
    named = list(model.named_parameters(remove_duplicate=False))
    return [
        _Table(path, table, tuple(name for name, p in named if p is table.weight and name != f"{path}.weight"))
        for path, table in tables
    ]


# Factorising ---------------------------------------------------------------------------------------------------------


def factor_embedding(subject: Subject, recipe: Recipe) -> Subject:
    """The table of words, V × H, as the product of two of V × E and E × H.

    Their product is the nearest to the table among those of rank E (truncated SVD; Eckart and Young 1936). With
    `layout=words` it takes the table's place. With `layout=albert` (Lan et al. 2019, Section 3.1, as published code
    has it) all tables of the embedding and its norm are E wide, and a projection with a bias to H stands in front of
    the units: positions and types are projected into the space of the words; the norm, which has no equal of that
    width, and the bias start as new.

    Raises:
        UsageError: E is larger than the table, the table is tied to an output head or factorised already, or the layout
            does not fit the family.
    """
    table, *others = _words_of(subject, recipe)
    if others:
        raise recipe.refused(
            f"each word has {1 + len(others)} vectors, in as many tables; there is no one to factorise"
        )
    words, hidden = table.module.weight.shape
    width = recipe.value
    if width > min(words, hidden):
        raise recipe.refused(f"the table of words is {words} × {hidden}; E is at most {min(words, hidden)}")
    _check_plain(subject, recipe, table)
    albert = recipe.options["layout"] == "albert"
    if albert:
        _check_layout(subject, recipe, table)

    def change(model: nn.Module, regions: Mapping[str, Region]) -> None:
        above, _, name = table.path.rpartition(".")
        holder = model.get_submodule(above)
        if albert:
            _as_albert(holder, getattr(holder, name), width)
        else:
            setattr(holder, name, _factored(getattr(holder, name), width))

    return restructured(subject, recipe, change)


def _check_plain(subject: Subject, recipe: Recipe, table: _Table) -> None:
    """Refuses a table that is factorised already, or that an output head multiplies with."""
    model = subject.twin
    assert model is not None
    for path, module in model.named_modules():
        in_embedding = component_of_parameter(f"{path}.weight", subject.regions) is Component.EMBEDDING
        if isinstance(module, nn.Linear) and in_embedding:
            raise recipe.refused(
                f"the embedding is factorised already: {path} projects it from {module.in_features} to "
                f"{module.out_features}"
            )
    if table.tied:
        raise recipe.refused(
            f"{table.path} is tied to {table.tied[0].rpartition('.')[0]}, an output head that multiplies with the "
            "whole table; leave out --task, or untie them with --set tie_word_embeddings=false"
        )


def _check_layout(subject: Subject, recipe: Recipe, table: _Table) -> None:
    """Refuses a model whose tables do not stand, with their norm and dropout, in a module of their own."""
    model = subject.twin
    assert model is not None
    bases = bases_of(model)
    path = table.path.rpartition(".")[0]
    parts = list(model.get_submodule(path).children())
    plain = all(isinstance(part, nn.Embedding | nn.Dropout) or is_norm(part) for part in parts)
    if not (bases and plain and sum(isinstance(part, nn.Dropout) for part in parts) == 1):
        family = f"a {bases[0].family} model" if bases else "a model of no known family"
        raise recipe.refused(
            f"{family} has no embedding of tables, norm and dropout alone, as ALBERT; use layout=words, "
            f"factor-embedding={recipe.value}"
        )


def _factored(table: nn.Embedding, width: int) -> FactoredEmbedding:
    words, vectors = _factors(table.weight, width)
    narrow = nn.Embedding(len(words), width, table.padding_idx, _weight=words)
    return FactoredEmbedding(narrow, _projection(vectors, bias=False)).train(table.training)


def _as_albert(embedding: nn.Module, table: nn.Embedding, width: int) -> None:
    """Makes tables and norm E wide and lets the projection follow the dropout, the last that an embedding does."""
    _, vectors = _factors(table.weight, width)
    for name, part in list(embedding.named_children()):
        if isinstance(part, nn.Embedding):
            part.weight = nn.Parameter((part.weight.double() @ vectors.double()).to(part.weight.dtype))
            part.embedding_dim = width
        elif is_norm(part):
            for leaf, parameter in list(part.named_parameters()):
                start = torch.ones if leaf == "weight" else torch.zeros
                new = start(width, dtype=parameter.dtype, device=parameter.device)
                setattr(part, leaf, nn.Parameter(new))
            if isinstance(part, nn.LayerNorm):
                part.normalized_shape = (width,)
        else:
            both = nn.Sequential()
            both.add_module("dropout", part)
            both.add_module("projection", _projection(vectors, bias=True))
            setattr(embedding, name, both.train(part.training))


def _factors(table: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The table's V × E and H × E of which the product, the second transposed, is the nearest of rank E.

    From the eigenvectors of the table's Gram matrix, H × H, in float64: a fraction of the work of a whole SVD.
    """
    exact = table.detach().double()
    _, vectors = torch.linalg.eigh(exact.T @ exact)
    largest = vectors[:, -width:]
    return (exact @ largest).to(table.dtype), largest.to(table.dtype)


def _projection(vectors: Tensor, *, bias: bool) -> nn.Linear:
    """The linear from E to H of weight H × E; its bias is zero."""
    hidden, width = vectors.shape
    options: dict[str, Any] = {"device": vectors.device, "dtype": vectors.dtype}
    # Without drawing numbers, which would be another state of the random generator.
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, width, hidden, bias=bias, **options)
    linear.weight = nn.Parameter(vectors.contiguous())
    if bias:
        linear.bias = nn.Parameter(torch.zeros(hidden, **options))
    return linear


# Fewer words ---------------------------------------------------------------------------------------------------------


def vocabulary(subject: Subject, recipe: Recipe) -> Subject:
    """The first K rows of the table of words, and of an output head that has one row or column a word.

    Token ids of words that are gone become others, drawn from those that are left.

    Raises:
        UsageError: there are not that many words, or the padding is not among those that are left.
    """
    tables = _words_of(subject, recipe)
    table, keep = tables[0].module, recipe.value
    words = table.num_embeddings
    if keep > words:
        raise recipe.refused(f"the model has {words:,} words, and keeps that many at most")
    config = getattr(subject.twin, "config", None)
    padding = getattr(config, "pad_token_id", None)
    padding = table.padding_idx if padding is None else padding
    if padding is not None and keep < max(padding + 1, 2):
        raise recipe.refused(f"the padding has id {padding}; keep at least {max(padding + 1, 2)} words")

    def change(model: nn.Module, regions: Mapping[str, Region]) -> None:
        for path, _, _ in tables:
            _cut(model, regions, model.get_submodule(path), keep)

    def redrawn(inputs: Inputs) -> Inputs:
        return _below(inputs, keep, padding)

    caveats = []
    if subject.workload.weights == "module" and any(_beyond(ids, keep) for ids in _ids(subject.twin_inputs)):
        text = f"token ids from {keep} on, words that vocabulary={keep} removes, are replaced by others"
        caveats.append(Caveat(code="ids-replaced", component=Component.EMBEDDING, text=text))
    return restructured(subject, recipe, change, inputs=redrawn, caveats=caveats)


def _cut(model: nn.Module, regions: Mapping[str, Region], table: nn.Module, keep: int) -> None:
    """Keeps the first words of the table, of what is tied to it, and of the head; what was tied stays so."""
    assert isinstance(table, nn.Embedding)
    words, whole = table.num_embeddings, table.weight
    cut: dict[int, nn.Parameter] = {}
    for path, module in model.named_modules():
        for leaf, parameter in list(module.named_parameters(recurse=False)):
            in_head = component_of_parameter(f"{path}.{leaf}", regions) is Component.HEAD
            if not (parameter is whole or (in_head and words in parameter.shape)):
                continue
            if id(parameter) not in cut:
                part = parameter.detach()
                for dimension, size in enumerate(parameter.shape):
                    if size == words and (dimension == 0 or parameter is not whole):
                        part = part.narrow(dimension, 0, keep)
                cut[id(parameter)] = nn.Parameter(part.clone(), requires_grad=parameter.requires_grad)
            setattr(module, leaf, cut[id(parameter)])
            for size in ("num_embeddings", "out_features", "in_features"):
                if getattr(module, size, None) == words:
                    setattr(module, size, keep)
        if getattr(getattr(module, "config", None), "vocab_size", None) == words:
            module.config.vocab_size = keep


def _ids(inputs: Inputs) -> list[Tensor]:
    """The token ids among the inputs: by their names, or the first argument by position."""
    return [tensor for name, tensor in inputs.tensors() if name in _IDS and not tensor.is_floating_point()]


_IDS = ("input_ids", "decoder_input_ids", "0")


def _beyond(ids: Tensor, keep: int) -> bool:
    return ids.device.type != "meta" and bool((ids >= keep).any())


def _below(inputs: Inputs, keep: int, padding: int | None) -> Inputs:
    """The inputs with token ids below `keep`; the padding stays where it is, and nowhere else."""
    replaced = {id(ids): ids for ids in _ids(inputs) if _beyond(ids, keep)}

    def moved(tensor: Tensor) -> Tensor:
        if id(tensor) not in replaced:
            return tensor
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(0, keep, tensor.shape, generator=generator)
        if padding is not None:
            drawn[drawn == padding] = (padding + 1) % keep
        return torch.where(tensor >= keep, drawn.to(tensor), tensor)

    return inputs.mapped(moved)
