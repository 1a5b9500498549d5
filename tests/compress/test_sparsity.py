"""sparsity: how many weights become zero and which, what is stored of them, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from compressing import applied, drawn, first, ids, output
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import bertprof
from bertprof import Component
from bertprof.compress.zeros import zero_smallest, zero_two_of_four
from bertprof.errors import UsageError
from bertprof.measure import profiler
from bertprof.measure.subject import Subject
from bertprof.record import Breakdown
from conftest import FAMILIES, tiny_twin

BASE = "bert-base-uncased"


def counted(subject: Subject) -> Breakdown:
    (found,) = profiler.measure([subject], profiler.Options(time=False))
    return found


def zeros(subject: Subject) -> dict[str, int]:
    """Parameter of the opened model → its zeros, where it has some."""
    with subject.open() as opened:
        found = {name: int((p == 0).sum()) for name, p in opened.model.named_parameters()}
    return {name: number for name, number in found.items() if number}


# Which become zero ---------------------------------------------------------------------------------------------------

VALUES = st.floats(-4, 4, width=16) | st.sampled_from([0.0, -0.0, 1.0, -1.0, float("inf"), 1e-7])


@given(
    st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=3),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.data(),
)
def test_the_smallest_become_zero_of_equal_ones_the_first(rows: list[list[float]], dtype: torch.dtype, data: Any):
    weights = [torch.tensor(row, dtype=dtype) for row in rows]
    flat = torch.cat(weights)
    number = data.draw(st.integers(0, len(flat)))
    stay = sorted(range(len(flat)), key=lambda i: (abs(float(flat[i])), i))[number:]
    expected = torch.zeros_like(flat)
    expected[stay] = flat[stay]
    zero_smallest(weights, number)
    assert torch.equal(torch.cat(weights), expected)


@given(
    st.lists(st.lists(VALUES, min_size=8, max_size=8), min_size=1, max_size=3),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
)
def test_of_each_four_the_two_smallest_of_equal_ones_the_first(rows: list[list[float]], dtype: torch.dtype):
    weight = torch.tensor(rows, dtype=dtype)
    expected = weight.clone()
    for row in expected:
        for start in (0, 4):
            for i in sorted(range(start, start + 4), key=lambda i: (abs(float(row[i])), i))[:2]:
                row[i] = 0
    transposed = weight.t().contiguous()
    zero_two_of_four(weight)
    assert torch.equal(weight, expected)
    zero_two_of_four(transposed.t())  # a view
    assert torch.equal(transposed.t(), expected)


def test_of_each_matrix_the_same_share():
    model = drawn("bert")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    subject = applied(model, "sparsity=0.3")
    # round(0.3 · 1,024) and round(0.3 · 2,048); the pooler is one of 32 × 32
    expected = {
        name: {1024: 307, 2048: 614}[p.numel()]
        for name, p in before.items()
        if p.dim() == 2 and not name.startswith("embeddings")
    }
    assert len(expected) == 3 * 6 + 1
    assert zeros(subject) == expected
    with subject.open() as opened:
        for name, parameter in opened.model.named_parameters():
            gone = parameter == 0
            assert torch.equal(parameter[~gone], before[name][~gone])
            if name in expected:
                assert before[name][gone].abs().max() <= before[name][~gone].abs().min()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_of_all_matrices_together():
    model: Any = drawn("bert")
    with torch.no_grad():
        model.encoder.layer[1].intermediate.dense.weight.mul_(1e-3)
    subject = applied(model, "sparsity=0.3,by=all")
    found = zeros(subject)
    # Of 3 · (4 · 1,024 + 2 · 2,048) + 1,024 = 25,600
    assert sum(found.values()) == round(0.3 * 25_600)
    assert found["encoder.layer.1.intermediate.dense.weight"] > 2000
    record = counted(subject)
    assert record.total("nonzero_parameters") == sum(p.numel() for p in model.parameters()) - 7680
    (own,) = (cost for cost in record.of(Component.FFN) if cost.unit == 1)
    assert own.nonzero_parameters == own.parameters - sum(
        number for name, number in found.items() if name.startswith(("encoder.layer.1.inter", "encoder.layer.1.output"))
    )
    (caveat,) = (caveat for caveat in record.caveats if caveat.code == "zeros-by-weights")
    assert caveat.text.startswith("which matrices hold the zeros depends on the weights (module)")


@pytest.mark.parametrize("family", FAMILIES)
def test_two_of_each_four_inputs(family: str):
    subject, model = applied(drawn(family), "sparsity=2:4,embedding=yes"), drawn(family)
    before = dict(model.named_parameters())
    pruned = 0
    with subject.open() as opened:
        for name, parameter in opened.model.named_parameters():
            if not (parameter == 0).any():
                assert torch.equal(parameter, before[name])
                continue
            pruned += 1
            by_outputs = name.startswith("h.")  # GPT-2's Conv1D is a linear transposed
            rows = [w.t() if by_outputs else w.flatten(1) for w in (parameter, before[name])]
            zero, whole = (w.unflatten(1, (-1, 4)) for w in rows)
            assert torch.equal((zero == 0).sum(-1), torch.full(zero.shape[:2], 2))
            assert torch.equal(zero.abs().sum(-1), whole.abs().sort(-1).values[..., 2:].sum(-1))
    assert pruned == sum(stored.index_bytes > 0 for stored in subject.storage.values())
    record = counted(subject)
    assert record.total("nonzero_parameters") == sum(p.numel() for p in model.parameters()) - sum(
        zeros(subject).values()
    )


EMBEDDINGS = ("word", "position", "token_type")


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ("sparsity=0.5", {"encoder", "pooler"}),
        ("sparsity=0.5,head=no", {"encoder"}),
        ("sparsity=0.5,embedding=yes", {"encoder", "pooler", "embeddings"}),
        ("units=1:sparsity=0.5", {"encoder"}),
        ("units=1:sparsity=0.5,embedding=yes", {"encoder", "embeddings"}),
    ],
)
def test_what_is_pruned(options: str, where: set[str]):
    found = zeros(applied(drawn("bert"), options))
    assert {name.partition(".")[0] for name in found} == where
    assert {name.split(".")[2] for name in found if name.startswith("encoder")} == (
        {"1"} if "units" in options else {"0", "1", "2"}
    )
    tables = [name for name in found if name.startswith("embeddings")]
    assert tables == ([f"embeddings.{name}_embeddings.weight" for name in EMBEDDINGS] if "embeddings" in where else [])


def test_parts_of_a_model_with_other_shares():
    found = zeros(applied(drawn("bert"), "units=0:sparsity=0.5+units=2:sparsity=0.25,by=all,storage=csr"))
    by_unit = [sum(n for name, n in found.items() if name.startswith(f"encoder.layer.{unit}.")) for unit in range(3)]
    assert by_unit == [4096, 0, 2048]  # of 8,192


@pytest.mark.parametrize(("family", "tied"), [("bert", "bert"), ("xlm-roberta", "roberta")])
def test_a_tied_table_is_pruned_once_and_with_the_tables(family: str, tied: str):
    # XLM-RoBERTa's head is built before the rest, and the table's first name is the head's.
    model = drawn(family, task="masked-lm")
    table = f"{tied}.embeddings.word_embeddings.weight"
    weight = model.get_parameter(table)
    assert sum(p is weight for _, p in model.named_parameters(remove_duplicate=False)) == 2
    without, with_tables = (
        applied(model, f"sparsity=0.5{option}", {"input_ids": ids()}) for option in ("", ",embedding=yes")
    )
    with without.open() as opened:
        assert not (opened.model.get_parameter(table) == 0).any()
    with with_tables.open() as opened:
        assert int((opened.model.get_parameter(table) == 0).sum()) == 1600  # of 100 × 32
    assert sum(zeros(with_tables).values()) == sum(p.numel() for p in model.parameters()) - (
        counted(with_tables).total("nonzero_parameters") or 0
    )


@pytest.mark.parametrize("by", ["matrix", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str, by: str):
    model = drawn(family)
    subject = applied(model, f"sparsity=0.5,embedding=yes,by={by},storage=bitmap")
    found = output(subject)
    with torch.inference_mode():
        before = first(model(ids()))
    assert found.shape == before.shape
    assert torch.isfinite(found).all()
    assert not torch.allclose(found, before, atol=1e-2)
    pruned = zeros(subject)
    # No bias and no norm, also of two dimensions (XLNet's biases of heads).
    assert not [name for name in pruned if name.endswith("bias") or "norm" in name.lower()]
    record = counted(subject)
    assert record.total("nonzero_parameters") == sum(p.numel() for p in model.parameters()) - sum(pruned.values())
    assert record.total("macs") == sum(m.macs for m in record.modules or ())


# What is stored ------------------------------------------------------------------------------------------------------


def test_bert_base_in_every_format():
    linear, wide, units = 768 * 768, 768 * 3072, 12
    kept = linear - 353_894, wide - 1_415_578  # round(0.6 · 589,824), round(0.6 · 2,359,296)
    squares = 4 * units + 1  # and the pooler
    nonzero = squares * kept[0] + 2 * units * kept[1]
    rest = 109_482_240 - squares * linear - 2 * units * wide
    rows = (squares + units) * 769 + units * 3073  # one more than rows; the first linear of an FFN has 3,072
    expected = {
        "dense": 4 * 109_482_240,
        "bitmap": 4 * rest + 4 * nonzero + (squares * linear + 2 * units * wide) // 8,
        "csr": 4 * rest + 8 * nonzero + 4 * rows,
    }
    for storage, size in expected.items():
        found = bertprof.breakdown(BASE, recipes=[f"sparsity=0.6,storage={storage}"], time=False)
        assert found.total("parameter_bytes") == size
        assert found.total("nonzero_parameters") == rest + nonzero
        assert (found.total("parameters"), found.total("macs")) == (109_482_240, 11_174_215_680)


def test_bert_base_at_95_percent_in_csr():
    """By hand: a linear of 768 × 768 keeps 29,491 of 589,824, one of 768 × 3,072 117,965 of 2,359,296."""
    square, wide = 589_824 - 560_333, 2_359_296 - 2_241_331  # round(560,332.8), round(2,241,331.2)
    assert (square, wide) == (29_491, 117_965)
    linears = {
        Component.ATTENTION_LINEAR_IN: 36 * (8 * square + 4 * 769 + 4 * 768),
        Component.ATTENTION_LINEAR_OUT: 12 * (8 * square + 4 * 769 + 4 * 768),
        Component.FFN: 12 * (16 * wide + 4 * (769 + 3073) + 4 * (768 + 3072)),
        Component.HEAD: 8 * square + 4 * 769 + 4 * 768,
    }
    macs = {
        Component.ATTENTION_LINEAR_IN: 36 * square * 128,
        Component.ATTENTION_LINEAR_OUT: 12 * square * 128,
        Component.FFN: 24 * wide * 128,
        Component.HEAD: square,
    }
    for execute in ("dense", "csr"):
        recipe = f"sparsity=0.95,storage=csr,execute={execute}"
        found = bertprof.breakdown(BASE, recipes=[recipe], time=False)
        for component, size in linears.items():
            costs = found.of(component)
            assert sum(cost.parameter_bytes for cost in costs) == size
            if execute == "csr":
                assert sum(cost.macs for cost in costs) == macs[component]
    assert found.total("macs") == sum(macs.values()) + 301_989_888
    assert found.total("parameter_bytes") == sum(linears.values()) + 4 * (23_835_648 + 38_400)


def test_bert_base_in_2_4():
    weights = 49 * 768 * 768 + 24 * 768 * 3072
    for dtype, size in (("float32", 4), ("float16", 2)):
        found = bertprof.breakdown(BASE, recipes=["sparsity=2:4"], dtype=dtype, time=False)
        # Half of the values, and two bits for each: an eighth of a byte for each weight.
        assert found.total("parameter_bytes") == size * (109_482_240 - weights) + size * weights // 2 + weights // 8
        assert found.total("nonzero_parameters") == 109_482_240 - weights // 2
        assert found.total("macs") == 11_174_215_680
        (caveat,) = (caveat for caveat in found.caveats if caveat.code == "semi-structured-dense")
        assert caveat.text == (
            "2:4 weights are stored without their zeros and executed dense, as MACs and times say: "
            "only CUDA devices have kernels for them"
        )


@pytest.mark.parametrize("before", [0.1, 0.8])
def test_zeros_of_a_checkpoint_are_among_the_two_of_four(before: float, folder: Callable[..., Path]):
    model = with_zeros(before)
    found = bertprof.breakdown(saved(folder("bert"), model), recipes=["sparsity=2:4"], time=False, sequence_length=8)
    subject = applied(model, "sparsity=2:4")
    with subject.open() as opened:
        left = sum(int(torch.count_nonzero(p)) for p in opened.model.parameters())
    assert found.total("nonzero_parameters") == left
    # Half is stored, whatever it is.
    assert found.total("parameter_bytes") == 4 * (found.total("parameters") - 25_600) + 2 * 25_600 + 25_600 // 8
    assert "zeros-by-weights" in [caveat.code for caveat in found.caveats]


def test_index_bytes_and_odd_sizes():
    # 7 × 3 linears in two bytes a scalar: 21 scalars, round(0.5 · 21) = 10 zeros, 11 left.
    with torch.random.fork_rng():
        model = nn.Sequential(nn.Linear(3, 7, bias=False), nn.Linear(7, 3, bias=False)).half()
    for storage, size, index in (("dense", 42, 0), ("bitmap", 3 + 22, 3), ("csr", 11 * 6 + 4 * 8, 44 + 32)):
        subject = applied(model, f"sparsity=0.5,storage={storage}", torch.ones(1, 3).half())
        stored = subject.storage["0.weight"]
        assert stored == (21, size, 11, index)


@pytest.mark.parametrize("by", ["matrix", "all"])
def test_zeros_that_were_there_count_once(by: str, folder: Callable[..., Path]):
    path = folder("bert")
    model: Any = drawn("bert").half()
    with torch.no_grad():
        model.encoder.layer[0].intermediate.dense.weight[:48] = 0  # 1,536 of 2,048
        model.encoder.layer[0].intermediate.dense.bias[:5] = 0
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(state, path / "model.safetensors")
    found = bertprof.breakdown(
        str(path), recipes=[f"sparsity=0.1,by={by},storage=bitmap"], time=False, sequence_length=8
    )
    total = sum(p.numel() for p in model.parameters())
    # round(102.4) of each of 13 squares, round(204.8) of each of 5 others; round(0.1 · 25,600) of all, of which 1,536
    # are those that were zero before.
    gone = 5 + (13 * 102 + 5 * 205 + 1536 if by == "matrix" else 2560)
    assert found.total("nonzero_parameters") == total - gone
    plain = total - 25_600
    assert found.total("parameter_bytes") == 2 * plain + 25_600 // 8 + 2 * (25_600 - gone + 5)


def saved(path: Path, model: nn.Module) -> str:
    """A folder with these weights, shared ones once."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(state, path / "model.safetensors")
    return str(path)


def with_zeros(share: float) -> nn.Module:
    """BERT of which every weight of two dimensions is pruned at random to that share."""
    model = drawn("bert")
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter[torch.rand(parameter.shape, generator=generator) < share] = 0
    return model


def agrees(record: Breakdown, subject: Subject, per_scalar: dict[str, tuple[float, float, int]]) -> None:
    """The record has the non-zeros and bytes of the model that `subject` opens.

    Args:
        per_scalar: what a name begins with → bytes a scalar and a non-zero, and once; else 4 bytes a scalar.
    """
    nonzero, size = 0, 0.0
    with subject.open() as opened:
        for name, parameter in opened.model.named_parameters():
            left = int(torch.count_nonzero(parameter))
            matrix = parameter.dim() > 1
            every, each, once = next(
                (one for start, one in per_scalar.items() if matrix and name.startswith(start)), (4, 0, 0)
            )
            nonzero += left
            size += every * parameter.numel() + each * left + once * (parameter.shape[0] + 1)
    assert (record.total("nonzero_parameters"), record.total("parameter_bytes")) == (nonzero, size)


BITMAP, CSR = (1 / 8, 4.0, 0), (0.0, 8.0, 4)


@pytest.mark.parametrize("by", ["matrix", "all"])
@pytest.mark.parametrize("form", [None, BITMAP, CSR])
@pytest.mark.parametrize("structure", ["heads=2", "ffn=32", "vocabulary=50", "heads=2+layers=2"])
def test_zeros_of_a_checkpoint_that_is_cut_before_are_counted(
    structure: str, form: tuple[float, float, int] | None, by: str, folder: Callable[..., Path]
):
    model = with_zeros(0.8)
    storage = {None: "dense", BITMAP: "bitmap", CSR: "csr"}[form]
    recipes = f"{structure}+sparsity=0.5,embedding=yes,by={by},storage={storage}"
    found = bertprof.breakdown(saved(folder("bert"), model), recipes=[recipes], time=False, sequence_length=8)
    agrees(found, applied(model, recipes), {} if form is None else {"": form})
    (caveat,) = (caveat for caveat in found.caveats if caveat.code == "zeros-by-weights")
    assert caveat.text.endswith("on the weights (checkpoint): the model was built once to count them")
    assert "nonzero-unknown" not in [caveat.code for caveat in found.caveats]
    own = applied(model, recipes)
    agrees(counted(own), own, {} if form is None else {"": form})


def test_random_weights_stand_for_trained_ones_without_zeros(
    folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bertprof.measure.build.with_random_weights", None)
    found = bertprof.breakdown(str(folder("bert")), recipes=["heads=2+sparsity=0.5"], time=False, sequence_length=8)
    # A head of 8: 8 rows of q, k, v with bias, 8 columns of o. What is left are 7 · 1,024 weights a unit, less 2,048.
    zeroed = (3 * (4 * 512 + 2 * 2048) + 1024) // 2
    assert found.total("parameters") - (found.total("nonzero_parameters") or 0) == zeroed
    assert not {"zeros-by-weights", "nonzero-unknown"} & {caveat.code for caveat in found.caveats}


TWICE = "units=0:sparsity=0.5,embedding=yes,storage={}+units=1:sparsity=0.7,embedding=yes,storage={}"


@pytest.mark.parametrize("by", ["matrix", "all"])
@pytest.mark.parametrize(("last", "form"), [("dense", (4.0, 0.0, 0)), ("bitmap", BITMAP), ("csr", CSR)])
def test_a_table_that_two_prune_has_the_zeros_of_both(last: str, form: tuple[float, float, int], by: str):
    subject = applied(drawn("bert"), TWICE.format("dense", f"{last},by={by}"))
    agrees(counted(subject), subject, {"embeddings": form, "encoder.layer.1": form})
    # Of fewer than are zero, none more.
    subject = applied(drawn("bert"), TWICE.replace("0.7", "0.2").format("dense", f"{last},by={by}"))
    agrees(counted(subject), subject, {"embeddings": form, "encoder.layer.1": form})


@pytest.mark.parametrize("first_one", ["bitmap", "csr"])
@pytest.mark.parametrize("last", ["dense", "bitmap", "csr"])
def test_a_table_without_its_zeros_is_not_pruned_again(first_one: str, last: str):
    why = (
        r"^recipe units=1:sparsity=0\.7,.*: embeddings\.word_embeddings\.weight is pruned already by another "
        "sparsity=, and stored without its zeros; name it in one$"
    )
    with pytest.raises(UsageError, match=why):
        applied(drawn("bert"), TWICE.format(first_one, last))


def test_what_it_cannot_prune():
    with pytest.raises(
        UsageError, match=r"^recipe units=0:sparsity=0.5: units 0 and 1 share .*; name all of them or none$"
    ):
        applied(drawn("albert"), "units=0:sparsity=0.5")
    with pytest.raises(UsageError, match="there is no weight that it is for"):
        applied(nn.Sequential(nn.LayerNorm(3)), "sparsity=0.5", torch.ones(1, 3))
    with pytest.raises(UsageError, match="there is no unit 3"):
        applied(drawn("bert"), "units=3:sparsity=0.5")
    for option in ("by=matrix", "by=all", "storage=dense", "storage=csr", "execute=csr", "execute=dense"):
        why = f"2:4 says itself which weights go and how the rest is stored; leave out {option.partition('=')[0]}="
        with pytest.raises(UsageError, match=f"^recipe sparsity=2:4,{option}: {why}$"):
            applied(drawn("bert"), f"sparsity=2:4,{option}")
    with pytest.raises(
        UsageError, match=r": a row of encoder\.layer\.0\.output\.dense\.weight has 18 weights, no multiple of 4$"
    ):
        applied(drawn("bert"), "ffn=18+sparsity=2:4")
    for share in ("1e-300", "0.0002", "1e-300,by=all"):  # the largest matrix has 2,048 weights
        with pytest.raises(UsageError, match=r"^recipe sparsity=\S+: it zeroes no weight; give a larger share$"):
            applied(drawn("bert"), f"sparsity={share}")
    # Of 25,600 weights together 0.0002 are 5.12; round(0.0003 · 2,048) = 1 of each of six matrices.
    assert sum(zeros(applied(drawn("bert"), "sparsity=0.0002,by=all")).values()) == 5
    assert sum(zeros(applied(drawn("bert"), "sparsity=0.0003")).values()) == 6
    meta = {"input_ids": ids().to("meta")}
    with pytest.raises(UsageError, match="by=all depends on the weights, and the model has none"):
        applied(tiny_twin("bert"), "sparsity=0.5,by=all", meta)
    assert applied(tiny_twin("bert"), "sparsity=0.5", meta).storage


def test_the_weights_of_all_units_of_albert():
    subject = applied(drawn("albert"), "sparsity=0.5,embedding=yes")
    found = zeros(subject)
    assert found["encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"] == 1024
    assert found["encoder.embedding_hidden_mapping_in.weight"] == 256
    assert [name for name in found if name.startswith("pooler")] == ["pooler.weight"]


def test_a_live_model_is_left_as_it_was(untouched: Any):
    model = untouched(drawn("bert"))
    subject = applied(model, "heads=2+layers=2+sparsity=0.9,by=all,storage=csr,embedding=yes")
    assert torch.isfinite(output(subject)).all()
    assert output(subject).equal(output(subject))


def test_nothing_becomes_zero_of_none():
    weight = torch.ones(2, 2)
    zero_smallest([weight], 0)
    assert torch.equal(weight, torch.ones(2, 2))
    transposed: Tensor = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).t()
    zero_smallest([transposed], 2)
    assert transposed.tolist() == [[0, 3], [0, 4]]


@pytest.mark.slow
def test_what_scores_tokens_is_no_table():
    # Weights of the LSTM, of its attention's projection and score, and of the classifier; each loses nine tenths.
    pruned = (2 * 1200 * 768 + 2 * 1200 * 300, 600 * 600, 600, 3 * 600)
    found = bertprof.breakdown("liu-bilstm+sparsity=0.9", time=False)
    assert found.total("nonzero_parameters") == 26_371_899 - sum(number * 9 // 10 for number in pruned)
    # Of a student without units, its backbone and attention are as units are.
    bits = bertprof.breakdown("liu-bilstm+bits=4,head=8,embedding=16,groups=1", time=False)
    (linear,) = bits.of(bertprof.Component.ATTENTION_LINEAR_IN)
    assert linear.parameter_bytes == 600 * 600 // 2 + 8 + 600 * 4  # a scale and zero point, a bias
