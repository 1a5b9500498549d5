"""Attention decomposition (AIC-AD): the lower units attend within each segment, and one segment may be cached.

Cao et al. 2020 (DeFormer, arXiv 2005.00697): the lower units run on question and passage apart, the upper ones on both
together. That alone changes few MACs, those of the scores between segments. What a passage is in the lower units then
no longer depends on the question, so that it can be computed beforehand: this is where the published gain is from.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from bertprof import formatting
from bertprof.attribution import Region
from bertprof.compress import fixed
from bertprof.compress.recipe import Recipe
from bertprof.compress.subjects import restructured, units_of
from bertprof.measure.anatomy import bases_of
from bertprof.measure.inputs import Inputs, size_of
from bertprof.measure.subject import Opened, Subject
from bertprof.record import Caveat

CACHED = "cached-segment"
"""The code of the caveat that a segment is computed beforehand."""

_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert")
"""Families that count positions from behind the padding id."""

_WHOLE = ("bert", *_BEHIND_PADDING, "megatron-bert", "electra", "distilbert", "mobilebert")
"""Families whose units take (batch, sequence, hidden) and learn of positions from the embeddings alone."""

_WHY_NOT: Mapping[str, str] = {
    "albert": "ALBERT's one unit serves all of its calls, and does not know the lower ones",
    "squeezebert": "SqueezeBERT's units take the sequence last",
    "gpt2": "GPT-2 is causal: its first segment does not see the second anyway",
    "modernbert": "ModernBERT's units take positions and windows of the whole sequence",
    **dict.fromkeys(
        ("mpnet", "deberta", "deberta-v2", "xlnet"), "its units take relative positions of the whole sequence"
    ),
}


# Decomposing ---------------------------------------------------------------------------------------------------------


def decompose(subject: Subject, recipe: Recipe) -> Subject:
    """The lower K units attend within each segment: each is called once, what is in it once a segment.

    Segments are those of the workload; where it has none, the two halves of the sequence, which it then has. Of a
    sequence that is shorter than its segments together, without its padding, the last ones are cut off. A unit does
    2 · Σ s² · H MACs of softmax attention a sequence, s the lengths of the segments, in the place of 2 · S² · H.
    Embedding, upper units and all weights are as before.

    Raises:
        UsageError: the model has fewer units, there are no two tokens, or the model is of a family whose units cannot
            run on a part of the sequence.
    """
    assert subject.twin is not None
    _check_family(subject.twin, recipe)
    whole = subject.workload.sequence_length
    if whole is None or whole < 2:
        raise recipe.refused("the sequence has no two tokens, and so no two segments")
    segments = subject.workload.segments
    halves = segments is None
    segments = segments or [whole // 2, whole - whole // 2]
    unpadded = [size_of(inputs)[1] or whole for inputs in subject.unpadded or ()]

    def change(model: nn.Module, regions: Mapping[str, Region]) -> None:
        units = [slot.module for slot in units_of(model, regions)]
        if len(set(map(id, units))) < len(units):
            raise recipe.refused("one module stands for several of its units")
        if recipe.value > len(units):
            raise recipe.refused(f"the model has no more than {len(units)} unit{'s' if len(units) != 1 else ''}")
        for unit in units[: recipe.value]:
            kind = type(unit)
            # A patched forward would be a closure, which no copy of the unit takes along.
            unit.__class__ = type(f"Decomposed{kind.__name__}", (Decomposed, kind), {})
            unit.segment_lengths, unit.cached_segment = list(segments), None  # type: ignore[assignment]
            unit.register_buffer("cached_states", None, persistent=False)
        fixed.settle(units[: recipe.value], {whole, *unpadded})

    text = f"no --segments are given: the {whole} tokens are taken as two halves, {segments[0]} + {segments[1]}"
    caveats = [Caveat(code="segments-halved", text=text)] if halves else []
    made = restructured(subject, recipe, change, caveats=caveats)
    return replace(made, workload=msgspec.structs.replace(subject.workload, segments=segments))


def _check_family(model: nn.Module, recipe: Recipe) -> str:
    """The family of the one base model that there is.

    Raises:
        UsageError: there is not one, it is of a family whose units need the whole sequence, or it is a decoder.
    """
    bases = bases_of(model)
    if len(bases) != 1:
        raise recipe.refused(f"whether units of {type(model).__name__} can run on a part of a sequence is not known")
    ((_, path, family),) = bases
    if family not in _WHOLE:
        raise recipe.refused(_WHY_NOT.get(family, f"units of {family} need the whole sequence"))
    config: Any = model.get_submodule(path).config
    if getattr(config, "is_decoder", False):
        raise recipe.refused("the model is a decoder, in which a token sees those before it alone")
    return family


class Decomposed(nn.Module):
    """What a class of units is mixed with: it runs on each segment of a sequence by itself.

    Attributes:
        segment_lengths: in tokens, in order.
        cached_segment: the index of one that is computed beforehand, and not in what the unit takes.
        cached_states: its hidden states, (batch, segment, hidden), where this is the last unit that does without it.
    """

    segment_lengths: list[int]
    cached_segment: int | None
    cached_states: Tensor | None

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor | tuple[Tensor]:
        """The unit's forward, on (batch, sequence, hidden) without the cached segment.

        A mask is that of the whole sequence: (batch, 1, 1 or sequence, sequence), or (batch, sequence).
        """
        parts: list[Tensor] = []
        read = start = 0
        in_tuple = False
        for place, length in enumerate(self.segment_lengths):
            stop = start + length
            if place != self.cached_segment:
                part = hidden_states[:, read : read + length]
                read += length
                if part.shape[1]:
                    found = super().forward(part, _of(attention_mask, start, stop), *args, **kwargs)
                    in_tuple = isinstance(found, tuple)
                    parts.append(found[0] if in_tuple else found)
            elif self.cached_states is not None:
                parts.append(self.cached_states)
            start = stop
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return (joined,) if in_tuple else joined


def _of(mask: Tensor | None, start: int, stop: int) -> Tensor | None:
    """The part of a mask that is of one segment."""
    if mask is None:
        return None
    rows = mask[..., start:stop, :] if mask.ndim > 2 and mask.shape[-2] > 1 else mask
    return rows[..., start:stop]


# Caching -------------------------------------------------------------------------------------------------------------


def cache_segment(subject: Subject, recipe: Recipe) -> Subject:
    """A segment's embedding and decomposed units are computed beforehand, once each time that the model is opened.

    The model is run on the other segments alone, in their places; behind the last decomposed unit the cached hidden
    states are put in theirs, and the upper units run on the whole sequence. Outputs are those of the decomposed model.
    The cache is no parameter, and takes segment · H scalars a sequence, in the dtype in which the model then runs; each
    sequence of a batch has its own. Methods that come later (zeros, a dtype, quantising) do not change what was cached
    but for its dtype.

    How much of the work is on padding is no longer told: which of it fell on the cached segment's does not show.

    Raises:
        UsageError: there is no such segment, embeddings depend on tokens of another one, or the inputs cannot be cut:
            they stand without names, have a mask of two dimensions or other tensors than a tokenizer's.
    """
    twin, segments = subject.twin, subject.workload.segments
    assert twin is not None
    assert segments is not None
    family = _check_family(twin, recipe)
    if recipe.value > len(segments):
        raise recipe.refused(f"there are {len(segments)} segments, counted from 1")
    if family == "mobilebert" and twin.get_submodule(bases_of(twin)[0].path).embeddings.trigram_input:  # type: ignore
        raise recipe.refused(
            "MobileBERT's embedding of a token is made of its neighbours' as well, which may be another segment's"
        )
    _check_inputs(subject, recipe)
    place = recipe.value - 1
    stops = list(accumulate(segments))
    start, stop = stops[place] - segments[place], stops[place]

    def others(inputs: Inputs) -> Inputs:
        return _without(inputs, start, stop, _positions(twin, family, inputs) if stop < stops[-1] else None)

    def change(model: nn.Module, regions: Mapping[str, Region]) -> None:
        lower = _lower(model)
        for unit in lower:
            unit.cached_segment = place
        like = next(parameter for parameter in lower[-1].parameters() if parameter.is_floating_point())
        shape = (subject.workload.batch_size, segments[place], _width(model))
        lower[-1].cached_states = like.new_empty(shape)

    made = restructured(subject, recipe, change, inputs=others)

    @contextmanager
    def open_() -> Iterator[Opened]:
        with subject.open() as opened:
            states = _states(opened)[:, start:stop].clone()
            change(opened.model, subject.regions)
            _lower(opened.model)[-1].cached_states = states
            yield opened._replace(inputs=others(opened.inputs))

    unpadded = [made.twin_inputs] if subject.workload.padding == 0 else None
    return replace(made, open=open_, unpadded=unpadded)


def _lower(model: nn.Module) -> list[Decomposed]:
    return [module for module in model.modules() if isinstance(module, Decomposed)]


def _width(model: nn.Module) -> int:
    """Of hidden states between units."""
    config: Any = model.get_submodule(bases_of(model)[0].path).config
    return int(config.hidden_size)


def _states(opened: Opened) -> Tensor:
    """The hidden states behind the last decomposed unit, (batch, sequence, hidden), in one forward."""
    found: list[Any] = []
    hook = _lower(opened.model)[-1].register_forward_hook(lambda unit, args, output: found.append(output))
    try:
        args, kwargs = opened.inputs.fresh()
        with torch.no_grad():
            opened.model(*args, **kwargs)
    finally:
        hook.remove()
    states: Tensor = found[0][0] if isinstance(found[0], tuple) else found[0]
    return states


_TOKENWISE: Mapping[str, int] = {"input_ids": -1, "token_type_ids": -1, "position_ids": -1, "inputs_embeds": -2}
"""Arguments that have an entry a token → the dimension of the sequence."""


def _check_inputs(subject: Subject, recipe: Recipe) -> None:
    inputs, twin = subject.twin_inputs, subject.twin
    if inputs.args or bases_of(twin)[0].outer:  # type: ignore[arg-type]
        raise recipe.refused("its inputs are cut by name; give them to the transformers model itself, as a dict")
    for name, value in inputs.tensors():
        if name == "attention_mask" and value.ndim == 4:
            continue
        if name == "attention_mask":
            raise recipe.refused(
                "a mask of two dimensions is laid out by the model for what it is given, which is not the whole "
                "sequence; pass none, or one prebuilt mask of four"
            )
        if name not in _TOKENWISE:
            raise recipe.refused(f"of input {name} it is not known what is the cached segment's")


def _positions(model: nn.Module, family: str, inputs: Inputs) -> Tensor | None:
    """The positions that the model would give all tokens, (1 or batch, sequence); None where they are given."""
    if inputs.get("position_ids") is not None:
        return None
    ids = inputs.get("input_ids")
    if ids is None:
        embeds = inputs.get("inputs_embeds")
        ids = torch.full(embeds.shape[:-1], -1, device=embeds.device)
    ids = ids.flatten(0, -2)  # choices are sequences
    if family not in _BEHIND_PADDING:
        return torch.arange(ids.shape[1], device=ids.device)[None]
    config: Any = model.config
    seen: Tensor = ids.ne(config.pad_token_id).long()
    return seen.cumsum(1) * seen + int(config.pad_token_id)


def _without(inputs: Inputs, start: int, stop: int, positions: Tensor | None) -> Inputs:
    """The inputs without the tokens of one segment; `positions` are those of the whole sequence, where they change."""
    given = {**inputs.kwargs, **({} if positions is None else {"position_ids": positions})}
    for name, axis in _TOKENWISE.items():
        value = given.get(name)
        if value is not None:
            before, behind = value.narrow(axis, 0, start), value.narrow(axis, stop, value.shape[axis] - stop)
            given[name] = torch.cat((before, behind), axis)
    return Inputs(kwargs=given)


def caveats_of(subject: Subject) -> list[Caveat]:
    """What a reader must know of a model that has a cache, whatever dtype it has by now."""
    segments, twin = subject.workload.segments, subject.twin
    lower = _lower(twin) if twin is not None else []
    if segments is None or not lower or lower[-1].cached_states is None or lower[-1].cached_segment is None:
        return []
    place = lower[-1].cached_segment
    size = lower[-1].cached_states.nbytes // subject.workload.batch_size
    units = f"lower {len(lower)} units" if len(lower) > 1 else "lowest unit"
    text = (
        f"segment {place + 1} ({segments[place]} tokens): its embedding and {units} are computed beforehand and not "
        f"counted; the cache takes {formatting.exact(size)} bytes a sequence"
    )
    return [Caveat(code=CACHED, text=text, value=float(size))]
