import json
from pathlib import Path

import pytest
import torch
import transformers

from bertprof import catalog, configuration
from bertprof.catalog import Entry
from bertprof.measure import build
from bertprof.measure.anatomy import regions_of
from bertprof.measure.parameters import count_parameters

NAMES = [entry.name for entry in catalog.entries()]

# name → parameters of the base model, each counted once, as researched from the models' sources for the survey
COUNTED: dict[str, int] = json.loads((Path(__file__).parent / "data" / "methods-models.json").read_text())


@pytest.mark.parametrize("entry", catalog.entries(), ids=NAMES)
def test_parameters_are_those_of_the_model(entry: Entry):
    config = transformers.AutoConfig.for_model(entry.family, **entry.config)
    attention = "sdpa" if build.has_sdpa(config, None) else "eager"
    model = build.on_meta(config, None, attention, torch.float32)
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    assert entry.size == (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)
    # All of them stand in a component, and in none that is only left over.
    found = count_parameters(model, regions_of(model), {})
    assert sum(storage.parameters for storage in found.values()) == entry.parameters
    assert {str(owner.component) for owner in found} >= {"embedding", "attention-linear-in", "ffn", "add-norm"}
    assert "other" not in {str(owner.component) for owner in found}


@pytest.mark.parametrize("name", COUNTED)
def test_every_model_of_the_methods_is_known_offline(name: str):
    entry = catalog.find(name)
    assert entry is not None
    assert entry.parameters == COUNTED[name]
    assert catalog.find(entry.short_name) is entry
    resolved = configuration.resolve(name)
    assert resolved.origin == "catalog"
    assert resolved.fields["model_type"] == entry.family


def test_the_methods_name_every_known_model():
    """So that each count has a source: four of the 65 names there are of two versions with one count."""
    assert len(COUNTED) == 65 + 4
    assert {entry.name for entry in map(catalog.find, COUNTED) if entry is not None} == set(NAMES)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("bert-base-uncased", 109_482_240),
        ("google-bert/bert-base-uncased", 109_482_240),
        ("BERT-base-uncased", 109_482_240),
        ("bert-large-uncased", 335_141_888),
        ("albert-base-v2", 11_683_584),
        ("distilbert-base-uncased", 66_362_880),
        ("roberta-base", 124_645_632),
        ("electra-small", 13_483_008),
        ("xlnet-large-cased", 360_268_800),
        ("megatron-lm-8.3b", 8_317_040_640),
        ("turing-nlg-17b", 17_176_845_728),
    ],
)
def test_short_and_full_names(name: str, parameters: int):
    entry = catalog.find(name)
    assert entry is not None
    assert entry.parameters == parameters


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("bert-base-uncased", (12, 768, 12)),
        ("distilbert-base-uncased", (6, 768, 12)),
        ("gpt2-xl", (48, 1600, 25)),
        ("xlnet-large-cased", (24, 1024, 16)),
        ("turing-nlg-17b", (78, 4256, 28)),
    ],
)
def test_size(name: str, size: tuple[int, int, int]):
    entry = catalog.find(name)
    assert entry is not None
    assert entry.size == size


# Fields that the modules of a family ask for and its configuration class does not declare.
UNDECLARED = {"deberta-v2": {"position_buckets", "share_att_key", "norm_rel_ebd"}}


def test_names_are_unique_and_every_field_of_a_configuration_is_one():
    names = [name.lower() for entry in catalog.entries() for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    for entry in catalog.entries():
        known = transformers.AutoConfig.for_model(entry.family).to_dict()
        assert set(entry.config) <= {*known, *UNDECLARED.get(entry.family, ())}, entry.name


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("bert-base-uncasd", "bert-base-uncased"),
        ("google-bert/bert-bas-uncased", "bert-base-uncased"),
        ("distilbert", "distilbert-base-uncased"),
        ("roberta_base", "roberta-base"),
    ],
)
def test_nearest(typed: str, first: str):
    assert catalog.nearest(typed)[0] == first


def test_nothing_is_near_to_something_else():
    assert catalog.nearest("qqqqqqqq") == []
    assert catalog.find("qqqqqqqq") is None
