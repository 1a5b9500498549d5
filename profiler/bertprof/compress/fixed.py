"""Fixed attention (PR-SP): heads that follow patterns of positions in the place of learned queries and keys.

Raganato et al. 2020 (arXiv 2002.10260), Section 3: of the 8 heads of a translation encoder's units 7 are fixed
matrices of attention weights, which the sentence's length alone determines, and one is learned. A fixed head keeps
its values and its part of the output projection.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertprof.attribution import Region
from bertprof.compress.recipe import Recipe
from bertprof.compress.subjects import chosen_units, restructured, units_of, users_of
from bertprof.measure.anatomy import bases_of
from bertprof.measure.inputs import size_of
from bertprof.measure.subject import Subject
from bertprof.record import Caveat

KINDS = ("current", "previous", "next", "left", "right", "start", "end")
"""The patterns in their order: the token itself, the one before, the one behind; the larger context to the left, up to
two tokens before, and to the right, from two behind; the start and the end of the sequence."""

_PROJECTIONS: Mapping[str, tuple[str, str, str]] = {
    **dict.fromkeys(
        ("bert", "roberta", "xlm-roberta", "camembert", "megatron-bert", "electra"), ("query", "key", "value")
    ),
    "distilbert": ("q_lin", "k_lin", "v_lin"),
}
"""Family → what its attention module calls the linears of query, key and value."""


def fixed_attention(subject: Subject, recipe: Recipe) -> Subject:
    """The first F heads of each unit follow fixed patterns, in the order of KINDS and again from its start.

    Their rows of query and key vanish, and so do their scores and softmax. What is left of them is the product of a
    fixed matrix (F, S, S) with their values: F · S² · d MACs a unit and sequence of S tokens, heads d wide, where
    learned heads have 2 · F · S² · d. Values, output projection and learned heads keep their weights.

    Which heads are fixed and what comes behind the seventh pattern is our choice: the paper trains from the start, and
    the cost does not depend on it.

    Raises:
        UsageError: a unit has no more heads than are to be fixed, its attention is not built as BERT's, or it shares
            queries and keys with units that are not named.
    """
    assert subject.twin is not None
    family = _family(subject.twin, recipe)
    wholes = _lengths_of(subject, recipe)
    if subject.workload.attention not in ("sdpa", "eager"):
        raise recipe.refused(f"attention is run by {subject.workload.attention}; fixed heads go with sdpa or eager")

    def change(model: nn.Module, regions: Mapping[str, Region]) -> None:
        slots = units_of(model, regions)
        chosen = chosen_units(recipe, len(slots))
        if len({id(slot.module) for slot in slots}) < len(slots):
            raise recipe.refused("one module stands for several of its units")
        users = users_of(slots)
        attentions = [_attention(slots[unit].module, family, unit, recipe) for unit in chosen]
        for unit, attention in zip(chosen, attentions, strict=True):
            for name in _PROJECTIONS[family][:2]:
                others = users[id(getattr(attention, name).weight)].difference(chosen)
                if others:
                    raise recipe.refused(f"units {unit} and {min(others)} share queries and keys; give both the same")
        for attention in attentions:
            _fix(attention, recipe.value, _PROJECTIONS[family])
        settle([slots[unit].module for unit in chosen], wholes)

    padded = "fixed heads attend over the whole sequence, its padding included"
    caveats = [Caveat(code="fixed-over-padding", text=padded)] if subject.workload.padding != 0 else []
    return restructured(subject, recipe, change, caveats=caveats)


def _family(model: nn.Module, recipe: Recipe) -> str:
    families = {base.family for base in bases_of(model)}
    (family, *others) = families or {""}
    if others or family not in _PROJECTIONS:
        what = f"{type(model).__name__} is no such model" if len(families) != 1 else f"that of {family} is another"
        raise recipe.refused(f"heads are fixed in attention built as BERT's or DistilBERT's, and {what}")
    return family


def _attention(unit: nn.Module, family: str, number: int, recipe: Recipe) -> Any:
    """The module of a unit that splits heads."""
    found: list[Any] = [m for m in unit.modules() if hasattr(m, "attention_head_size")]
    if len(found) != 1 or getattr(found[0], "is_decoder", False):
        raise recipe.refused(f"unit {number} is a decoder's, whose heads may not look ahead")
    query, key, value = (getattr(found[0], name) for name in _PROJECTIONS[family])
    if not all(type(linear) is nn.Linear for linear in (query, key, value)):
        raise recipe.refused(f"query, key and value of unit {number} are no plain linears")
    heads = value.out_features // found[0].attention_head_size
    if recipe.value >= heads:
        raise recipe.refused(
            f"unit {number} has {heads} head{'s' if heads > 1 else ''}, of which at least one stays learned"
        )
    return found[0]


def _lengths_of(subject: Subject, recipe: Recipe) -> set[int]:
    """The lengths of the sequences that the model is run or counted on, unpadded ones included."""
    whole = subject.workload.sequence_length
    if whole is None:
        raise recipe.refused("the inputs show no sequence, and patterns depend on its length")
    lengths = [size_of(inputs)[1] for inputs in subject.unpadded or ()]
    return {whole, *(length for length in lengths if length is not None)}


def _fix(attention: Any, heads: int, projections: tuple[str, str, str]) -> None:
    """Makes the first heads of an attention module fixed, in place; `settle` gives them their patterns."""
    left_out = heads * attention.attention_head_size
    for name in projections[:2]:
        linear = getattr(attention, name)
        for leaf, parameter in list(linear.named_parameters()):
            rest = parameter.detach()[left_out:].clone()
            setattr(linear, leaf, nn.Parameter(rest, requires_grad=parameter.requires_grad))
        linear.out_features -= left_out
    kind = type(attention)
    attention.__class__ = type(f"Fixed{kind.__name__}", (FixedHeads, kind), {})
    attention.fixed_heads, attention.projections = heads, projections


class FixedHeads(nn.Module):
    """What a class of attention modules is mixed with: its first heads follow patterns, the rest is as it was.

    Attributes:
        fixed_heads: how many.
        projections: the names of its linears of query, key and value.
    """

    fixed_heads: int
    projections: tuple[str, str, str]
    attention_head_size: int
    out_lin: nn.Module

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Self-attention of (batch, sequence, hidden); its context, and the weights of learned heads if eager."""
        batch, length = hidden_states.shape[:2]
        heads = (batch, length, -1, self.attention_head_size)
        query, key, value = (getattr(self, name)(hidden_states).view(heads) for name in self.projections)
        # One product for the whole batch, in which sequences stand beside each other, as their patterns are the same.
        fixed = value[:, :, : self.fixed_heads].permute(2, 1, 0, 3).flatten(2)
        fixed = torch.bmm(getattr(self, f"patterns_{int(length)}"), fixed)
        fixed = fixed.view(self.fixed_heads, length, batch, -1).permute(2, 1, 0, 3)
        learned, weights = self._attended(query, key, value[:, :, self.fixed_heads :], attention_mask)
        context = torch.cat((fixed, learned), dim=2).flatten(2)
        # DistilBERT's output projection stands in its attention.
        return (self.out_lin(context) if hasattr(self, "out_lin") else context), weights

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The context of learned heads, all (batch, sequence, heads, width), as the model's configuration runs it."""
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        if getattr(getattr(self, "config", None), "_attn_implementation", None) == "sdpa":
            context = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            return context.transpose(1, 2), None
        scores = torch.matmul(query, key.transpose(2, 3)) * self.attention_head_size**-0.5
        weights = functional.softmax(scores if mask is None else scores + mask, dim=-1)
        return torch.matmul(weights, value).transpose(1, 2), weights


def settle(units: Iterable[nn.Module], wholes: Collection[int]) -> None:
    """Gives the fixed heads of units their patterns, one set for all units of a length.

    They are buffers: a forward that built them would count them as its own work.

    Args:
        units: those that have no fixed heads are left as they are.
        wholes: the lengths of the sequences; a decomposed unit sees their segments.
    """
    made: dict[tuple[int, int], Tensor] = {}
    for unit in units:
        segments = getattr(unit, "segment_lengths", None)
        lengths = wholes if segments is None else {part for whole in wholes for part in clipped(segments, whole)}
        for module in unit.modules():
            if not isinstance(module, FixedHeads):
                continue
            for name in [name for name in module._buffers if name.startswith("patterns_")]:
                del module._buffers[name]
            like = getattr(module, module.projections[2]).weight
            for length in lengths:
                key = module.fixed_heads, length
                if key not in made:
                    made[key] = patterns(*key).to(like.device, like.dtype)
                module.register_buffer(f"patterns_{length}", made[key], persistent=False)


def clipped(segments: Sequence[int], whole: int) -> list[int]:
    """The lengths of the segments of a sequence, of which the last may be cut off."""
    starts = [sum(segments[:place]) for place in range(len(segments))]
    return [min(length, whole - start) for start, length in zip(starts, segments, strict=True) if start < whole]


def patterns(heads: int, length: int) -> Tensor:
    """The attention weights of fixed heads, (heads, length, length), in float64; each row sums to 1.

    The seven kinds are those of Raganato et al. 2020 (Section 3). Of contexts, and of the start and the end, the weight
    of a token is the cube of its place, counted from the far side, as in a public re-implementation: to the left of
    token i, (j + 1)³ of token j ≤ i - 2, and (j + 1)³ of all tokens for the end; to the right and for the start the
    mirror image. Where nothing stands on that side, the token nearest to it is attended to, the first or the last (our
    choice).
    """
    place = torch.arange(length)
    cubes = (place + 1.0).double() ** 3
    left = torch.where(place < place[:, None] - 1, cubes, 0.0)
    left[:2, 0] = 1.0
    left /= left.sum(1, keepdim=True)
    end = (cubes / cubes.sum()).expand(length, length)
    one = torch.eye(length, dtype=torch.float64)
    found = {
        "current": one,
        "previous": one[(place - 1).clamp(min=0)],
        "next": one[(place + 1).clamp(max=length - 1)],
        "left": left,
        "right": left.flip(0, 1),
        "start": end.flip(0, 1),
        "end": end,
    }
    return torch.stack([found[KINDS[head % len(KINDS)]] for head in range(heads)])
