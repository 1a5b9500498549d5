import pytest
import transformers
from torch import nn

from bertprof.attribution import boundaries
from bertprof.components import Component
from bertprof.errors import UnsupportedModelError
from bertprof.measure.anatomy import FAMILIES as TABLES
from bertprof.measure.anatomy import regions_of
from bertprof.measure.build import TASKS
from bertprof.measure.parameters import count_parameters, standing
from conftest import FAMILIES, TINY, tiny_twin

# family → parameters of each component of its tiny model: V 100, P 40, T 2, H 32, E 16, F 64, three units.
H, E, F, V, P, T, L = 32, 16, 64, 100, 40, 2, 3
LINEAR = H * H + H
UNIT_FFN = H * F + F + F * H + H
EXPECTED = {
    "bert": {
        "embedding": (V + P + T) * H,
        "attention-linear-in": L * 3 * LINEAR,
        "attention-linear-out": L * LINEAR,
        "ffn": L * UNIT_FFN,
        "add-norm": 2 * H + L * 4 * H,
        "head": LINEAR,
    },
    "distilbert": {
        "embedding": (V + P) * H,
        "attention-linear-in": L * 3 * LINEAR,
        "attention-linear-out": L * LINEAR,
        "ffn": L * UNIT_FFN,
        "add-norm": 2 * H + L * 4 * H,
    },
    "electra": {
        "embedding": (V + P + T) * E + E * H + H,
        "attention-linear-in": L * 3 * LINEAR,
        "attention-linear-out": L * LINEAR,
        "ffn": L * UNIT_FFN,
        "add-norm": 2 * E + L * 4 * H,
    },
    "albert": {
        "embedding": (V + P + T) * E + E * H + H,
        "attention-linear-in": 3 * LINEAR,
        "attention-linear-out": LINEAR,
        "ffn": UNIT_FFN,
        "add-norm": 2 * E + 4 * H,
        "head": LINEAR,
    },
}
EXPECTED["roberta"] = EXPECTED["bert"]
WITHOUT_HEAD = {(family, "next-sentence-prediction") for family in FAMILIES if family != "bert"}


def test_every_family_is_tested():
    assert set(FAMILIES) == set(TABLES) == set(EXPECTED)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_by_component(family: str):
    twin = tiny_twin(family)
    found: dict[str, int] = {}
    for owner, storage in count_parameters(twin, regions_of(twin), {}).items():
        found[str(owner.component)] = found.get(str(owner.component), 0) + storage.parameters
        assert storage.parameter_bytes == 4 * storage.parameters
    assert found == EXPECTED[family]
    assert sum(found.values()) == sum(p.numel() for p in twin.parameters())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_task_adds_to_head_and_norms_only(family: str, task: str):
    if (family, task) in WITHOUT_HEAD:
        with pytest.raises(ValueError, match="Unrecognized configuration class"):
            tiny_twin(family, task=task)
        return
    twin = tiny_twin(family, task=task)
    found: dict[str, int] = {}
    for owner, storage in count_parameters(twin, regions_of(twin), {}).items():
        found[str(owner.component)] = found.get(str(owner.component), 0) + storage.parameters
    for component, parameters in EXPECTED[family].items():
        if component not in ("head", "add-norm"):
            assert found[component] == parameters
    assert set(found) <= {*EXPECTED[family], "head"}
    assert found["head"] > 0
    assert sum(found.values()) == sum(p.numel() for p in twin.parameters())


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
def test_every_layer_norm_is_add_norm(family: str):
    twin = tiny_twin(family, task="masked-lm")
    regions = regions_of(twin)
    norms = [path for path, module in twin.named_modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) >= 3
    assert {regions[path].component for path in norms} == {Component.ADD_NORM}


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


def test_what_is_no_known_model():
    with pytest.raises(UnsupportedModelError, match=r"Linear \(it has no config.model_type\); known families: bert"):
        regions_of(nn.Linear(1, 1, device="meta"))
    t5 = transformers.AutoConfig.for_model("gpt2", n_layer=1, n_embd=8, n_head=2, vocab_size=10, n_positions=8)
    import torch

    with torch.device("meta"):
        model = transformers.AutoModel.from_config(t5)
    with pytest.raises(UnsupportedModelError, match="'gpt2'"):
        regions_of(model)


def test_a_model_that_only_says_it_is_bert():
    model = nn.Linear(1, 1, device="meta")
    model.config = transformers.AutoConfig.for_model("bert", **TINY["bert"])
    with pytest.raises(UnsupportedModelError, match="none of that family's encoder units"):
        regions_of(model)
