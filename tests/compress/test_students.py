"""student=NAME: the students of the survey, another configuration under the same workload."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import bertprof
from bertprof import Component, configuration
from bertprof.errors import BertprofError, UnknownModelError, UsageError

TEACHER = "bert-base-uncased"
TURC = [(layers, hidden) for layers in (2, 4, 6, 8, 10, 12) for hidden in (128, 256, 512, 768)]


def unit(hidden: int, inner: int) -> int:
    """Four linears of H × H, two of H × I, and two norms."""
    return 4 * (hidden * hidden + hidden) + hidden * inner + inner + inner * hidden + hidden + 2 * 2 * hidden


def bert(layers: int, hidden: int, inner: int, words: int = 30_522) -> int:
    """Tables of words, 512 positions and 2 types with a norm; units; pooler."""
    return (words + 512 + 2) * hidden + 2 * hidden + layers * unit(hidden, inner) + hidden * hidden + hidden


def mobilebert() -> int:
    """Sun et al. 2020, Table 1, with a pooler: 24 units 512 wide outside and 128 inside, four FFNs in each.

    The paper prints 25.3M, 0.46M more. Heads of pre-training can be 0.30M of it: the transform before the output of
    words with its norm, 512² + 3·512, its bias, 30,522, and the head of next sentences, 2·512 + 2, 25,139,772 in all.
    The rest is not known.
    """
    words = 30_522 * 128 + 512 * 512 + 2 * 512 + (3 * 128 * 512 + 512) + 2 * 512
    narrowed = 2 * (512 * 128 + 128 + 2 * 128)  # one for the unit, one for queries and keys
    attention = 2 * (128 * 128 + 128) + (512 * 128 + 128) + (128 * 128 + 128 + 2 * 128)  # values see 512
    ffns = 4 * (128 * 512 + 512 + 512 * 128 + 128 + 2 * 128)
    widened = 128 * 512 + 512 + 2 * 512
    return words + 24 * (narrowed + attention + ffns + widened) + 512 * 512 + 512


def bilstm(inputs: int, hidden: int) -> int:
    """Two directions of four gates with two biases each."""
    return 2 * (4 * hidden * (inputs + hidden) + 8 * hidden)


PARAMETERS = {
    # Sanh et al. 2019: neither types nor pooler.
    "distilbert": ((30_522 + 512) * 768 + 2 * 768 + 6 * unit(768, 3072), 66_362_880),
    "bert-pkd-6": (bert(6, 768, 3072), 66_955_008),
    "bert-pkd-3": (bert(3, 768, 3072), 45_691_392),
    # Jiao et al. 2019: 14.5M; the projection to the teacher's width, of training alone, is 0.24M.
    "tinybert-4": (bert(4, 312, 1200), 14_350_248),
    "tinybert-6": (bert(6, 768, 3072), 66_955_008),
    "mobilebert": (mobilebert(), 24_844_544),
    "minilm-12": (bert(12, 384, 1536), 33_360_000),
    "minilm-6": (bert(6, 384, 1536), 22_713_216),
    "zhao-48": (bert(12, 48, 192, 4_928), 602_928),
    "zhao-96": (bert(12, 96, 384, 4_928), 1_874_016),
    "zhao-192": (bert(12, 192, 768, 4_928), 6_420_672),
    # Tang et al. 2019b: 963,002 without the two tables, 1,143,203 and 2,645,402 for pairs.
    "tang-bilstm": (2 * 30_522 * 300 + bilstm(600, 150) + 300 * 200 + 200 + 200 * 2 + 2, 19_276_202),
    "tang-bilstm-mnli": (2 * 30_522 * 300 + bilstm(600, 150) + 1200 * 200 + 200 + 200 * 3 + 3, 19_456_403),
    "tang-bilstm-qqp": (2 * 30_522 * 300 + bilstm(600, 300) + 2400 * 200 + 200 + 200 * 2 + 2, 20_958_602),
    # Liu et al. 2019: 90 MB and 11 MB.
    "liu-bilstm": (30_522 * 768 + bilstm(768, 300) + 600 * 600 + 2 * 600 + 600 * 3 + 3, 26_371_899),
    # Chia et al. 2018: a 39th of GPT's 116,534,784.
    "chia-cnn": (30_522 * 82 + 41_100 + 7 * 50_100 + 800 * 100 + 100 + 100 * 2 + 2, 2_974_906),
    # Chen et al. 2020: 7.4 % of BERT-base on average. 31 taps of 128², five biases and six batch norms in each cell.
    "adabert": (31_034 * 128 + 256 + 8 * (31 * 128**2 + 5 * 128 + 12 * 128 + 3) + 9 + 258, 8_053_539),
    **{f"bert_uncased_L-{n}_H-{h}_A-{h // 64}": (bert(n, h, 4 * h), bert(n, h, 4 * h)) for n, h in TURC},
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_the_students(name: str):
    computed, stated = PARAMETERS[name]
    found = bertprof.breakdown(f"{TEACHER}+student={name}", time=False)
    assert found.total("parameters") == computed == stated
    assert found.total("parameter_bytes") == 4 * computed
    assert (found.workload.model, found.workload.recipes) == (TEACHER, [f"student={name}"])
    alone = bertprof.breakdown(name, time=False)
    assert alone.workload.config_sha256 == found.workload.config_sha256
    assert alone.costs == found.costs


def test_the_workload_is_kept():
    asked = {"batch_size": 3, "sequence_length": 24, "padding": 0.25, "dtype": "bfloat16", "attention": "eager"}
    found, alone = (
        bertprof.breakdown(name, task="sequence-classification", time=False, **asked)
        for name in (f"{TEACHER}+student=zhao-48", "zhao-48")
    )
    expected = msgspec.structs.replace(alone.workload, model=TEACHER, recipes=["student=zhao-48"])
    assert found.workload == expected
    assert {key: getattr(found.workload, key) for key in asked} == asked
    assert found.workload.task == "sequence-classification"
    assert found.costs == alone.costs
    # Tables of 4,928 words and their ids: 12 units of 4·48² + 2·48·192 MACs a token in linears, 2·24·48 in attention.
    linears = 12 * (4 * 48 * 48 + 2 * 48 * 192) * 3 * 24
    attention = 12 * 2 * 24 * 48 * 3 * 24
    head = 3 * (48 * 48 + 48 * 2)
    assert found.total("macs") == linears + attention + head


def test_a_student_in_a_folder(folder: Callable[..., Path]):
    path = folder("distilbert")
    found = bertprof.breakdown(f"{TEACHER}+student={path}", sequence_length=16, min_time_s=0)
    assert found.total("parameters") == (100 + 40) * 32 + 2 * 32 + 3 * unit(32, 64)
    assert found.workload.recipes == [f"student={path}"]
    assert found.end_to_end_ms
    assert all(sum(cost.time_ms or []) > 0 for cost in found.of(Component.FFN))


def test_fields_that_are_set_are_the_students():
    found = bertprof.breakdown(f"{TEACHER}+student=zhao-48", overrides={"num_hidden_layers": 3}, time=False)
    assert found.total("parameters") == bert(3, 48, 192, 4_928)


@pytest.mark.parametrize(
    ("recipes", "parameters"),
    [
        ("student=tinybert-4+int8", 14_350_248),
        # A head of TinyBERT4 is 312 / 12 = 26 wide: four linears of 6 · 26 · 312, three biases of 6 · 26, in 4 units.
        ("student=tinybert-4+heads=6", 14_350_248 - 4 * (4 * 6 * 26 * 312 + 3 * 6 * 26)),
        ("student=tinybert-6+layers=3", 45_691_392),
        ("student=tinybert-4+vocabulary=4928", 14_350_248 - (30_522 - 4_928) * 312),
        ("student=tinybert-4+share-units", 14_350_248 - 3 * unit(312, 1200)),
        # Both tables of words, 300 wide.
        ("student=tang-bilstm+vocabulary=5000", 19_276_202 - 2 * (30_522 - 5_000) * 300),
        ("student=chia-cnn+factor-embedding=32", 2_974_906 - 30_522 * 82 + 30_522 * 32 + 32 * 82),
        # Half of the cells; each has its weight in the mean of all.
        ("student=adabert+layers=4", 8_053_539 - 4 * 510_084),
        ("student=adabert+share-units", 8_053_539 - 7 * 510_084),
    ],
)
def test_students_are_compressed_further(recipes: str, parameters: int):
    found = bertprof.breakdown(f"{TEACHER}+{recipes}", sequence_length=16, time=False)
    assert found.total("parameters") == parameters
    assert found.workload.recipes == recipes.split("+")
    if "int8" in recipes:
        assert found.total("parameter_bytes") < 4 * parameters


@pytest.mark.parametrize(("typed", "near"), [("zhao-84", "zhao-48"), ("bert-pkd", "bert-pkd-6")])
def test_a_misspelt_student(typed: str, near: str, monkeypatch: pytest.MonkeyPatch):
    def fetch(name: str) -> Path:
        raise configuration.HubError("the hub cannot be reached from here")

    monkeypatch.setattr(configuration, "fetch", fetch)
    with pytest.raises(UnknownModelError, match=f"{typed!r} is no known model.*did you mean {near}"):
        bertprof.breakdown(f"{TEACHER}+student={typed}", time=False)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (f"{TEACHER}+student=own.models:make", "own.models:make is your own code; a student is a known name or a fold"),
        ("own.models:make+student=zhao-48", "own.models:make is your own code, which makes its own inputs"),
        (f"{TEACHER}+heads=6+student=zhao-48", "a student replaces the whole model; write student=zhao-48+heads=6"),
        (f"{TEACHER}+student=zhao-48+student=zhao-96", "it cannot follow student=zhao-48"),
        (f"{TEACHER}+student=", "there is nothing behind student="),
    ],
)
def test_what_is_no_student(model: str, why: str):
    with pytest.raises(UsageError, match=r"^recipe student=") as caught:
        bertprof.breakdown(model, time=False)
    assert why in str(caught.value)


def test_a_student_longer_than_its_positions(folder: Callable[..., Path]):
    with pytest.raises(BertprofError, match="--seq-length 128 is beyond the model's 40 positions"):
        bertprof.breakdown(f"{TEACHER}+student={folder()}", time=False)


# Of students with another backbone ------------------------------------------------------------------------------------

BACKBONES = ("tang-bilstm", "tang-bilstm-mnli", "liu-bilstm", "chia-cnn", "adabert")


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("recipe", ["bf16", "bits=4", "sparsity=0.5", "sparsity=0.5,embedding=yes", "vocabulary=100"])
def test_recipes_that_work_on_any_backbone(name: str, recipe: str):
    """Run and counted: what is smaller is so by closed form, in the backbone too."""
    plain = bertprof.breakdown(name, sequence_length=8, time=False)
    found = bertprof.breakdown(f"{name}+{recipe}", sequence_length=8, min_time_s=0)
    assert all(sample > 0 for sample in found.end_to_end_ms or [])
    assert found.total("macs") == plain.total("macs")
    backbone = next(c for c in (Component.RECURRENT, Component.CONVOLUTION) if plain.of(c))
    before, after = (sum(cost.parameter_bytes for cost in b.of(backbone)) for b in (plain, found))
    if recipe == "bf16":
        assert 2 * found.total("parameter_bytes") == plain.total("parameter_bytes")
    elif recipe == "bits=4":  # matrices at half a byte a weight and up to 128 ranges each; the rest stays float
        assert 0.125 < after / before < 0.135
    elif recipe.startswith("sparsity"):
        scalars = sum(cost.parameters for cost in plain.of(backbone))
        nonzero = sum(cost.nonzero_parameters or 0 for cost in found.of(backbone))
        assert 0.5 <= nonzero / scalars < 0.51  # biases and norms stay
    else:
        assert after == before


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("tang-bilstm+int8", "weight_ih_l0 of backbone.lstm (LSTM) is not the weight of an nn.Linear"),
        ("chia-cnn+int8-weight", "weight of backbone.convolutions.0 (Conv1d) is not the weight of an nn.Linear"),
        ("adabert+int4-weight", "weight of cells.0.edges.0.1 (Conv1d) is not the weight of an nn.Linear"),
        ("tang-bilstm+heads=6", "the model has no encoder units"),
        ("chia-cnn+ffn=10", "the model has no encoder units"),
        ("liu-bilstm+layers=1", "the model has no encoder units"),
        ("liu-bilstm+share-units", "it has no two units"),
        ("chia-cnn+units=0:bits=4", "there is no unit 0; the model has 0"),
        ("adabert+heads=1", "heads of unit 0 cannot be removed"),
        ("adabert+ffn=1", "FFN columns of unit 0 cannot be removed"),
        ("tang-bilstm+factor-embedding=8", "each word has 2 vectors, in as many tables"),
        ("adabert+factor-embedding=8,layout=albert", "has no embedding of tables, norm and dropout alone"),
    ],
)
def test_recipes_that_fit_no_such_student(model: str, why: str):
    with pytest.raises(UsageError, match=r"^recipe ") as caught:
        bertprof.breakdown(model, time=False)
    assert why in str(caught.value)


def test_bits_of_a_backbone_are_those_of_the_recipe():
    """The LSTM stands for the units: `head=` is not for it."""
    found = bertprof.breakdown("liu-bilstm+bits=2,head=32,embedding=32", time=False)
    sizes = {component: sum(c.parameter_bytes for c in found.of(component)) for component in Component}
    matrices = 2 * 4 * 300 * (768 + 300)
    assert sizes[Component.RECURRENT] == matrices // 4 + 4 * 8 * 128 + 4 * 2 * 2 * 4 * 300
    assert sizes[Component.HEAD] == 4 * (600 * 3 + 3)
