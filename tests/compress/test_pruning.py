"""heads, ffn, layers: what is removed, that the rest computes what it did, what it costs, and what is refused."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from compressing import applied, drawn, first, ids, output, parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from transformers.pytorch_utils import Conv1D, prune_linear_layer

import bertprof
from bertprof import Component
from bertprof.attribution import component_of_parameter
from bertprof.compress.pruning import called_units
from bertprof.errors import UsageError
from bertprof.measure import flops, live, profiler
from bertprof.measure.anatomy import regions_of
from bertprof.record import Breakdown
from conftest import FAMILIES, tiny, tiny_twin

UNGROUPED = {f"{part}_groups": 1 for part in ("q", "k", "v", "intermediate", "output")}
"""SqueezeBERT with convolutions that are linears."""

WITH_HEADS = tuple(family for family in FAMILIES if family != "xlnet")
OPTIONS: dict[str, dict[str, Any]] = {
    "squeezebert": UNGROUPED,
    "modernbert": {"attention_bias": True, "mlp_bias": True},
    "mobilebert": {"num_feedforward_networks": 2},
}


def counted(subject: Any) -> Breakdown:
    (found,) = profiler.measure([subject], profiler.Options(time=False))
    return found


def linears(model: nn.Module, *components: Component) -> Iterator[tuple[int, Any]]:
    """The linears of these components with the number of their unit, ALBERT's once."""
    regions = regions_of(model)
    paths = [path for path, region in regions.items() if region.unit]
    for unit, path in enumerate(paths):
        for below, module in model.get_submodule(path).named_modules():
            weight = getattr(module, "weight", None)
            component = component_of_parameter(f"{path}.{below}.weight", regions)
            if weight is not None and weight.dim() > 1 and component in components:
                yield unit, module


def inputs_of(linear: nn.Module) -> Tensor:
    """Its weight with the inputs in front, a view."""
    weight: Any = linear.weight
    return weight.detach() if isinstance(linear, Conv1D) else weight.detach().transpose(0, 1)


def silence_heads(model: nn.Module, heads: Callable[[int], Sequence[int]]) -> None:
    """What these heads of a unit find no longer counts. Heads have 8 inputs in a row, 2 in the tiny MobileBERT."""
    for unit, linear in linears(model, Component.ATTENTION_LINEAR_OUT):
        by_head = inputs_of(linear)
        by_head *= 3  # so that those that count weigh more
        size = len(by_head) // 4
        for head in heads(unit):
            by_head[head * size : (head + 1) * size] = 0


def silence_columns(model: nn.Module, columns: Sequence[int]) -> None:
    """What these columns of each FFN find no longer counts."""
    for _, linear in linears(model, Component.FFN):
        if len(inputs_of(linear)) == 64:
            inputs_of(linear)[list(columns)] = 0


# The same as without those that do not count -------------------------------------------------------------------------


@pytest.mark.parametrize("family", WITH_HEADS)
def test_heads_that_do_not_count_go_and_change_nothing(family: str, untouched: Any):
    model = drawn(family, **OPTIONS.get(family, {}))
    # MPNet's units share a table of position biases and can only lose the same heads.
    silence_heads(model, lambda unit: [1, 2] if family == "mpnet" else [unit % 4, (unit + 2) % 4])
    subject = applied(untouched(model), "heads=2", (ids(),))
    assert parameters(subject) < sum(parameter.numel() for parameter in model.parameters())
    with torch.inference_mode():
        before = first(model(ids()))
    torch.testing.assert_close(output(subject), before, rtol=1e-5, atol=1e-5)
    with subject.open() as opened:
        for _, linear in linears(opened.model, Component.ATTENTION_LINEAR_OUT):
            assert inputs_of(linear).abs().amin() > 0
            assert len(inputs_of(linear)) == (4 if family == "mobilebert" else 16)
        assert [tuple(p.shape) for p in opened.model.parameters()] == [
            tuple(p.shape) for p in (subject.twin or opened.model).parameters()
        ]
        assert repr(opened.model) == repr(subject.twin)


@pytest.mark.parametrize("family", FAMILIES)
def test_columns_that_do_not_count_go_and_change_nothing(family: str, untouched: Any):
    model = drawn(family, **OPTIONS.get(family, {}))
    silence_columns(model, range(1, 64, 2))
    subject = applied(untouched(model), "ffn=32", (ids(),))
    assert parameters(subject) < sum(parameter.numel() for parameter in model.parameters())
    with torch.inference_mode():
        before = first(model(ids()))
    torch.testing.assert_close(output(subject), before, rtol=1e-5, atol=1e-5)
    with subject.open() as opened:
        widths = {len(inputs_of(linear)) for _, linear in linears(opened.model, Component.FFN)}
        assert widths == ({8, 32} if family == "mobilebert" else {32})
        assert repr(opened.model) == repr(subject.twin)


@pytest.mark.parametrize("recipe", ["layers=0,2", "layers=2,keep=top", "layers=1"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "albert"])
def test_units_that_stay_compute_what_they_did(family: str, recipe: str, untouched: Any):
    model = drawn(family)
    kept = {"layers=0,2": [0, 2], "layers=2,keep=top": [1, 2], "layers=1": [0]}[recipe]
    subject = applied(untouched(model), recipe, (ids(),))
    # By hand: the other units hand on what they are given.
    dropped = [slot for unit, slot in enumerate(called_units(model, regions_of(model))) if unit not in kept]
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        for slot in dropped:
            patch.setitem(vars(slot.module), "forward", _handing_on(slot.module.forward))
        before = first(model(ids()))
    assert torch.equal(output(subject), before)
    assert subject.kept_units == kept
    with subject.open() as opened:
        assert opened.model.config.num_hidden_layers == len(kept)
        again = type(opened.model)(opened.model.config)
        if family != "modernbert" or 0 in kept:  # its first unit has no norm before attention
            assert {n: p.shape for n, p in again.named_parameters()} == {
                n: p.shape for n, p in opened.model.named_parameters()
            }


def _handing_on(forward: Any) -> Any:
    def handing_on(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        given = args[0] if args else kwargs.get("hidden_states", kwargs.get("output_h"))
        if isinstance(result, dict):  # SqueezeBERT
            return {**result, "feature_map": given}
        return (given, *result[1:]) if isinstance(result, tuple) else given

    return handing_on


def test_albert_calls_its_unit_less_often():
    model = drawn("albert", num_hidden_layers=6)
    found = applied(model, "layers=2")
    assert found.kept_units == [0, 3]
    model.config.num_hidden_layers = 2
    with torch.inference_mode():
        assert torch.equal(output(found), first(model(ids())))
    assert counted(found).units == 2
    assert parameters(found) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("family", ["gpt2", "bert", "modernbert"])
def test_kept_units_stand_in_a_row_in_the_cache_and_in_their_list(family: str):
    with applied(drawn(family), "layers=1,2").open() as opened:
        paths = [path for path, region in regions_of(opened.model).items() if region.unit]
        places = [getattr(m, "layer_idx", None) for path in paths for m in opened.model.get_submodule(path).modules()]
        assert [path.rpartition(".")[2] for path in paths] == ["0", "1"]
        assert sorted({place for place in places if place is not None}) == [0, 1]
        if family == "modernbert":
            assert opened.model.config.layer_types == ["sliding_attention"] * 2


# Which go ------------------------------------------------------------------------------------------------------------


def test_the_heads_of_the_largest_norm_stay_as_transformers_prunes_them():
    model = drawn("bert")
    with applied(model, "units=1:heads=3").open() as opened:
        before, after = model.encoder.layer[1].attention, opened.model.encoder.layer[1].attention
        norms = []
        for head in range(4):
            rows = slice(8 * head, 8 * head + 8)
            parts = [getattr(before.self, name).weight[rows] for name in ("query", "key", "value")]
            parts.append(before.output.dense.weight[:, rows])
            norms.append(sum(float(part.detach().double().square().sum()) for part in parts))
        stay = sorted(range(4), key=lambda head: -norms[head])[:3]
        index = torch.tensor([8 * head + i for head in sorted(stay) for i in range(8)])
        for name in ("query", "key", "value"):
            expected = prune_linear_layer(getattr(before.self, name), index)
            found = getattr(after.self, name)
            assert torch.equal(found.weight, expected.weight)
            assert torch.equal(found.bias, expected.bias)
            assert (found.in_features, found.out_features) == (32, 24)
        expected = prune_linear_layer(before.output.dense, index, dim=1)
        assert torch.equal(after.output.dense.weight, expected.weight)
        assert after.output.dense.in_features == 24
        assert (after.self.num_attention_heads, after.self.all_head_size) == (3, 24)
        assert opened.model.encoder.layer[0].attention.self.num_attention_heads == 4


@given(st.integers(1, 64), st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_the_columns_of_the_largest_product_stay(number: int, random: Any):
    model: Any = tiny("bert", num_hidden_layers=1)
    unit = model.encoder.layer[0]
    with torch.no_grad():  # row j of the first linear weighs a[j], column j of the second b[j]; some products are equal
        a, b = ([random.choice([1.0, 2.0, 4.0]) for _ in range(64)] for _ in range(2))
        unit.intermediate.dense.weight.copy_(torch.tensor(a)[:, None].expand(64, 32))
        unit.output.dense.weight.copy_(torch.tensor(b).expand(32, 64))
        unit.intermediate.dense.bias.copy_(torch.arange(64))
    stay = sorted(sorted(range(64), key=lambda column: (-a[column] * b[column], column))[:number])
    with applied(model, f"ffn={number}").open() as opened:
        found = opened.model.encoder.layer[0]
        assert found.intermediate.dense.bias.tolist() == stay
        assert found.output.dense.weight[0].tolist() == [b[column] for column in stay]


def test_of_equal_heads_the_lower_stay():
    model: Any = tiny("bert")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
        model.encoder.layer[0].attention.self.query.bias.copy_(torch.arange(32))
    with applied(model, "heads=2").open() as opened:
        assert opened.model.encoder.layer[0].attention.self.query.bias.tolist() == list(range(16))


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [
        ("layers=6", [0, 2, 4, 6, 8, 10]),  # floor(12 i / 6)
        ("layers=5", [0, 2, 4, 7, 9]),  # floor(12 i / 5): 0, 2.4, 4.8, 7.2, 9.6
        ("layers=3", [0, 4, 8]),
        ("layers=3,keep=bottom", [0, 1, 2]),
        ("layers=3,keep=top", [9, 10, 11]),
        ("layers=1,5,11", [1, 5, 11]),
    ],
)
def test_which_units_stay(recipe: str, kept: list[int]):
    assert applied(tiny_twin("bert", num_hidden_layers=12), recipe, _on_meta()).kept_units == kept


def _on_meta() -> dict[str, Tensor]:
    return {"input_ids": ids().to("meta")}


@given(st.integers(1, 12).flatmap(lambda count: st.tuples(st.just(count), st.integers(1, count))))
@settings(max_examples=20)
def test_every_other_is_as_many_units_of_those_there_are(numbers: tuple[int, int]):
    count, number = numbers
    found = applied(tiny_twin("bert", num_hidden_layers=count), f"layers={number}", _on_meta())
    kept = list(found.kept_units or range(count))
    assert len(kept) == number
    assert kept[0] == 0
    assert {b - a for a, b in pairwise(kept)} <= {count // number, count // number + 1}


# What is left, in numbers --------------------------------------------------------------------------------------------

PER_HEAD = 64 * 4 * 768 + 3 * 64
"""Parameters of a head of BERT-base: 64 rows of query, key and value with a bias each, 64 columns of the output."""
MACS_OF_UNITS = 12 * 128 * (4 * 768 * 768 + 2 * 128 * 768 + 2 * 768 * 3072)
"""Of BERT-base at 128 tokens, pooler aside."""


@pytest.mark.parametrize(
    ("heads", "total", "share"),
    # Michel et al. 2019 on BERT-base; facts of the survey's Table 1.
    [
        (8, 100_035_840, 88.3),
        (6, 95_312_640, 82.4),
        (4, 90_589_440, 76.6),
        (2, 85_866_240, 70.7),
        (1, 83_504_640, 67.8),
    ],
)
def test_heads_of_bert_base(heads: int, total: int, share: float):
    assert total == 109_482_240 - 12 * (12 - heads) * PER_HEAD
    found = bertprof.breakdown("bert-base-uncased", recipes=[f"heads={heads}"], time=False)
    assert found.total("parameters") == total
    assert found.total("parameter_bytes") == 4 * total
    macs = {component: sum(cost.macs for cost in found.of(component)) for component in Component}
    assert macs[Component.ATTENTION_LINEAR_IN] == 12 * 128 * 3 * 768 * 64 * heads
    assert macs[Component.SOFTMAX_ATTENTION] == 12 * 128 * 2 * 128 * 64 * heads
    assert macs[Component.ATTENTION_LINEAR_OUT] == 12 * 128 * 64 * heads * 768
    assert macs[Component.FFN] == 12 * 128 * 2 * 768 * 3072
    units = sum(macs.values()) - macs[Component.HEAD]
    assert round(100 * units / MACS_OF_UNITS, 1) == share
    assert found.kept_units is None


def test_heads_by_unit_of_bert_base():
    each = [12, 12, 8, 8, 6, 6, 6, 6, 4, 4, 2, 2]
    found = bertprof.breakdown("bert-base-uncased", recipes=[f"heads={','.join(map(str, each))}"], time=False)
    assert found.total("parameters") == 109_482_240 - (144 - sum(each)) * PER_HEAD
    for unit, heads in enumerate(each):
        (own,) = (cost for cost in found.of(Component.ATTENTION_LINEAR_OUT) if cost.unit == unit)
        assert own.parameters == 64 * heads * 768 + 768


def test_ffn_of_bert_base():
    found = bertprof.breakdown("bert-base-uncased", recipes=["ffn=1536"], time=False)
    # 1,536 rows with their bias and 1,536 columns go, of 12 units
    assert found.total("parameters") == 109_482_240 - 12 * 1536 * (768 + 1 + 768)
    assert sum(cost.macs for cost in found.of(Component.FFN)) == 12 * 128 * 2 * 768 * 1536
    some = bertprof.breakdown("bert-base-uncased", recipes=["units=0-5:ffn=1024"], time=False)
    assert some.total("parameters") == 109_482_240 - 6 * 2048 * (768 + 1 + 768)


@pytest.mark.parametrize(("units", "total"), [(6, 66_955_008), (3, 45_691_392)])
def test_units_of_bert_base(units: int, total: int):
    # A unit: 4 · 768 · 769 + (768 + 1) · 3,072 + (3,072 + 1) · 768 + 2 · 2 · 768 = 7,087,872
    assert total == 109_482_240 - (12 - units) * 7_087_872
    found = bertprof.breakdown("bert-base-uncased", recipes=[f"layers={units}"], time=False)
    assert (found.total("parameters"), found.units) == (total, units)
    assert found.total("macs") == MACS_OF_UNITS * units // 12 + 768 * 768
    assert found.kept_units == list(range(0, 12, 12 // units))


def test_mobileberts_stacked_ffns_each():
    whole = tiny_twin("mobilebert")
    found = applied(whole, "ffn=16+heads=1", _on_meta())
    # Three units, four FFNs of 8 × 64 each: 48 columns go.
    columns = 3 * 4 * 48 * (8 + 1 + 8)
    # Three of four heads of 2: rows of query and key (8 inputs) and value (32), columns of the output (8 outputs).
    heads = 3 * 3 * 2 * ((8 + 1) * 2 + (32 + 1) + 8)
    assert parameters(found) == sum(p.numel() for p in whole.parameters()) - columns - heads


@pytest.mark.parametrize(
    ("recipes", "less"),
    [
        # Of a tiny unit a head has 8 · 4 · 32 + 3 · 8 = 1,048 and an FFN column 65 parameters, all of it
        # 4 · 32 · 33 + (64 · 33 + 32 · 65) + 4 · 32 = 8,544.
        ("heads=3+ffn=60", 3 * (1048 + 4 * 65)),
        ("layers=2+heads=1+ffn=1", 8544 + 2 * (3 * 1048 + 63 * 65)),
        ("layers=0,2+heads=2,3", 8544 + 3 * 1048),
        ("units=1:heads=2+layers=2", 8544 + 2 * 0),  # 0 and 1 stay
        ("units=0:heads=2+units=2:heads=1", 5 * 1048),
        ("heads=4+ffn=64+layers=3", 0),
    ],
)
def test_together(recipes: str, less: int):
    if recipes.startswith("units=1"):
        less += 2 * 1048
    model = drawn("bert")
    subject = applied(model, f"{recipes}+sparsity=0.5")
    assert parameters(subject) == sum(p.numel() for p in model.parameters()) - less
    assert torch.isfinite(output(subject)).all()
    found = counted(subject)
    assert found.workload.recipes == [*recipes.split("+"), "sparsity=0.5"]
    with subject.open() as opened:
        zeros = sum(int((p == 0).sum()) for p in opened.model.parameters())
    assert found.total("nonzero_parameters") == parameters(subject) - zeros


# Every family --------------------------------------------------------------------------------------------------------

RECIPES = ("heads=2", "heads=4", "units=1:heads=2", "ffn=48", "layers=2", "heads=2+ffn=16+layers=1,2", "sparsity=0.5")


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_it_or_says_why_not(family: str, recipe: str):
    model = drawn(family)
    refused = {
        "xlnet": "rel_attn.q is the weight of no linear" if "heads" in recipe else "",
        "squeezebert": "is a grouped convolution" if "heads" in recipe or "ffn" in recipe else "",
        "mpnet": "share weights or a table of position biases" if recipe == "units=1:heads=2" else "",
        "albert": "share weights or a table" if recipe == "units=1:heads=2" else "",
    }
    if refused.get(family):
        with pytest.raises(UsageError, match=refused[family]) as caught:
            applied(model, recipe)
        assert str(caught.value).startswith(f"recipe {recipe.partition('+')[0]}: ")
        assert "\n" not in str(caught.value)
        return
    subject = applied(model, recipe)
    found = output(subject)
    assert found.shape == (2, 20, 32)
    assert torch.isfinite(found).all()
    named = counted(subject)
    assert [caveat.code for caveat in named.caveats] == plain_codes(family)
    assert named.total("parameters") == parameters(subject)
    assert named.total("parameter_bytes") == 4 * parameters(subject)
    assert subject.twin is not None
    by_dispatch = flops.count_by_dispatch(subject.twin, subject.twin_inputs, subject.regions).totals()
    assert named.total("macs") == sum(macs for macs, _ in by_dispatch.values())
    assert named.units == (2 if "layers" in recipe else 3)


@cache
def plain_codes(family: str) -> list[str]:
    """The codes of the caveats of a family without recipes."""
    return [caveat.code for caveat in counted(live.from_module(tiny(family), {"input_ids": ids()})).caveats]


@pytest.mark.parametrize("recipe", ["heads=2", "ffn=48"])
@pytest.mark.parametrize("task", ["masked-lm", "sequence-classification"])
def test_with_a_head_for_a_task(task: str, recipe: str, folder: Callable[..., Path]):
    path = str(folder("bert"))
    pruned, whole = (
        bertprof.breakdown(path, recipes=some, task=task, time=False, sequence_length=8) for some in ([recipe], [])
    )
    less = {"heads=2": 3 * 2 * 1048, "ffn=48": 3 * 16 * 65}[recipe]
    assert whole.total("parameters") - pruned.total("parameters") == less


# Weights that are shared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipes", ["share-units+heads=2+ffn=16", "heads=2+ffn=16+share-units"])
def test_units_that_share_their_weights_still_do(recipes: str):
    subject = applied(drawn("bert"), recipes)
    # As above, of one unit.
    whole = sum(p.numel() for p in drawn("bert").parameters())
    assert parameters(subject) == whole - 2 * 8544 - 2 * 1048 - 48 * 65
    with subject.open() as opened:
        layers = opened.model.encoder.layer
        assert layers[0].attention.self.key.weight is layers[2].attention.self.key.weight
        assert layers[0].attention.self.key.weight.shape == (16, 32)
    assert torch.isfinite(output(subject)).all()


def test_units_that_share_their_weights_cannot_differ():
    with pytest.raises(UsageError, match=r"^recipe heads=2,2,3: units 0 and 2 share .* cannot keep 2 and 3"):
        applied(drawn("bert"), "share-units=attention+heads=2,2,3")
    applied(drawn("bert"), "units=0-1:share-units+heads=2,2,3")
    applied(drawn("bert"), "share-units=ffn+heads=2,2,3")
    applied(drawn("albert"), "heads=2,2,2")
    with pytest.raises(UsageError, match=r"units 0 and 1 share .* cannot keep 2 and 4"):
        applied(drawn("albert"), "units=0:heads=2")


def test_a_weight_that_something_else_uses_is_left_alone():
    model: Any = drawn("bert")
    model.pooler.dense.weight = model.encoder.layer[1].attention.self.query.weight
    with pytest.raises(UsageError, match="unit 1 shares these weights with other parts of the model"):
        applied(model, "heads=2")
    assert applied(model, "units=0,2:heads=2").twin is not None


def test_query_and_key_of_one_weight_stay_one():
    model: Any = drawn("bert")
    attention = model.encoder.layer[0].attention.self
    attention.key.weight = attention.query.weight
    with applied(model, "heads=1").open() as opened:
        found = opened.model.encoder.layer[0].attention.self
        assert found.key.weight is found.query.weight
        assert found.key.weight.shape == (8, 32)


# What is stored ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_in_two_bytes_a_scalar_stays_one(folder: Callable[..., Path]):
    path = folder("bert")
    model = drawn("bert").half()
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(state, path / "model.safetensors")
    for recipes in ("heads=2", "ffn=16", "layers=1", "heads=1+ffn=3+layers=2", "sparsity=0.5"):
        found = bertprof.breakdown(str(path), recipes=[recipes], time=False, sequence_length=8)
        assert found.total("parameter_bytes") == 2 * found.total("parameters")
    # One that is stored in four stays so when it is narrowed.
    name = "encoder.layer.0.intermediate.dense.weight"
    safetensors.torch.save_file({**state, name: state[name].float()}, path / "model.safetensors")
    found = bertprof.breakdown(str(path), recipes=["ffn=16"], time=False, sequence_length=8)
    assert found.total("parameter_bytes") == 2 * found.total("parameters") + 2 * 16 * 32


@pytest.mark.parametrize("recipe", ["heads=2", "ffn=32", "vocabulary=50", "factor-embedding=8"])
def test_it_is_said_that_zeros_of_before_are_counted_no_more(recipe: str):
    def said(subject: Any) -> list[str]:
        return [caveat.text for caveat in subject.caveats if caveat.code == "nonzero-unknown"]

    model: Any = drawn("bert")
    assert not said(applied(model, recipe))
    with torch.no_grad():
        model.encoder.layer[1].attention.self.query.bias.zero_()  # as biases begin
    assert not said(applied(model, recipe))
    with torch.no_grad():
        model.encoder.layer[1].attention.self.query.weight[:5] = 0
        model.encoder.layer[1].output.dense.weight[:5] = 0
        model.embeddings.word_embeddings.weight[7:12] = 0
    every = sum(p.numel() for p in model.parameters())
    left = every - 32 - 5 * 32 - 5 * 64 - 5 * 32
    assert said(applied(model, recipe)) == [
        f"non-zeros are not counted after {recipe}: how many zeros go depends on the weights; "
        f"before it {left:,} of {every:,} were left"
    ]
    # Whole units and their counts go together.
    whole = applied(model, "layers=0,2")
    assert not said(whole)
    assert counted(whole).total("nonzero_parameters") == parameters(whole) - 5 * 32


def test_the_values_of_a_checkpoint_are_carried_over(folder: Callable[..., Path]):
    path, model = folder("bert"), drawn("bert")
    silence_heads(model, lambda unit: [unit])
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path / "model.safetensors"
    )
    found = bertprof.breakdown(str(path), recipes=["heads=3"], sequence_length=8, min_time_s=0)
    assert found.workload.weights == "checkpoint"
    # Its unpruned shapes are those of the configuration, so nothing is said of the checkpoint's.
    assert "pruned-shapes" not in [caveat.code for caveat in found.caveats]


def test_a_checkpoint_that_is_pruned_already(folder: Callable[..., Path]):
    path = folder("bert")
    with applied(drawn("bert"), "heads=3,2,4").open() as opened:
        safetensors.torch.save_file(
            {name: tensor.contiguous() for name, tensor in opened.model.state_dict().items()},
            path / "model.safetensors",
        )
    found = bertprof.breakdown(str(path), recipes=["heads=2"], time=False, sequence_length=8)
    assert found.total("parameters") == sum(p.numel() for p in tiny("bert").parameters()) - 3 * 2 * 1048
    with pytest.raises(UsageError, match="unit 1 has no more than 2 heads"):
        bertprof.breakdown(str(path), recipes=["heads=3"], time=False, sequence_length=8)


# Own code ------------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self, head_dim: int | None = 8) -> None:
        super().__init__()
        self.num_heads = 4
        if head_dim is not None:
            self.head_dim = head_dim
        self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))
        self.o = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for linear in (self.q, self.k, self.v))
        mixed = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, -1) @ v
        return self.o(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A unit with a gated FFN whose gate is listed last, as LLaMA's."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = Attention(**options)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(2))
        self.w1, self.w2, self.w3 = nn.Linear(32, 48), nn.Linear(48, 32), nn.Linear(32, 48)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norms[0](x))
        y = self.norms[1](x)
        return x + self.w2(torch.nn.functional.silu(self.w1(y)) * self.w3(y))  # type: ignore[no-any-return]


def own(**options: Any) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(16, 32), *(Block(**options) for _ in range(3)), nn.Linear(32, 4)).eval()


@pytest.fixture(autouse=True)
def same_seed() -> Iterator[None]:
    with torch.random.fork_rng():
        yield


def test_own_code(untouched: Any):
    model: Any = own()
    with torch.no_grad():
        for block in model[1:4]:
            block.attention.o.weight[:, 8:24] = 0
            block.w2.weight[:, ::3] = 0
    x = torch.randn(2, 5, 16)
    untouched(model)
    subject = applied(model, "heads=2+ffn=32", x)
    with torch.inference_mode():
        torch.testing.assert_close(output(subject), model(x), rtol=1e-5, atol=1e-5)
    # A head: 8 rows of q, k, v with bias and 8 columns of o; a column: two rows with bias and a column.
    less = 3 * (2 * (8 * 33 * 3 + 8 * 32) + 16 * (33 * 2 + 32))
    assert parameters(subject) == sum(p.numel() for p in model.parameters()) - less
    fewer = applied(model, "layers=0,2", x)
    with torch.inference_mode():
        assert torch.equal(output(fewer), nn.Sequential(model[0], model[1], model[3], model[4])(x))
    assert [path for path, region in fewer.regions.items() if region.unit] == ["1", "2"]


class Indexed(nn.Module):
    """Its forward counts its units, by a number that it keeps or one that it does not."""

    def __init__(self, kept: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.number = None
        if kept:
            self.num_layers = 3

    def forward(self, x: Tensor) -> Tensor:
        for i in range(getattr(self, "num_layers", 3)):
            x = self.blocks[i](x)
        return x


def test_own_code_that_counts_its_units():
    x = torch.randn(1, 5, 32)
    assert output(applied(Indexed(True).eval(), "layers=2", x)).shape == (1, 5, 32)
    with pytest.raises(UsageError, match="recipe layers=2: the model does not run with it: IndexError: index 2 is out"):
        applied(Indexed(False).eval(), "layers=2", x)


class Fused(nn.Module):
    """A unit whose query, key and value are of one linear, in an order that nothing tells."""

    def __init__(self) -> None:
        super().__init__()
        self.head_dim = 8
        self.qkv, self.o = nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (-1, 3, self.head_dim)).transpose(1, 2).unbind(3)
        x = x + self.o((torch.softmax(q @ k.transpose(2, 3), -1) @ v).transpose(1, 2).flatten(2))
        return x + self.down(torch.relu(self.up(x)))  # type: ignore[no-any-return]


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Block(), Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))  # type: ignore[no-any-return]


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.towers = nn.ModuleList(nn.Sequential(Block(), Block()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.towers[0](x) + self.towers[1](x)  # type: ignore[no-any-return]


def weight_normed() -> nn.Module:
    model: Any = Pair()
    parametrizations.weight_norm(model.first.attention.q)
    parametrizations.weight_norm(model.first.w1)
    return model


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


@pytest.mark.parametrize(
    ("model", "recipe", "why"),
    [
        (own(head_dim=None)[1:4], "heads=2", "heads of unit 0 cannot be removed: no module of it says how wide a head"),
        (own(head_dim=5)[1:4], "heads=2", "heads of 5 do not make up the 32 inputs of attention.o"),
        (nn.Sequential(Fused(), Fused()), "heads=2", "which outputs of qkv are of which head does not show"),
        (encoder(), "heads=2", "nn.MultiheadAttention cannot run with fewer heads"),
        (Pair(), "layers=1", "its units stand in no nn.ModuleList or nn.Sequential"),
        (Towers(), "layers=3", "its units stand in several lists"),
        (weight_normed(), "heads=2", "attention.q.parametrizations.weight.original0 is the weight of no linear"),
        (
            weight_normed(),
            "ffn=2",
            r"FFN columns of unit 0 cannot be removed: w1\..*original\d is the weight of no linear",
        ),
    ],
)
def test_own_code_that_cannot_take_it(model: nn.Module, recipe: str, why: str):
    with pytest.raises(UsageError, match=why) as caught:
        applied(model.eval(), recipe, torch.randn(1, 5, 32))
    assert str(caught.value).startswith(f"recipe {recipe}: ")
    assert "\n" not in str(caught.value)


def test_torchs_own_encoder_loses_columns_and_units():
    torch.manual_seed(3)
    model: Any = encoder().eval()
    x = torch.randn(1, 5, 32)
    with torch.no_grad():
        for layer in model.layers:
            layer.linear2.weight[:, :40] = 0
        subject = applied(model, "ffn=24", x)
        torch.testing.assert_close(output(subject), model(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            output(applied(model, "layers=1,2", x)), model.layers[2](model.layers[1](x)), rtol=1e-5, atol=1e-5
        )
    assert parameters(subject) == sum(p.numel() for p in model.parameters()) - 3 * 40 * 65


# What is refused before anything is built ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        ("heads=5", "recipe heads=5: unit 0 has no more than 4 heads"),
        ("heads=4,4,5", "recipe heads=4,4,5: unit 2 has no more than 4 heads"),
        ("heads=2,2", "recipe heads=2,2: 2 values, one for each unit, but the model has 3"),
        ("units=0-1:heads=2,2,2", "3 values, one for each unit, but it is for 2"),
        ("units=2-3:heads=2", "there is no unit 3; the model has 3, counted from 0"),
        ("ffn=65", "recipe ffn=65: unit 0 has no more than 64 FFN columns"),
        ("layers=4", "recipe layers=4: the model has no more than 3 units"),
        ("layers=0,3", "recipe layers=0,3: there is no unit 3; the model has 3, counted from 0"),
        ("layers=0,1,keep=top", "keep= chooses units, and here they are named; leave it out"),
        ("layers=2+units=2:heads=2", "recipe units=2:heads=2: there is no unit 2; the model has 2"),
        ("units=1:heads=2+heads=3", "heads is given twice"),
    ],
)
def test_what_does_not_fit(recipe: str, why: str, folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bertprof.measure.build.with_random_weights", None)
    with pytest.raises(UsageError) as caught:
        bertprof.breakdown(str(folder("bert")), recipes=recipe.split("+"), sequence_length=8)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_units_in_groups_of_shared_weights_are_not_dropped():
    model = drawn("albert", num_hidden_layers=6, num_hidden_groups=2)
    with pytest.raises(UsageError, match="2 modules serve its 6 units"):
        applied(model, "layers=3")
    # Units 0 to 2 are of the first group.
    assert parameters(applied(model, "heads=2,2,2,4,4,4")) == sum(p.numel() for p in model.parameters()) - 2 * 1048


def test_a_decoders_two_attentions(folder: Callable[..., Path]):
    with pytest.raises(UsageError, match="it has more than one linear behind attention"):
        applied(drawn("gpt2", add_cross_attention=True), "heads=2")


def test_talking_heads():
    with pytest.raises(UsageError, match="head_logits_proj does not have outputs of each head"):
        applied(drawn("deberta", talking_head=True), "heads=2")


def test_as_many_as_there_are_is_no_change():
    model = drawn("bert")
    whole = applied(model, "heads=4+ffn=64+layers=3")
    assert torch.equal(output(whole), first(model(ids())))
    assert whole.kept_units is None


def test_a_folder_of_this_is_found_again(tmp_path: Path):
    """The model that a recipe leaves can be saved, and is measured as such."""
    with applied(drawn("bert"), "heads=2+ffn=32").open() as opened:
        opened.model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["num_attention_heads"] == 4
    found = bertprof.breakdown(str(tmp_path), time=False, sequence_length=8)
    assert found.total("parameters") == sum(p.numel() for p in tiny("bert").parameters()) - 3 * (2 * 1048 + 32 * 65)
    assert [caveat.code for caveat in found.caveats] == ["pruned-shapes"]
