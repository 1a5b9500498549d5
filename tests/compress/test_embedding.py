"""factor-embedding and vocabulary: which tables, which sizes, what stays exact, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compressing import applied, drawn, first, ids, output, parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bertprof
from bertprof import Component
from bertprof.errors import BertprofError, UsageError
from bertprof.measure import profiler
from bertprof.measure.inputs import Inputs
from bertprof.measure.subject import Subject
from bertprof.record import Breakdown
from conftest import FAMILIES, TINY, tiny

V, H, P = 100, 32, 40  # words, hidden size, positions of the tiny models
FACTORISED = ("albert", "electra", "mobilebert")
FACTORED = tuple(family for family in FAMILIES if family not in FACTORISED)

# family → its tables beside that of words, and whether the embedding has a norm, as their modules build them
LAYOUT: dict[str, tuple[int, bool]] = {
    "bert": (P + 2, True),
    "roberta": (P + 2, True),
    "xlm-roberta": (P + 2, True),
    "camembert": (P + 2, True),
    "megatron-bert": (P + 2, False),
    "distilbert": (P, True),
    "squeezebert": (P + 2, True),
    "mpnet": (P, True),
    "deberta": (0, True),
    "deberta-v2": (0, True),
    "modernbert": (0, True),
}


def counted(subject: Subject) -> Breakdown:
    return profiler.measure([subject], profiler.Options(time=False))[0]


def of(found: Breakdown, component: Component, metric: str = "parameters") -> int:
    return sum(getattr(cost, metric) for cost in found.of(component) if cost.unit is None)


# factor-embedding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FACTORED)
def test_words_alone(family: str, untouched: Any):
    model = untouched(drawn(family))
    plain = bertprof.profile(model, ids(), time=False)
    found = counted(applied(model, "factor-embedding=8"))
    # V·H scalars become V·E and E·H; each of the 2 × 20 tokens is projected, E·H MACs.
    assert found.total("parameters") - plain.total("parameters") == V * 8 + 8 * H - V * H
    assert found.total("macs") - plain.total("macs") == 2 * 20 * 8 * H
    moved = of(found, Component.EMBEDDING) - of(plain, Component.EMBEDDING)
    assert moved == V * 8 + 8 * H - V * H
    assert of(found, Component.EMBEDDING, "macs") == 2 * 20 * 8 * H
    assert of(found, Component.OTHER) == 0
    assert found.units == plain.units
    assert torch.isfinite(output(applied(model, "factor-embedding=8"))).all()


@pytest.mark.parametrize("family", FACTORED)
def test_a_table_of_low_rank_is_reproduced(family: str):
    model = drawn(family)
    table = model.get_input_embeddings()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        table.weight.copy_(torch.randn(V, 8, generator=generator) @ torch.randn(8, H, generator=generator))
        before = first(model(ids()))
    torch.testing.assert_close(output(applied(model, "factor-embedding=8")), before, rtol=1e-5, atol=1e-5)
    # It is not so of any narrower one.
    assert not torch.allclose(output(applied(model, "factor-embedding=7")), before, rtol=1e-2, atol=1e-2)


@given(st.integers(1, H), st.integers(0, 1000))
@settings(max_examples=20)
def test_the_product_is_the_nearest_of_its_rank(width: int, seed: int):
    """Eckart and Young 1936: what is left of the table has the singular values that were cut off."""
    model = tiny("bert", num_hidden_layers=1)
    table = model.embeddings.word_embeddings
    with torch.no_grad():
        table.weight.copy_(torch.randn(V, H, generator=torch.Generator().manual_seed(seed)))
    with applied(model, f"factor-embedding={width}").open() as opened, torch.inference_mode():
        product = opened.model.embeddings.word_embeddings(torch.arange(V))
    cut = torch.linalg.svdvals(table.weight.detach().double())[width:]
    left = torch.linalg.matrix_norm(table.weight.detach().double() - product.double())
    assert float(left) == pytest.approx(float(cut.square().sum().sqrt()), abs=1e-4)


@pytest.mark.parametrize("family", sorted(LAYOUT))
def test_as_albert(family: str, untouched: Any):
    beside, has_norm = LAYOUT[family]
    model = untouched(drawn(family))
    plain = bertprof.profile(model, ids(), time=False)
    subject = applied(model, "factor-embedding=8,layout=albert")
    found = counted(subject)
    before, after = (of(one, Component.EMBEDDING) for one in (plain, found))
    assert before == (V + beside) * H
    assert after == (V + beside) * 8 + 8 * H + H
    norms = [of(one, Component.ADD_NORM) for one in (plain, found)]
    of_norm = sum(p.numel() for p in plain_norm(model)) if has_norm else 0
    assert of_norm in (0, H, 2 * H)  # ModernBERT's has no bias
    assert norms[1] - norms[0] == of_norm * 8 // H - of_norm
    assert of(found, Component.EMBEDDING, "macs") == 2 * 20 * 8 * H
    assert found.total("macs") == plain.total("macs") + 2 * 20 * 8 * H
    hidden = output(subject)
    assert hidden.shape == (2, 20, H)
    assert torch.isfinite(hidden).all()
    # Norm, then projection, and the units see what comes out of it.
    with subject.open() as opened, torch.inference_mode():
        embeddings = opened.model.embeddings
        projection = next(m for m in embeddings.modules() if isinstance(m, nn.Linear))
        assert projection.weight.shape == (H, 8)
        normed: list[Tensor] = []
        projection.register_forward_pre_hook(lambda module, args: normed.append(args[0]))
        assert embeddings(ids()).shape == (2, 20, H)
        if has_norm:
            torch.testing.assert_close(normed[0].mean(-1), torch.zeros(2, 20), atol=1e-5, rtol=0)


def plain_norm(model: nn.Module) -> list[nn.Parameter]:
    return [p for name, p in model.embeddings.named_parameters() if "norm" in name.lower()]


def test_as_albert_positions_and_types_are_in_the_space_of_the_words():
    """With tables of rank E in one space, and no norm before it, the sum of all three is what it was."""
    model = drawn("megatron-bert")
    basis = torch.linalg.qr(torch.randn(H, 8, generator=torch.Generator().manual_seed(4)))[0]
    with torch.no_grad():
        for table in model.embeddings.children():
            if isinstance(table, nn.Embedding):
                table.weight.copy_(table.weight @ basis @ basis.T)
        before = first(model(ids()))
    after = output(applied(model, "factor-embedding=8,layout=albert"))
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FACTORISED)
def test_what_is_factorised_already(family: str):
    for layout in ("words", "albert"):
        with pytest.raises(
            UsageError, match=r"the embedding is factorised already: \S+ projects it from (16|48) to 32"
        ):
            applied(tiny(family), f"factor-embedding=8,layout={layout}")


@pytest.mark.parametrize(
    ("family", "recipe", "why"),
    [
        ("bert", "factor-embedding=33", "the table of words is 100 × 32; E is at most 32"),
        ("bert", "vocabulary=20+factor-embedding=21", "the table of words is 20 × 32; E is at most 20"),
        (
            "gpt2",
            "factor-embedding=8,layout=albert",
            "a gpt2 model has no embedding of tables, norm and dropout alone, as ALBERT; "
            "use layout=words, factor-embedding=8",
        ),
        (
            "xlnet",
            "factor-embedding=8,layout=albert",
            "a xlnet model has no embedding of tables, norm and dropout alone, as ALBERT; "
            "use layout=words, factor-embedding=8",
        ),
        ("bert", "vocabulary=101", "the model has 100 words, and keeps that many at most"),
        ("bert", "vocabulary=1", "the padding has id 0; keep at least 2 words"),
        ("roberta", "vocabulary=1", "the padding has id 1; keep at least 2 words"),
        ("xlnet", "vocabulary=5", "the padding has id 5; keep at least 6 words"),
    ],
)
def test_what_cannot_be(family: str, recipe: str, why: str):
    with pytest.raises(UsageError) as caught:
        applied(tiny(family), recipe)
    assert str(caught.value) == f"recipe {recipe.rpartition('+')[2]}: {why}"


def test_a_table_that_is_tied_to_a_head(folder: Callable[..., Path]):
    path = folder()
    with pytest.raises(BertprofError, match=r"tied to cls\.predictions\.decoder, an output head"):
        bertprof.breakdown(f"{path}+factor-embedding=8", sequence_length=8, task="masked-lm", time=False)
    # As it says, untied ones can be.
    (path / "config.json").write_text(json.dumps({"model_type": "bert", **TINY["bert"], "tie_word_embeddings": False}))
    plain, found = (
        bertprof.breakdown(f"{path}{recipe}", sequence_length=8, task="masked-lm", time=False)
        for recipe in ("", "+factor-embedding=8")
    )
    assert found.total("parameters") - plain.total("parameters") == V * 8 + 8 * H - V * H


class Own(nn.Module):
    """A student of somebody's own: tables as given, one attention and one FFN."""

    def __init__(self, tables: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            self.tables = nn.ModuleList(nn.Embedding(V, H) for _ in range(tables))
            self.layer = nn.TransformerEncoderLayer(H, 4, 64, batch_first=True)

    def forward(self, input_ids: Tensor) -> Tensor:
        out: Tensor = self.layer(sum(table(input_ids) for table in self.tables))
        return out


def test_a_model_of_no_family():
    model = Own(1).eval()
    subject = applied(model, "factor-embedding=8+vocabulary=50")
    assert sum(p.numel() for p in model.parameters()) - parameters(subject) == V * H - 50 * 8 - 8 * H
    assert output(subject).shape == (2, 20, H)
    assert of(counted(subject), Component.EMBEDDING) == 50 * 8 + 8 * H
    with pytest.raises(UsageError, match="of the model's 2 tables it cannot be told which is that of the words"):
        applied(Own(2).eval(), "factor-embedding=8")
    with pytest.raises(UsageError, match="a model of no known family has no embedding of tables"):
        applied(model, "factor-embedding=8,layout=albert")


# vocabulary -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_words_are_what_they_were(family: str, untouched: Any):
    model = untouched(drawn(family))
    few = ids(words=60)
    with torch.no_grad():
        before = first(model(few))
    subject = applied(model, "vocabulary=60", (few,))
    width = model.get_input_embeddings().embedding_dim
    assert sum(p.numel() for p in model.parameters()) - parameters(subject) == 40 * width
    torch.testing.assert_close(output(subject), before)
    with subject.open() as opened:
        assert opened.model.config.vocab_size == 60
        assert opened.model.get_input_embeddings().num_embeddings == 60
        assert torch.equal(opened.model.get_input_embeddings().weight, model.get_input_embeddings().weight[:60])


HEADS = [family for family in FAMILIES if family not in ("xlnet", "gpt2")]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("family", "task"), [(f, "masked-lm") for f in HEADS] + [("gpt2", "causal-lm")])
def test_an_output_head_goes_with_it(family: str, task: str, tied: bool):
    model = drawn(family, task=task, tie_word_embeddings=tied)
    few = ids(words=60)
    with torch.no_grad():
        before = first(model(few))
    subject = applied(model, "vocabulary=60", (few,))
    after = output(subject)
    assert before.shape[-1] == V
    torch.testing.assert_close(after, before[..., :60])
    with subject.open() as opened:
        table, head = opened.model.get_input_embeddings(), opened.model.get_output_embeddings()
        was_tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
        assert (table.weight is head.weight) == was_tied
        assert head.out_features == 60
    # A whole head is cut: what is left grows with the words alone.
    sizes = [
        parameters(applied(drawn(family, task=task, tie_word_embeddings=tied), f"vocabulary={words}", (ids(words=20),)))
        for words in (20, 40, 60)
    ]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 0
    at_all_words = sizes[2] + 2 * (sizes[2] - sizes[1])
    assert at_all_words == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet", "gpt2", "xlnet"])
def test_padding_stays_padding(family: str, folder: Callable[..., Path]):
    """RoBERTa counts positions from behind the padding: its ids must be where they were, and nowhere else."""
    from bertprof.compress.application import apply
    from bertprof.compress.recipe import parse_all
    from bertprof.configuration import resolve
    from bertprof.measure import subject as subjects

    request = subjects.Request(2, 12, "float32", "sdpa", None, torch.device("cpu"), None, padding=0.5)
    plain = subjects.from_configuration(resolve(str(folder(family))), {}, request)
    subject = apply(plain, parse_all(["vocabulary=9"]))
    before, after = (one.twin_inputs.kwargs["input_ids"] for one in (plain, subject))
    with subject.open() as opened:
        padding = opened.model.config.pad_token_id
        padding = 0 if padding is None else padding
        assert torch.equal(opened.inputs.kwargs["input_ids"], after)
    assert torch.equal(before == padding, after == padding)
    assert (after[:, 6:] == padding).all()
    assert after.max() < 9 <= before.max()
    assert torch.equal(after[before < 9], before[before < 9])
    assert torch.isfinite(output(subject)).all()
    assert subject.workload.padding == 0.5


def test_the_row_of_the_padding_stays_that_of_the_padding():
    for recipe in ("vocabulary=10", "factor-embedding=8", "factor-embedding=8,layout=albert"):
        model = drawn("bert")
        with torch.no_grad():
            model.embeddings.word_embeddings.weight[0] = 0
        with applied(model, recipe).open() as opened:
            (table,) = [
                module
                for name, module in opened.model.named_modules()
                if isinstance(module, nn.Embedding) and "word" in name
            ]
            assert table.padding_idx == 0
            assert not table.weight[0].any()


def test_ids_of_ones_own_are_replaced_and_that_is_said():
    model = drawn("bert")
    inputs = {"input_ids": ids(), "position_ids": torch.arange(20, 40).expand(2, 20)}
    subject = applied(model, "vocabulary=10", inputs)
    assert [caveat.code for caveat in subject.caveats] == ["ids-replaced"]
    assert torch.equal(subject.twin_inputs.kwargs["position_ids"], inputs["position_ids"])
    assert torch.equal(inputs["input_ids"], ids())  # the user's own
    assert torch.isfinite(output(subject)).all()
    assert applied(model, "vocabulary=100", inputs).caveats == []


def test_inputs_without_ids():
    model = drawn("bert")
    embedded = Inputs(kwargs={"inputs_embeds": torch.randn(1, 5, H, generator=torch.Generator().manual_seed(5))})
    with torch.no_grad():
        before = first(model(**embedded.kwargs))
    torch.testing.assert_close(output(applied(model, "vocabulary=10", embedded)), before)


# Together -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipes", ["vocabulary=60+factor-embedding=8", "factor-embedding=8+vocabulary=60"])
@pytest.mark.parametrize("layout", ["words", "albert"])
def test_in_either_order(recipes: str, layout: str):
    subject = applied(drawn("bert"), recipes.replace("=8", f"=8,layout={layout}"), (ids(words=60),))
    rest = sum(p.numel() for p in drawn("bert").parameters()) - (V + P + 2) * H - 2 * H
    kept = {"words": 60 * 8 + 8 * H + (P + 2) * H + 2 * H, "albert": (60 + P + 2) * 8 + 2 * 8 + 8 * H + H}
    assert parameters(subject) == rest + kept[layout]
    assert torch.isfinite(output(subject)).all()


ALBERT = "vocabulary=30000+factor-embedding=128,layout=albert+share-units"


def test_all_of_albert():
    """BERT-base, compressed as ALBERT is, has the parameters and the work of ALBERT-base in every component."""
    found, albert = (bertprof.breakdown(name, time=False) for name in (f"bert-base-uncased+{ALBERT}", "albert-base-v2"))
    tables = (30_000 + 512 + 2) * 128  # words, positions, types: 3,905,792
    norm, projection = 2 * 128, 128 * 768 + 768  # 256 and 99,072
    attention, ffn, norms = 4 * (768 * 768 + 768), 768 * 3072 + 3072 + 3072 * 768 + 768, 2 * 2 * 768
    pooler = 768 * 768 + 768
    total = tables + norm + projection + attention + ffn + norms + pooler
    assert total == 3_905_792 + 256 + 99_072 + 2_362_368 + 4_722_432 + 3_072 + 590_592 == 11_683_584
    assert found.total("parameters") == albert.total("parameters") == total
    assert of(found, Component.EMBEDDING) == tables + projection
    assert of(found, Component.ADD_NORM) == norm + norms
    for component in Component:
        for metric in ("parameters", "parameter_bytes", "macs"):
            assert sum(getattr(c, metric) for c in found.of(component)) == sum(
                getattr(c, metric) for c in albert.of(component)
            ), component
    assert found.workload.recipes == ALBERT.split("+")


@pytest.mark.slow
def test_all_of_albert_runs():
    found = bertprof.breakdown(f"bert-base-uncased+{ALBERT}", min_time_s=0, sequence_length=16)
    assert found.units == 12
    assert all(sum(cost.time_ms or []) > 0 for cost in found.of(Component.FFN) if cost.unit is not None)
