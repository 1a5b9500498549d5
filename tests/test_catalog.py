import json
from pathlib import Path

import pytest
import torch
import transformers

from bertprof import catalog, configuration
from bertprof.catalog import Entry
from bertprof.measure import build, students  # noqa: F401 (registers families)
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
    heads = getattr(config, "num_attention_heads", None)
    assert entry.size == (config.num_hidden_layers, config.hidden_size, heads)
    # All of them stand in a component, and in none that is only left over.
    found = count_parameters(model, regions_of(model), {})
    assert sum(storage.parameters for storage in found.values()) == entry.parameters
    components = {str(owner.component) for owner in found}
    if heads is None:
        assert components >= {"embedding", "head"}
        assert len(components & {"recurrent", "convolution"}) == 1
    else:
        assert components >= {"embedding", "attention-linear-in", "ffn", "add-norm"}
    assert "other" not in components


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
    assert {entry.name for entry in map(catalog.find, COUNTED) if entry is not None} == set(NAMES) - {*STUDENTS}


def bert(layers: int, hidden: int, inner: int, words: int) -> int:
    """Parameters of BERT: tables of words, 512 positions and 2 types with a norm; units of four linears of H × H, two
    of H × I and two norms; pooler."""
    embedding = (words + 512 + 2) * hidden + 2 * hidden
    unit = 4 * (hidden * hidden + hidden) + hidden * inner + inner + inner * hidden + hidden + 2 * 2 * hidden
    return embedding + layers * unit + hidden * hidden + hidden


# Students that were published without weights on any hub → their size, and parameters as published or computed.
STUDENTS = {
    # Sun et al. 2019 (BERT-PKD), arXiv 1908.09355: 67.0M and 45.7M.
    "microsoft/bert-pkd-6": (bert(6, 768, 3072, 30_522), 66_955_008),
    "microsoft/bert-pkd-3": (bert(3, 768, 3072, 30_522), 45_691_392),
    # Zhao et al. 2019, arXiv 1909.11687v1: 12 units as their teacher, H of 48, 96 and 192, 4,928 words; I = 4H is
    # likely. The paper prints a compression of 61.94 times for 48, 1.78M of 110.1M, which this model cannot be.
    "google/zhao-48": (bert(12, 48, 192, 4_928), 602_928),
    "google/zhao-96": (bert(12, 96, 384, 4_928), 1_874_016),
    "google/zhao-192": (bert(12, 192, 768, 4_928), 6_420_672),
}

# Students with another backbone; their closed forms are in test_students_backbones.
OTHER_BACKBONES = {
    "castorini/tang-bilstm": (2 * 30_522 * 300 + 963_002, 19_276_202),
    "castorini/tang-bilstm-mnli": (2 * 30_522 * 300 + 1_143_203, 19_456_403),
    "castorini/tang-bilstm-qqp": (2 * 30_522 * 300 + 2_645_402, 20_958_602),
    "salesforce/liu-bilstm": (30_522 * 768 + 2_931_003, 26_371_899),
    "red-dragon-ai/chia-cnn": (30_522 * 82 + 472_102, 2_974_906),
    "alibaba/adabert": ((30_522 + 512) * 128 + 4_081_187, 8_053_539),
}
STUDENTS |= OTHER_BACKBONES


@pytest.mark.parametrize("name", STUDENTS)
def test_students_without_published_weights(name: str):
    entry = catalog.find(name)
    assert entry is not None
    computed, stated = STUDENTS[name]
    assert entry.parameters == computed == stated
    assert catalog.find(entry.short_name) is entry
    assert configuration.resolve(entry.short_name).origin == "catalog"


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("distilbert", "distilbert/distilbert-base-uncased"),
        ("tinybert-4", "huawei-noah/TinyBERT_General_4L_312D"),
        ("tinybert-6", "huawei-noah/TinyBERT_General_6L_768D"),
        ("mobilebert", "google/mobilebert-uncased"),
        ("minilm-12", "microsoft/MiniLM-L12-H384-uncased"),
        # all-MiniLM-L6 has the size of MiniLM's 6 × 384 student.
        ("minilm-6", "sentence-transformers/all-MiniLM-L6-v2"),
    ],
)
def test_students_by_the_names_of_their_papers(short: str, full: str):
    assert catalog.find(short) is catalog.find(full) is not None


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
        ("tang-bilstm", (1, 150, None)),
        ("adabert", (8, 128, None)),
    ],
)
def test_size(name: str, size: tuple[int, int, int | None]):
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
        # num_labels is a property, made of the table of labels
        assert set(entry.config) <= {*known, "num_labels", *UNDECLARED.get(entry.family, ())}, entry.name


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
