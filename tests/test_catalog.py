import pytest
import torch
import transformers

from bertprof import catalog
from bertprof.catalog import Entry

NAMES = [entry.name for entry in catalog.entries()]


@pytest.mark.parametrize("entry", catalog.entries(), ids=NAMES)
def test_parameters_are_those_of_the_model(entry: Entry):
    config = transformers.AutoConfig.for_model(entry.family, **entry.config)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    assert entry.size == (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)


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
    ],
)
def test_short_and_full_names(name: str, parameters: int):
    entry = catalog.find(name)
    assert entry is not None
    assert entry.parameters == parameters


def test_names_are_unique_and_every_field_of_a_configuration_is_one():
    names = [name.lower() for entry in catalog.entries() for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    for entry in catalog.entries():
        known = transformers.AutoConfig.for_model(entry.family).to_dict()
        assert set(entry.config) <= set(known), entry.name


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
