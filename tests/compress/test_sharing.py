"""share-units: what is shared, that work and results stay, and what is refused."""

from typing import Any

import pytest
import torch
from compressing import applied, drawn, first, ids, output, parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bertprof
from bertprof import Component
from bertprof.compress.recipe import parse_all
from bertprof.compress.subjects import places_of, units_of
from bertprof.errors import UsageError
from bertprof.measure import live
from bertprof.record import Breakdown
from conftest import FAMILIES, tiny

# Every family but ALBERT, whose units are one module already.
SHARING = tuple(family for family in FAMILIES if family != "albert")
WHICH = ("share-units", "share-units=attention", "share-units=ffn")

# Of a tiny unit with H = 32 and I = 64: four linears of H × H, two of H × I, each with its bias, and two norms.
ATTENTION = 4 * (32 * 32 + 32)
FFN = 32 * 64 + 64 + 64 * 32 + 32
NORMS = 2 * 2 * 32


def units(model: nn.Module) -> list[dict[str, nn.Parameter]]:
    """The parameters of each unit, by their names in it."""
    regions = live.from_module(model, {"input_ids": ids()}).regions
    return [dict(slot.module.named_parameters(remove_duplicate=False)) for slot in units_of(model, regions)]


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("family", SHARING)
def test_units_of_equal_weights_compute_what_they_did(family: str, which: str):
    model = drawn(family)
    shared: dict[str, nn.Parameter] = {}
    with torch.no_grad():
        for unit in units(model):
            for name, parameter in unit.items():
                parameter.copy_(shared.setdefault(name, parameter))
        # By position: GPT-2 keeps keys and values in a cache, in the place of each unit.
        before = first(model(ids()))
    subject = applied(model, which, (ids(),))
    assert parameters(subject) < sum(parameter.numel() for parameter in model.parameters())
    torch.testing.assert_close(output(subject), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("family", SHARING)
def test_each_unit_has_the_weights_of_the_first_and_all_else_of_its_own(family: str, which: str, untouched: Any):
    model = untouched(drawn(family))
    subject = applied(model, which)
    with subject.open() as opened:
        found = [{name: p.clone() for name, p in unit.items()} for unit in units(opened.model)]
    moved = {
        name
        for before, unit in zip(units(model), found, strict=True)
        for name, parameter in unit.items()
        if not torch.equal(before[name], parameter)
    }
    # From unit 1 to unit 2, since ModernBERT's first has no norm before its attention.
    assert all(torch.equal(found[1][name], found[2][name]) for name in moved)
    assert all(torch.equal(found[0][name], found[1][name]) for name in moved & set(found[0]))
    if which == "share-units":
        assert moved == set(found[1])
    else:
        other = applied(model, next(one for one in WHICH[1:] if one != which))
        both = parameters(subject) + parameters(other) - parameters(applied(model, "share-units"))
        # Attention and FFN have no parameter in common; norms and bottlenecks are in neither.
        assert moved
        assert both >= sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("which", "kept"),
    [
        ("share-units", 2 * (ATTENTION + FFN + NORMS)),
        ("share-units=all", 2 * (ATTENTION + FFN + NORMS)),
        ("share-units=attention", 2 * ATTENTION),
        ("share-units=ffn", 2 * FFN),
        ("units=1-2:share-units=ffn", FFN),
    ],
)
def test_parameters_stand_once_outside_of_the_units(which: str, kept: int):
    model = tiny("bert")
    plain = bertprof.profile(model, ids(), time=False)
    found = record(applied(model, which))
    assert found.total("parameters") == plain.total("parameters") - kept
    assert found.total("parameter_bytes") == 4 * found.total("parameters")
    outside = {
        cost.component: cost.parameters
        for cost in found.costs
        if cost.unit is None and cost.component not in (Component.EMBEDDING, Component.HEAD, Component.ADD_NORM)
    }
    attention = {Component.ATTENTION_LINEAR_IN: ATTENTION * 3 // 4, Component.ATTENTION_LINEAR_OUT: ATTENTION // 4}
    expected = {} if "=ffn" in which else attention
    assert {c: n for c, n in outside.items() if n} == expected | ({} if "attention" in which else {Component.FFN: FFN})
    # Work is the same, in the same units.
    for one, other in zip(work(plain), work(found), strict=True):
        assert one == other


def work(found: Breakdown) -> list[tuple[int | None, Component, int, int]]:
    return [(cost.unit, cost.component, cost.macs, cost.flops) for cost in found.costs if cost.flops]


def record(subject: Any, time: bool = False) -> Breakdown:
    from bertprof.measure import profiler, timing

    return profiler.measure([subject], profiler.Options(time=time, goal=timing.Goal(0.0)))[0]


@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("family", ["bert", "mobilebert", "squeezebert", "xlnet", "gpt2", "modernbert"])
def test_time_is_that_of_each_unit(family: str, which: str):
    found = record(applied(drawn(family), which), time=True)
    assert found.units == 3
    spent: dict[int | None, float] = {}
    for cost in found.costs:
        spent[cost.unit] = spent.get(cost.unit, 0.0) + sum(cost.time_ms or [])
    assert all(spent[unit] > 0 for unit in (None, 0, 1, 2))
    for component in (Component.ATTENTION_LINEAR_IN, Component.SOFTMAX_ATTENTION, Component.FFN, Component.ADD_NORM):
        for unit in range(3):
            (cost,) = [cost for cost in found.costs if (cost.unit, cost.component) == (unit, component)]
            assert sum(cost.time_ms or []) > 0
            assert cost.flops
    # XLNet's residual sum behind its FFN is told by the module in front of it, which must be the unit's own.
    plain = bertprof.profile(drawn(family), (ids(),), time=False)
    assert work(plain) == work(found)


@pytest.mark.parametrize(
    ("which", "parameters", "published"),
    [
        # ALBERT paper, Table 5, E = 768, without pooler: tables 30000·768 + 512·768 + 2·768 and their norm 2·768 are
        # 23,436,288; a unit has 4·(768² + 768) = 2,362,368 in attention, 2·768·3072 + 3072 + 768 = 4,722,432 in the
        # FFN and 2·2·768 = 3,072 in norms, 7,087,872 together.
        ("", 23_436_288 + 12 * 7_087_872, 108),
        ("+share-units", 23_436_288 + 7_087_872, 31),
        ("+share-units=attention", 23_436_288 + 12 * 7_087_872 - 11 * 2_362_368, 83),
        ("+share-units=ffn", 23_436_288 + 12 * 7_087_872 - 11 * 4_722_432, 57),
    ],
)
def test_alberts_ablation(which: str, parameters: int, published: int):
    found = bertprof.breakdown(f"bert-base-uncased+vocabulary=30000{which}", time=False)
    pooler = 768 * 768 + 768
    assert found.total("parameters") == parameters + pooler
    # The paper prints 57 M for 56,544,000, 31 M for 30,524,160: its counts have no pooler.
    assert round(parameters / 1e6) == published
    assert found.total("macs") == bertprof.breakdown("bert-base-uncased", time=False).total("macs")


@given(st.lists(st.integers(0, 4), min_size=2, max_size=5, unique=True), st.sampled_from(WHICH))
@settings(max_examples=15)
def test_of_the_chosen_units_one_set_is_left(chosen: list[int], which: str):
    model = tiny("bert", num_hidden_layers=5)
    scope = ",".join(map(str, chosen))
    each = {"share-units": ATTENTION + FFN + NORMS, "share-units=attention": ATTENTION, "share-units=ffn": FFN}[which]
    subject = applied(model, f"units={scope}:{which}")
    left = sum(parameter.numel() for parameter in model.parameters()) - (len(chosen) - 1) * each
    assert parameters(subject) == left
    # What several units use is of none of them.
    places = [p for p in places_of(subject).values() if p.component is Component.FFN and p.parameter.dim() >= 2]
    of_units = [min(place.units) if len(place.units) == 1 else None for place in places]
    shares = which != "share-units=attention"
    alone = [unit for unit in range(5) if not (shares and unit in chosen)]
    assert sorted(unit for unit in of_units if unit is not None) == sorted(2 * alone)
    assert of_units.count(None) == 2 * shares


@pytest.mark.parametrize("recipes", ["heads=2+ffn=48+share-units", "share-units+ffn=48+heads=2"])
def test_units_pruned_alike_share_what_is_left(recipes: str):
    found = record(applied(tiny("bert"), recipes))
    unit = 3 * (32 * 16 + 16) + (16 * 32 + 32) + (32 * 48 + 48 + 48 * 32 + 32) + NORMS
    outside = sum(cost.parameters for cost in found.costs if cost.unit is None)
    rest = sum(p.numel() for p in tiny("bert").parameters()) - 3 * (ATTENTION + FFN + NORMS)
    assert outside == found.total("parameters") == rest + unit


def test_a_module_of_torchs_own():
    with torch.random.fork_rng():
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    subject = applied(model, "share-units=attention", torch.zeros(2, 10, 32))
    assert parameters(subject) == ATTENTION + 3 * (FFN + NORMS)
    assert output(subject).shape == (2, 10, 32)


def test_parameters_that_a_user_tied_across_units_are_of_none():
    model = tiny("bert")
    for unit in model.encoder.layer[1:]:
        unit.intermediate.dense.weight = model.encoder.layer[0].intermediate.dense.weight
    found = bertprof.profile(model, ids(), time=False)
    (outside,) = [cost for cost in found.costs if cost.unit is None and cost.component is Component.FFN]
    assert outside.parameters == 32 * 64
    inside = [cost.parameters for cost in found.costs if cost.unit is not None and cost.component is Component.FFN]
    assert inside == [64 + 64 * 32 + 32] * 3


@pytest.mark.parametrize(
    ("family", "options", "recipe", "why"),
    [
        ("albert", {}, "share-units", "one set of weights serves all of its units already; there is nothing to share"),
        ("bert", {"num_hidden_layers": 1}, "share-units", "it has no two units; there is nothing to share"),
        ("bert", {}, "units=1:share-units", "one unit has none to share with; name two or more"),
        ("bert", {}, "units=1-3:share-units", "there is no unit 3; the model has 3, counted from 0"),
        (
            "bert",
            {},
            "heads=4,2,2+share-units",
            "attention.self.query.weight is 16 × 32 in unit 1 and 32 × 32 in unit 0; "
            "only units of one shape can share weights",
        ),
    ],
)
def test_what_cannot_be_shared(family: str, options: dict[str, Any], recipe: str, why: str):
    with pytest.raises(UsageError) as caught:
        applied(tiny(family, **options), recipe)
    assert str(caught.value) == f"recipe {recipe.rpartition('+')[2]}: {why}"


def test_units_that_share_already():
    model = tiny("bert")
    for i in (1, 2):
        model.encoder.layer[i] = model.encoder.layer[0]
    with pytest.raises(UsageError, match="these units share the weights already"):
        applied(model, "share-units")


@pytest.mark.parametrize(
    ("recipes", "why"),
    [
        ("share-units=layers", "share-units is 'layers'; use one of all, attention, ffn"),
        ("share-units=ffn+share-units=attention", "given twice"),
        ("int8+share-units", "write share-units+int8"),
    ],
)
def test_what_cannot_be_combined(recipes: str, why: str):
    with pytest.raises(UsageError) as caught:
        parse_all([recipes])
    assert why in str(caught.value)
