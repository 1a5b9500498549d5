"""fixed-attention: the patterns, that fixed heads follow them and learned ones stay, what it costs, what is refused."""

from typing import Any

import pytest
import torch
from compressing import applied, drawn, first, ids, output
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bertprof
from bertprof import Component
from bertprof.compress import fixed
from bertprof.compress.subjects import units_of
from bertprof.errors import UsageError
from bertprof.measure import flops
from bertprof.measure.anatomy import regions_of
from conftest import FAMILIES, tiny

BUILT_SO = ("bert", "roberta", "xlm-roberta", "camembert", "megatron-bert", "electra", "distilbert")

# The patterns ---------------------------------------------------------------------------------------------------------


def test_the_seven_patterns_of_four_tokens():
    """Cubes are 1, 8, 27 and 64; the left context stops two tokens before, the right one starts two behind."""
    current, previous, following, left, right, start, end = fixed.patterns(7, 4).tolist()
    assert current == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert previous == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert following == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]]
    assert left == [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1 / 9, 8 / 9, 0, 0]]
    assert right == [[0, 0, 8 / 9, 1 / 9], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]]
    assert start == [[0.64, 0.27, 0.08, 0.01]] * 4
    assert end == [[0.01, 0.08, 0.27, 0.64]] * 4


@given(heads=st.integers(1, 20), length=st.integers(1, 40))
def test_weights_are_a_distribution_and_patterns_repeat(heads: int, length: int):
    found = fixed.patterns(heads, length)
    assert found.shape == (heads, length, length)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(heads, length, dtype=torch.float64))
    for head in range(7, heads):
        assert torch.equal(found[head], found[head - 7])
    if heads >= 7:  # the mirror images of each other
        for one, other in ((1, 2), (3, 4), (5, 6)):
            assert torch.equal(found[one], found[other].flip(0, 1))


# What it computes -----------------------------------------------------------------------------------------------------


def attention_of(model: nn.Module, unit: int = 0) -> Any:
    module = units_of(model, regions_of(model))[unit].module
    return next(m for m in module.modules() if hasattr(m, "attention_head_size"))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", BUILT_SO)
def test_a_fixed_head_is_its_pattern_times_its_values_and_a_learned_one_is_as_before(
    family: str, attention: str, untouched: Any
):
    """Of 4 heads of 8 columns; DistilBERT's output projection, in its attention, is taken out of the way."""
    model = untouched(drawn(family, attention=attention))
    hidden = torch.randn(2, 20, 32, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(2, 1, 20, 20)
    mask[..., 15:] = torch.finfo(torch.float32).min
    with applied(model, "fixed-attention=3").open() as opened, torch.inference_mode():
        module, before = attention_of(opened.model), attention_of(model)
        value = getattr(before, "v_lin" if family == "distilbert" else "value")
        values = value(hidden).view(2, 20, 4, 8).double()
        for given_mask in (None, mask):
            context = module(hidden, given_mask)[0]
            whole = before(hidden, given_mask)[0]
            if family == "distilbert":
                project = before.out_lin
                backward = torch.linalg.pinv(project.weight.double()).T
                context, whole = ((one.double() - project.bias) @ backward for one in (context, whole))
            context, whole = context.view(2, 20, 4, 8), whole.view(2, 20, 4, 8)
            for head, pattern in enumerate(fixed.patterns(3, 20)):
                by_hand = torch.einsum("st,btd->bsd", pattern, values[:, :, head])
                torch.testing.assert_close(context[:, :, head].double(), by_hand, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(context[:, :, 3], whole[:, :, 3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", BUILT_SO)
def test_what_sdpa_computes_eager_does(family: str):
    found = [
        output(applied(drawn(family, attention=attention), "fixed-attention=2")) for attention in ("sdpa", "eager")
    ]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_what_stays_learned_has_the_weights_that_it_had(untouched: Any):
    model = untouched(drawn("bert"))
    with applied(model, "units=1:fixed-attention=3").open() as opened:
        before, after = attention_of(model, 1), attention_of(opened.model, 1)
        for name in ("query", "key"):
            assert torch.equal(getattr(after, name).weight, getattr(before, name).weight[24:])
            assert torch.equal(getattr(after, name).bias, getattr(before, name).bias[24:])
            assert getattr(after, name).out_features == 8
        assert torch.equal(after.value.weight, before.value.weight)
        assert attention_of(opened.model, 0).query.out_features == 32
        state = opened.model.state_dict()
    assert state.keys() == model.state_dict().keys()  # patterns are no part of a checkpoint


# What it costs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", BUILT_SO)
def test_macs_of_each_component_by_closed_form(family: str, attention: str):
    """B = 2 sequences of S = 20 tokens, H = 32, A = 4 heads of d = 8, F = 3 fixed."""
    subject = applied(tiny(family, attention=attention), "units=0,2:fixed-attention=3")
    assert subject.twin is not None
    counts = flops.count(subject.twin, subject.twin_inputs, subject.regions)
    macs: dict[tuple[int | None, Component], int] = {}
    for owner, (number, _) in counts.totals().items():
        key = owner.unit, owner.component
        macs[key] = macs.get(key, 0) + number
    for unit, fixed_heads in enumerate((3, 0, 3)):
        learned = 8 * (4 - fixed_heads)
        assert macs[unit, Component.ATTENTION_LINEAR_IN] == 2 * 20 * 32 * (learned + learned + 32)
        assert macs[unit, Component.SOFTMAX_ATTENTION] == 2 * 20 * 20 * (2 * learned + 8 * fixed_heads)
        assert macs[unit, Component.ATTENTION_LINEAR_OUT] == 2 * 20 * 32 * 32


def test_patterns_are_not_built_in_a_forward_and_stand_once_for_all_units():
    with applied(tiny("bert"), "fixed-attention=3").open() as opened:
        buffers = [b for name, b in opened.model.named_buffers(remove_duplicate=False) if "patterns" in name]
    assert [buffer.shape for buffer in buffers] == [(3, 20, 20)] * 3
    assert len({buffer.data_ptr() for buffer in buffers}) == 1


def test_padding_is_attended_to_and_said_so():
    """Of 16 tokens 4 are padding: useful MACs of 3 fixed heads and a learned one are those of 12 tokens."""
    asked: dict[str, Any] = {"recipes": ["fixed-attention=3"], "overrides": SMALL, "time": False}
    found = bertprof.breakdown("bert-base-uncased", sequence_length=16, padding=0.25, **asked)
    assert "fixed-over-padding" in [caveat.code for caveat in found.caveats]
    rows = list(found.of(SOFTMAX))
    assert {row.macs for row in rows} == {16 * 16 * 5 * 8}
    assert {row.useful_macs for row in rows} == {12 * 12 * 5 * 8}
    asked["recipes"] = ["fixed-attention=3+decompose-attention=1"]
    lower, upper = bertprof.breakdown("bert-base-uncased", segments=[7, 9], padding=0.25, **asked).of(SOFTMAX)
    assert (lower.macs, lower.useful_macs) == ((7 * 7 + 9 * 9) * 5 * 8, (7 * 7 + 5 * 5) * 5 * 8)
    assert (upper.macs, upper.useful_macs) == (16 * 16 * 5 * 8, 12 * 12 * 5 * 8)
    found = bertprof.breakdown("bert-base-uncased", sequence_length=16, **asked)
    assert "fixed-over-padding" not in [caveat.code for caveat in found.caveats]


SOFTMAX = Component.SOFTMAX_ATTENTION
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


# With other methods ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", ["int8", "int8-weight", "bits=4", "sparsity=0.6,storage=csr", "bf16"])
def test_other_methods_behind_it(behind: str):
    found = output(applied(drawn("bert"), f"heads=2+fixed-attention=1+{behind}"))
    assert found.shape == (2, 20, 32)
    assert torch.isfinite(found).all()


def test_units_that_share_their_attention_share_what_is_left_of_it():
    model = drawn("bert")
    subject = applied(model, "share-units=attention+fixed-attention=3")
    with subject.open() as opened:
        queries = [attention_of(opened.model, unit).query for unit in range(3)]
    assert len({id(query.weight) for query in queries}) == 1
    assert torch.equal(queries[0].weight, attention_of(model).query.weight[24:])


ORDERS = ("fixed-attention=3+decompose-attention=2", "decompose-attention=2+fixed-attention=3")


@pytest.mark.parametrize("order", ORDERS)
def test_decomposed_units_follow_patterns_within_each_segment(order: str):
    with applied(drawn("bert"), order).open() as opened:
        kept = [
            sorted(name for name, _ in attention_of(opened.model, unit).named_buffers(recurse=False))
            for unit in range(3)
        ]
    assert kept == [["patterns_10"], ["patterns_10"], ["patterns_20"]]
    both = [output(applied(drawn("bert"), one)) for one in ORDERS]
    assert torch.equal(*both)
    # Of one unit: the two halves of the sequence, each as if it were alone, but for its positions.
    single = drawn("bert", num_hidden_layers=1)
    halves = [
        first(applied_to(single, {"input_ids": part, "position_ids": places[None]}))
        for part, places in zip(ids().chunk(2, 1), torch.arange(20).chunk(2), strict=True)
    ]
    whole = output(applied(single, order.replace("n=2", "n=1")))
    torch.testing.assert_close(whole, torch.cat(halves, 1), rtol=1e-5, atol=1e-5)


def applied_to(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return output(applied(model, "fixed-attention=3", inputs))


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in BUILT_SO])
def test_attention_that_is_built_otherwise(family: str):
    with pytest.raises(UsageError, match=f"built as BERT's or DistilBERT's, and that of {family} is another"):
        applied(tiny(family), "fixed-attention=2")


def test_what_is_refused():
    with pytest.raises(UsageError, match="unit 0 has 4 heads, of which at least one stays learned"):
        applied(tiny("bert"), "fixed-attention=4")
    with pytest.raises(UsageError, match="unit 1 has 1 head, of which"):
        applied(tiny("bert"), "heads=4,1,4+fixed-attention=1")
    with pytest.raises(UsageError, match="there is no unit 3; the model has 3"):
        applied(tiny("bert"), "units=3:fixed-attention=1")
    with pytest.raises(UsageError, match="units 0 and 2 share queries and keys; give both the same"):
        applied(tiny("bert"), "share-units=attention+units=0-1:fixed-attention=1")
    with pytest.raises(UsageError, match="unit 0 is a decoder's"):
        applied(tiny("bert", is_decoder=True), "fixed-attention=1")
    with pytest.raises(UsageError, match="it cannot follow fixed-attention=1"):
        applied(tiny("bert"), "fixed-attention=1+heads=2")
    with pytest.raises(UsageError, match="LayerNorm is no such model"):
        applied(nn.LayerNorm(3), "fixed-attention=1", torch.ones(2, 3))


def test_other_attention_is_refused():
    model = tiny("bert")
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(UsageError, match="attention is run by flex_attention; fixed heads go with sdpa or eager"):
        applied(model, "fixed-attention=1")


def test_one_module_in_the_place_of_several_units_is_refused():
    model: Any = tiny("bert")
    model.encoder.layer[1] = model.encoder.layer[0]
    for recipe in ("fixed-attention=1", "decompose-attention=1"):
        with pytest.raises(UsageError, match="one module stands for several of its units"):
            applied(model, recipe)
