from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

import bertprof
from bertprof.attribution import Region, boundaries
from bertprof.components import Component
from bertprof.errors import UsageError
from bertprof.measure import flops
from bertprof.measure.anatomy import FAMILIES as TABLES
from bertprof.measure.anatomy import Base, bases_of, regions_of
from bertprof.measure.build import TASKS
from bertprof.measure.inputs import Inputs
from bertprof.measure.parameters import count_parameters, standing
from bertprof.measure.structure import is_norm
from conftest import FAMILIES, tiny_config, tiny_twin

# family → parameters of each component of its tiny model: V 100, P 40, T 2, H 32, E 16, F 64, A 4 heads, three units.
H, E, F, V, P, T, A, L = 32, 16, 64, 100, 40, 2, 4, 3
LINEAR = H * H + H
UNIT_FFN = H * F + F + F * H + H
BERT = {
    "embedding": (V + P + T) * H,
    "attention-linear-in": L * 3 * LINEAR,
    "attention-linear-out": L * LINEAR,
    "ffn": L * UNIT_FFN,
    "add-norm": 2 * H + L * 4 * H,
    "head": LINEAR,
}
WITHOUT_POOLER = {component: parameters for component, parameters in BERT.items() if component != "head"}
B = 8  # MobileBERT's width inside of a unit
EXPECTED = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "camembert": BERT,
    # The embedding has no norm, but one stands behind the last unit.
    "megatron-bert": BERT,
    "electra": {
        **WITHOUT_POOLER,
        "embedding": (V + P + T) * E + E * H + H,
        "add-norm": 2 * E + L * 4 * H,
    },
    "distilbert": {**WITHOUT_POOLER, "embedding": (V + P) * H},
    "albert": {
        "embedding": (V + P + T) * E + E * H + H,
        "attention-linear-in": 3 * LINEAR,
        "attention-linear-out": LINEAR,
        "ffn": UNIT_FFN,
        "add-norm": 2 * E + 4 * H,
        "head": LINEAR,
    },
    "mobilebert": {
        # Three neighbouring tokens of width E side by side become one of width H.
        "embedding": V * E + (P + T) * H + 3 * E * H + H,
        # Values come from the unit's input, queries and keys from a bottleneck.
        "attention-linear-in": L * (2 * (B * B + B) + H * B + B),
        "attention-linear-out": L * (B * B + B),
        "ffn": L * 4 * (B * F + F + F * B + B),
        # Two into the unit, for queries and keys and for the residual sum, and one out of it.
        "bottleneck": L * (2 * (H * B + B) + B * H + H),
        # Embedding; behind attention, four FFNs and two bottlenecks; behind the bottleneck out.
        "add-norm": 2 * H + L * (2 * B * (1 + 4 + 2) + 2 * H),
        "head": LINEAR,
    },
    "squeezebert": {
        **BERT,
        # All but the output projection in four groups, each of a quarter of the inputs.
        "attention-linear-in": L * 3 * (H * H // 4 + H),
        "ffn": L * (H * F // 4 + F + F * H // 4 + H),
    },
    # 32 buckets of relative positions, a number a head.
    "mpnet": {**BERT, "embedding": (V + P) * H, "softmax-attention": 32 * A},
    "deberta": {
        **WITHOUT_POOLER,
        "embedding": V * H,
        # Fused, with biases for queries and values alone; positions as keys without a bias, as queries with one.
        "attention-linear-in": L * (3 * H * H + 2 * H + H * H + LINEAR),
        "softmax-attention": 2 * P * H,
    },
    "deberta-v2": {
        **WITHOUT_POOLER,
        "embedding": V * H,
        # Eight buckets each way, and a norm for their table.
        "softmax-attention": 2 * 8 * H,
        "add-norm": 2 * H + 2 * H + L * 4 * H,
    },
    "xlnet": {
        "embedding": V * H + H,  # and the vector of a masked word
        "attention-linear-in": L * 4 * H * H,  # queries, keys, values and relative positions, without biases
        "softmax-attention": L * (3 * H + 2 * H),  # three biases of the scores, two vectors of segments
        "attention-linear-out": L * H * H,
        "ffn": L * UNIT_FFN,
        "add-norm": L * 4 * H,
    },
    "gpt2": {**WITHOUT_POOLER, "embedding": (V + P) * H},
    "modernbert": {
        "embedding": V * H,
        "attention-linear-in": L * 3 * H * H,
        "attention-linear-out": L * H * H,
        "ffn": L * (H * 2 * F + F * H),  # value and gate in one
        # No biases; the embedding's norm is the first unit's too; one behind the last unit.
        "add-norm": H + (2 * L - 1) * H + H,
    },
}
NEXT_SENTENCE = ("bert", "megatron-bert", "mobilebert")
CAUSAL = ("bert", "roberta", "xlm-roberta", "camembert", "megatron-bert", "electra", "xlnet", "gpt2")
WITHOUT_HEAD = {
    *((family, "next-sentence-prediction") for family in FAMILIES if family not in NEXT_SENTENCE),
    *((family, "causal-lm") for family in FAMILIES if family not in CAUSAL),
    *(("gpt2", "masked-lm"), ("xlnet", "masked-lm"), ("modernbert", "pretraining")),
}


# Transformers makes the head of these before the encoder.


def parameters_of(
    model: nn.Module, regions: dict[str, Region], units: dict[str, set[int | None]] | None = None
) -> dict[str, int]:
    """Parameters by component."""
    found: Counter[str] = Counter()
    for owner, storage in count_parameters(model, regions, units or {}).items():
        found[str(owner.component)] += storage.parameters
        assert storage.parameter_bytes == 4 * storage.parameters
    assert sum(found.values()) == sum(p.numel() for p in model.parameters())
    return dict(found)


def ids(batch: int = 2, length: int = 12) -> Inputs:
    return Inputs(kwargs={"input_ids": torch.zeros(batch, length, dtype=torch.long, device="meta")})


def test_every_family_is_tested():
    students = {family for family in TABLES if family.startswith("bertprof-")}  # see test_students_backbones
    assert set(FAMILIES) == set(TABLES) - students == set(EXPECTED)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_by_component(family: str):
    twin = tiny_twin(family)
    assert bases_of(twin) == [Base("", "", family)]
    assert parameters_of(twin, regions_of(twin)) == EXPECTED[family]


@pytest.mark.parametrize(
    ("family", "task"),
    [(family, task) for family in FAMILIES for task in TASKS],
)
def test_a_task_adds_to_head_and_norms_only(family: str, task: str):
    if (family, task) in WITHOUT_HEAD:
        with pytest.raises(ValueError, match="Unrecognized configuration class"):
            tiny_twin(family, task=task)
        return
    twin = tiny_twin(family, task=task)
    found = parameters_of(twin, regions_of(twin))
    for component, parameters in EXPECTED[family].items():
        if component not in ("head", "add-norm"):
            assert found[component] == parameters
    assert set(found) <= {*EXPECTED[family], "head"}
    # GPT-2's language-model head is its word table and nothing else.
    assert (found.get("head", 0) > 0) == ((family, task) not in (("gpt2", "causal-lm"), ("gpt2", "pretraining")))


def test_a_tied_weight_stands_with_its_first_name():
    twin = tiny_twin("bert", task="masked-lm")
    owners = count_parameters(twin, regions_of(twin), {})
    by_path = {owner.path: storage.parameters for owner, storage in owners.items()}
    assert by_path["bert.embeddings.word_embeddings"] == V * H
    # The decoder's matrix is the word table; its bias is tied to the head's.
    assert sum(n for path, n in by_path.items() if path.startswith("cls.predictions")) == LINEAR + 2 * H + V


def test_weights_of_several_units_stand_once_outside():
    units = {"layer": {0, 1}, "layer.dense": {0, 1}, "top": {None}, "single": {3}}
    assert standing("layer.dense", {}, units).unit is None
    assert standing("single", {}, units).unit == 3
    # What never runs stands where the module around it does.
    assert standing("single.dropout", {}, units).unit == 3
    assert standing("nowhere", {}, units).unit is None


@pytest.mark.parametrize("family", FAMILIES)
def test_every_norm_is_add_norm(family: str):
    twin = tiny_twin(family, task="sequence-classification")
    regions = regions_of(twin)
    norms = {path for path, module in twin.named_modules() if is_norm(module)}
    # By name as well: every family calls its norms so, whatever their class (NoNorm, DebertaLayerNorm).
    named = {path for path, module in twin.named_modules() if "norm" in path.rpartition(".")[2].lower()}
    plain = {path for path in named if isinstance(twin.get_submodule(path), nn.Identity)}
    assert named - plain <= norms
    assert len(norms) >= 2 * (1 if family == "albert" else L)
    assert {regions[path].component for path in norms} == {Component.ADD_NORM}


@pytest.mark.parametrize(
    ("family", "kind"), [("mobilebert", "NoNorm"), ("deberta", "DebertaLayerNorm"), ("bert", "LayerNorm")]
)
def test_norms_of_the_families_own(family: str, kind: str):
    twin = tiny_twin(family)
    assert {type(module).__name__ for module in twin.modules() if is_norm(module)} == {kind}


def test_bert_base_needs_ten_marked_modules_a_unit():
    twin = tiny_twin("bert")
    marked = [path.removeprefix("encoder.layer.1") for path in boundaries(regions_of(twin)) if ".layer.1" in path]
    assert marked == [
        "",
        ".attention.self",
        ".attention.self.query",
        ".attention.self.key",
        ".attention.self.value",
        ".attention.output",
        ".attention.output.dense",
        ".intermediate",
        ".output",
        ".output.dense",
    ]


# Models of no family --------------------------------------------------------------------------------------------------


def test_without_inputs_a_model_of_no_family_has_no_regions():
    with torch.device("meta"):
        model = nn.Sequential(nn.Embedding(4, 8), nn.Linear(8, 8))
    assert bases_of(model) == []
    assert regions_of(model) == {}
    assert parameters_of(model, {}) == {"other": 4 * 8 + 8 * 8 + 8}


def test_a_model_that_only_says_it_is_bert():
    model = nn.Linear(1, 1, device="meta")
    model.config = tiny_config("bert")  # type: ignore[assignment]
    assert bases_of(model) == []
    # Nor does it help to be made like one of transformers' models, where none of the table's units are there.
    model.base_model_prefix = ""  # type: ignore[assignment]
    assert bases_of(model) == []
    assert regions_of(model) == {}


class Wrapper(nn.Module):
    """A model inside of another module, which adds a classifier."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.classifier = nn.Linear(H, 5, device="meta")

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.inner(input_ids)[0][:, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_inside_of_another_module(family: str):
    twin, wrapped = tiny_twin(family), Wrapper(tiny_twin(family)).eval()
    assert bases_of(wrapped) == [Base("inner", "inner", family)]
    regions = regions_of(wrapped, ids())
    inside = {
        (path.removeprefix("inner.") if path != "inner" else ""): region
        for path, region in regions.items()
        if path.startswith("inner")
    }
    assert inside == regions_of(twin)
    alone, found = (flops.count(model, ids(), regions_of(model, ids())) for model in (twin, wrapped))
    expected = Counter(macs_of(alone))
    expected["head"] += 2 * H * 5  # on the first token of two sequences
    assert macs_of(found) == dict(expected)
    before = parameters_of(twin, regions_of(twin), alone.units)
    assert parameters_of(wrapped, regions, found.units) == {**before, "head": before.get("head", 0) + H * 5 + 5}


def test_a_task_inside_of_another_module():
    wrapped = nn.ModuleDict({"model": tiny_twin("bert", task="masked-lm")})
    assert bases_of(wrapped) == [Base("model", "model.bert", "bert")]
    regions = regions_of(wrapped)
    assert regions["model.bert.encoder.layer.2.intermediate"].component is Component.FFN
    assert regions["model.cls"].component is Component.HEAD
    assert parameters_of(wrapped, regions) == {
        **WITHOUT_POOLER,
        "add-norm": BERT["add-norm"] + 2 * H,
        "head": LINEAR + V,  # a linear, and the bias of the words
    }


class Pooling(nn.Module):
    """The mean over the tokens, projected: what stands behind the encoder in a pipeline."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(H, 7, device="meta")

    def forward(self, outputs: Any) -> torch.Tensor:
        return torch.tanh(self.projection(outputs[0].mean(1)))


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2", "xlnet", "deberta-v2"])
def test_a_pipeline_with_a_pooling_module(family: str):
    pipeline = nn.Sequential(tiny_twin(family), Pooling()).eval()
    inputs = Inputs((torch.zeros(2, 12, dtype=torch.long, device="meta"),))
    assert bases_of(pipeline) == [Base("0", "0", family)]
    regions = regions_of(pipeline, inputs)
    counts = flops.count(pipeline, inputs, regions)
    expected = EXPECTED[family]
    assert parameters_of(pipeline, regions, counts.units) == {
        **expected,
        "head": expected.get("head", 0) + H * 7 + 7,
    }
    pooler = 2 * H * H if "head" in expected else 0  # on one token of each sequence
    assert macs_of(counts)["head"] == pooler + 2 * H * 7
    # Without inputs nothing is known of what stands behind the encoder.
    assert parameters_of(pipeline, regions_of(pipeline)) == {**expected, "other": H * 7 + 7}


def macs_of(counts: flops.Counts) -> dict[str, int]:
    """MACs by component."""
    found: Counter[str] = Counter()
    for owner, operators in counts.operators.items():
        found[str(owner.component)] += sum(operator.macs for operator in operators.values())
    return {component: macs for component, macs in found.items() if macs}


class Lora(nn.Module):
    """A linear with an adapter of low rank, as PEFT puts it around a linear."""

    def __init__(self, base_layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base_layer.in_features, rank, bias=False, device="meta")})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base_layer.out_features, bias=False, device="meta")})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + 2.0 * self.lora_B["default"](self.lora_A["default"](x))


@pytest.mark.parametrize("around", [False, True], ids=["bare", "in a PeftModel"])
def test_adapters_belong_to_the_linear_that_they_adapt(around: bool):
    twin: Any = tiny_twin("bert")
    for layer in twin.encoder.layer:
        attention = layer.attention.self
        attention.query, attention.value = Lora(attention.query, 2), Lora(attention.value, 2)
    # PEFT: PeftModel.base_model is a LoraModel, whose model is the adapted one.
    model = nn.ModuleDict({"base_model": nn.ModuleDict({"model": twin})}) if around else twin
    adapters = L * 2 * (H * 2 + 2 * H)
    assert parameters_of(model, regions_of(model)) == {
        **BERT,
        "attention-linear-in": BERT["attention-linear-in"] + adapters,
    }
    counts = flops.count(twin, ids(), regions_of(twin))
    assert macs_of(counts)["attention-linear-in"] == 2 * 12 * (L * 3 * H * H + adapters)
    assert {counts.units[f"encoder.layer.{u}.attention.self.query.lora_A.default"] == {u} for u in range(L)} == {True}


# The user's mapping ---------------------------------------------------------------------------------------------------


def test_a_mapping_replaces_what_the_table_says():
    twin = tiny_twin("bert")
    before = regions_of(twin)
    regions = regions_of(twin, None, {r"encoder\.layer\.1\.(intermediate|output\.dense)": Component.CONVOLUTION})
    changed = {path for path in before if regions[path] != before[path]}
    assert changed == {"encoder.layer.1.intermediate", "encoder.layer.1.output.dense"}
    assert parameters_of(twin, regions) == {**BERT, "ffn": 2 * UNIT_FFN, "convolution": UNIT_FFN}


def test_a_mapping_reaches_modules_without_a_region_and_leaves_those_inside():
    twin = tiny_twin("bert")
    regions = regions_of(twin, None, {"embeddings": Component.OTHER, r"embeddings\.word_.*": Component.HEAD})
    assert regions["embeddings.LayerNorm"].component is Component.ADD_NORM
    assert parameters_of(twin, regions) == {
        **{component: n for component, n in BERT.items() if component != "embedding"},
        "other": (P + T) * H,
        "head": LINEAR + V * H,
    }


def test_the_last_expression_that_matches_counts():
    twin = tiny_twin("bert")
    regions = regions_of(twin, None, {"pooler.*": Component.FFN, r"pooler\.dense": Component.RECURRENT})
    assert regions["pooler"].component is Component.FFN
    assert regions["pooler.dense"].component is Component.RECURRENT
    # Regions stand in the order of the modules, whatever put them there.
    order = [path for path, _ in twin.named_modules() if path in regions]
    assert [path for path in regions if not path.endswith("()")] == order


def test_a_unit_by_mapping():
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3))).eval()
    inputs = Inputs((torch.zeros(5, 8, device="meta"),))
    regions = regions_of(model, inputs, {r"\d": "unit", r"\d\.0": Component.FFN})
    counts = flops.count(model, inputs, regions)
    found = {(owner.unit, str(owner.component)) for owner, (macs, _) in counts.totals().items() if macs}
    assert found == {(unit, "ffn") for unit in range(3)}
    assert {counts.units[f"{unit}.0"] == {unit} for unit in range(3)} == {True}
    # A component given to a unit leaves it one.
    again = regions_of(model, inputs, {r"\d": "unit", r"[01]": Component.RECURRENT})
    assert [again[path] for path in "012"] == [
        Region(Component.RECURRENT, unit=True),
        Region(Component.RECURRENT, unit=True),
        Region(regions["2"].component, unit=True),
    ]


def test_an_expression_that_matches_no_whole_path_changes_nothing_and_is_named():
    # A mapping in pyproject.toml is one for several models.
    twin = tiny_twin("bert")
    assert regions_of(twin, None, {"layer": Component.FFN}) == regions_of(twin)
    breakdown = bertprof.profile(twin, ids().kwargs, time=False, anatomy={"layer": "ffn", "pooler": "ffn"})
    (caveat,) = (caveat for caveat in breakdown.caveats if caveat.code == "anatomy-unmatched")
    assert "'layer' matches no module" in caveat.text
    assert "\n" not in caveat.text


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"encoder.layer.(": Component.FFN}, "'encoder.layer.(' is no regular expression: "),
        ({"encoder": "feed-forward"}, "'encoder' is mapped to 'feed-forward'; use one of embedding, "),
    ],
)
def test_a_mapping_that_does_not_fit(mapping: dict[str, Any], said: str):
    with pytest.raises(UsageError) as caught:
        regions_of(tiny_twin("bert"), None, mapping)
    text = str(caught.value)
    assert said in text
    assert "\n" not in text


def test_the_components_named_in_an_error_are_all_there_are():
    with pytest.raises(UsageError, match=", ".join((*Component, "unit"))):
        regions_of(tiny_twin("bert"), None, {"encoder": "nothing"})  # type: ignore[dict-item]
