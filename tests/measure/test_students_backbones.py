"""Students with another backbone: parameters and MACs against closed forms and other counters, outputs by hand."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import bertprof
from bertprof import Component, catalog, configuration
from bertprof.errors import ConfigurationError, UsageError
from bertprof.measure import build
from bertprof.measure.anatomy import FAMILIES, bases_of, regions_of
from bertprof.measure.parameters import count_parameters
from bertprof.record import Breakdown
from conftest import codes_of

C = Component
WORDS = 30_522
BERT_BASE, BERT_BASE_TABLES = 109_482_240, 23_835_648 + 1_536  # with the embedding's norm, as the papers count


def lstm(inputs: int, hidden: int) -> int:
    """Parameters: two directions of four gates, each of two matrices and two biases."""
    return 2 * (4 * hidden * (inputs + hidden) + 2 * 4 * hidden)


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + outputs * bias


def conv(window: int, width: int, outputs: int) -> int:
    return window * width * outputs + outputs


def tang(hidden: int, states: int, classes: int) -> dict[C, int]:
    return {
        C.EMBEDDING: 2 * WORDS * 300,
        C.RECURRENT: lstm(600, hidden),
        C.HEAD: linear(states * hidden, 200) + linear(200, classes),
    }


CELL = conv(7, 128, 128) * 3 + conv(5, 128, 128) * 2 + 6 * 2 * 128 + 3  # six batch norms, three weights of nodes
PARAMETERS: dict[str, dict[C, int]] = {
    "tang-bilstm": tang(150, 2, 2),
    "tang-bilstm-mnli": tang(150, 8, 3),
    "tang-bilstm-qqp": tang(300, 8, 2),
    "liu-bilstm": {
        C.EMBEDDING: WORDS * 768,
        C.RECURRENT: lstm(768, 300),
        C.ATTENTION_LINEAR_IN: linear(600, 600),
        C.SOFTMAX_ATTENTION: 600,
        C.HEAD: linear(600, 3),
    },
    "chia-cnn": {
        C.EMBEDDING: WORDS * 82,
        C.CONVOLUTION: conv(5, 82, 100) + 7 * conv(5, 100, 100),
        C.HEAD: linear(8 * 100, 100) + linear(100, 2),
    },
    "adabert": {
        C.EMBEDDING: (WORDS + 512) * 128,
        C.ADD_NORM: 2 * 128,
        C.CONVOLUTION: 8 * CELL,
        C.HEAD: 9 + linear(128, 2),  # a weight for the embedding and one for each cell
    },
}
STUDENTS = tuple(PARAMETERS)


def tang_macs(hidden: int, states: int, classes: int, batch: int, tokens: int) -> dict[C, int]:
    """Every weight of the LSTM once a token, those of the head once a sequence; a pair has no token twice."""
    return {
        C.RECURRENT: batch * tokens * 2 * 4 * hidden * (600 + hidden),
        C.HEAD: batch * (states * hidden * 200 + 200 * classes),
    }


def macs_of(name: str, batch: int, tokens: int) -> dict[C, int]:
    t = batch * tokens
    return {
        "tang-bilstm": tang_macs(150, 2, 2, batch, tokens),
        "tang-bilstm-mnli": tang_macs(150, 8, 3, batch, tokens),
        "tang-bilstm-qqp": tang_macs(300, 8, 2, batch, tokens),
        "liu-bilstm": {
            C.RECURRENT: t * 2 * 4 * 300 * (768 + 300),
            C.ATTENTION_LINEAR_IN: t * 600 * 600,
            C.SOFTMAX_ATTENTION: t * 600 + t * 600,  # scores, weighted sum
            C.HEAD: batch * 600 * 3,
        },
        "chia-cnn": {
            C.CONVOLUTION: t * 5 * (82 + 7 * 100) * 100,
            C.HEAD: batch * (800 * 100 + 100 * 2),
        },
        "adabert": {C.CONVOLUTION: 8 * t * (7 + 5 + 7 + 5 + 7) * 128 * 128, C.HEAD: batch * 128 * 2},
    }[name]


def sums(found: Breakdown, metric: str) -> dict[C, int]:
    """Component → sum, of those that have some."""
    totals: dict[C, int] = {}
    for cost in found.costs:
        totals[cost.component] = totals.get(cost.component, 0) + getattr(cost, metric)
    return {component: total for component, total in totals.items() if total}


def config_of(name: str, **overrides: Any) -> Any:
    texts = {
        key: value if isinstance(value, str) else repr(value).replace("'", '"') for key, value in overrides.items()
    }
    return build.checked_config(configuration.resolve(name), texts)


def model_of(name: str, dtype: torch.dtype = torch.float32, **overrides: Any) -> nn.Module:
    """With random weights."""
    return build.with_random_weights(config_of(name, **overrides), None, "sdpa", dtype)


SMALL: dict[str, dict[str, Any]] = {
    "tang-bilstm": {"embedding_size": 6, "hidden_size": 5, "intermediate_size": 4},
    "tang-bilstm-mnli": {"embedding_size": 6, "hidden_size": 5, "intermediate_size": 4},
    "liu-bilstm": {"embedding_size": 6, "hidden_size": 5},
    "chia-cnn": {"embedding_size": 6, "hidden_size": 5, "num_hidden_layers": 3, "intermediate_size": 4},
    "adabert": {"hidden_size": 8, "num_hidden_layers": 3, "max_position_embeddings": 40},
}


def small(name: str, dtype: torch.dtype = torch.float64, **overrides: Any) -> Any:
    """A narrow one, with weights large enough to tell outputs apart."""
    model = model_of(name, dtype, **{"vocab_size": 50, **SMALL[name], **overrides})
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data.copy_(0.4 * drawn)
    return model


def ids(batch: int, tokens: int, words: int = 50) -> Tensor:
    return torch.randint(1, words, (batch, tokens), generator=torch.Generator().manual_seed(2))


# Parameters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STUDENTS)
def test_parameters_by_closed_form(name: str):
    found = bertprof.breakdown(name, time=False)
    assert sums(found, "parameters") == PARAMETERS[name]
    assert sums(found, "parameter_bytes") == {component: 4 * n for component, n in PARAMETERS[name].items()}
    twin = build.on_meta(config_of(name), None, "sdpa", torch.float32)
    unique = sum(parameter.numel() for parameter in twin.parameters())
    entry = catalog.find(name)
    assert entry is not None
    assert unique == found.total("parameters") == entry.parameters
    assert sum(s.parameters for s in count_parameters(twin, regions_of(twin), {}).values()) == unique


@pytest.mark.parametrize(
    ("name", "published"), [("tang-bilstm", 963_002), ("tang-bilstm-mnli", 1_143_203), ("tang-bilstm-qqp", 2_645_402)]
)
def test_tang_without_word_vectors(name: str, published: int):
    """Tang et al. 2019b: 0.96M for SST-2; with one table of 30,522 words, the 10.1M of later tables."""
    found = sums(bertprof.breakdown(name, time=False), "parameters")
    assert found[C.RECURRENT] + found[C.HEAD] == published
    assert found[C.EMBEDDING] == 2 * WORDS * 300
    if name == "tang-bilstm":
        assert found[C.EMBEDDING] // 2 + published == 10_119_602


def test_sizes_that_papers_print():
    mebibyte = 2**20
    liu = sums(bertprof.breakdown("liu-bilstm", time=False), "parameters")
    body = sum(liu.values()) - liu[C.EMBEDDING]
    assert (round(4 * body / mebibyte), round(4 * liu[C.EMBEDDING] / mebibyte)) == (11, 89)
    assert 100 < 4 * sum(liu.values()) / mebibyte < 101
    assert round(100 * sum(liu.values()) / BERT_BASE, 1) == 24.1
    chia = bertprof.breakdown("chia-cnn", time=False).total("parameters")
    assert chia is not None
    assert round(116_534_784 / chia) == 39  # GPT: 40,478 words, 512 positions, 12 units of 768
    ada = sums(bertprof.breakdown("adabert", time=False), "parameters")
    whole = sum(ada.values())
    assert round(100 * whole / BERT_BASE, 1) == 7.4
    assert round(100 * (whole - ada[C.EMBEDDING]) / (BERT_BASE - BERT_BASE_TABLES), 1) == 4.8
    edges = [[start, node, "conv7"] for node in (2, 3, 4) for start in (0, 1)]
    largest = bertprof.breakdown("adabert", overrides={"edges": repr(edges).replace("'", '"')}, time=False)
    # 8 cells of six convolutions with batch norms: the largest that Chen et al. 2020 print is 9.5M
    per_cell = 6 * (conv(7, 128, 128) + 2 * 128) + 3
    assert largest.total("parameters") == 8 * per_cell + (WORDS + 512 + 2) * 128 + 9 + 258 == 9_496_355


@pytest.mark.parametrize("task", [None, "sequence-classification"])
def test_the_classifier_is_part_of_the_student(task: str | None):
    found = bertprof.breakdown("tang-bilstm", task=task, overrides={"num_labels": "5"}, time=False)
    assert sums(found, "parameters")[C.HEAD] == linear(300, 200) + linear(200, 5)
    (caveat,) = found.caveats
    assert caveat.code == "student-choices"
    assert "with its classifier" in caveat.text
    assert caveat.text.endswith("static and tuned; here with num_labels=5")


@pytest.mark.parametrize("name", STUDENTS)
def test_what_is_our_choice_stands_in_the_record(name: str):
    found = bertprof.breakdown(name, time=False)
    (caveat,) = found.caveats  # neither counted by dispatch alone nor uncounted
    assert caveat.code == "student-choices"
    assert "our choice" in caveat.text
    assert "arXiv" in caveat.text


def test_another_task_has_no_such_student():
    with pytest.raises(UsageError, match="--task masked-lm: transformers has no such head for tang-bilstm"):
        bertprof.breakdown("tang-bilstm", task="masked-lm", time=False)


# MACs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "tokens"), [(1, 128), (3, 17)])
@pytest.mark.parametrize("name", STUDENTS)
def test_macs_by_closed_form(name: str, batch: int, tokens: int):
    found = bertprof.breakdown(name, batch_size=batch, sequence_length=tokens, time=False)
    assert sums(found, "macs") == macs_of(name, batch, tokens)
    assert sums(found, "useful_macs") == macs_of(name, batch, tokens)


@pytest.mark.parametrize("name", STUDENTS)
def test_macs_by_torchs_counter(name: str):
    """In float64 no fused kernel takes an LSTM on a CPU: torch dispatches its products, which its counter counts."""
    model = model_of(name, torch.float64, vocab_size=50)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(ids(2, 11))
    found = bertprof.breakdown(name, batch_size=2, sequence_length=11, time=False)
    assert counter.get_total_flops() == 2 * (found.total("macs") or 0)


def test_an_lstm_counts_as_the_loop_over_its_cells():
    student = small("liu-bilstm")
    layer, x = student.backbone.lstm, torch.randn(2, 7, 6, dtype=torch.float64, generator=torch.Generator())
    cells = []
    for suffix in ("", "_reverse"):
        with torch.random.fork_rng():
            cell = nn.LSTMCell(6, 5).double()
        weights = [f"{kind}_{side}" for kind in ("weight", "bias") for side in ("ih", "hh")]
        cell.load_state_dict({name: getattr(layer, f"{name}_l0{suffix}") for name in weights})
        cells.append(cell)
    outputs: list[list[Tensor]] = [[], []]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for direction, cell in enumerate(cells):
            h = c = torch.zeros(2, 5, dtype=torch.float64)
            for step in range(7) if direction == 0 else reversed(range(7)):
                h, c = cell(x[:, step], (h, c))
                outputs[direction].append(h)
    by_hand = torch.cat((torch.stack(outputs[0], 1), torch.stack(outputs[1][::-1], 1)), -1)
    torch.testing.assert_close(student.backbone(x, None)[0], by_hand)
    torch.testing.assert_close(student.backbone(x, None)[1], torch.cat((outputs[0][-1], outputs[1][-1]), -1))
    overrides = {key: str(value) for key, value in SMALL["liu-bilstm"].items()}
    found = bertprof.breakdown("liu-bilstm", overrides=overrides, batch_size=2, sequence_length=7, time=False)
    assert 2 * sums(found, "macs")[C.RECURRENT] == counter.get_total_flops() == 2 * 2 * 7 * 2 * 4 * 5 * (6 + 5)


@pytest.mark.parametrize(("operation", "dilation"), [("conv5", 1), ("dilated-conv5", 2)])
def test_a_convolution_counts_as_the_product_of_its_windows(operation: str, dilation: int):
    edges = [[0, 2, operation], [0, 3, "identity"], [0, 4, "identity"]]
    student = small("adabert", edges=edges)
    edge = student.cells[0].edges[0]
    convolution, x = edge[1], torch.randn(2, 8, 13, dtype=torch.float64, generator=torch.Generator())
    reach = 2 * dilation
    padded = functional.pad(torch.relu(x), (reach, reach))
    windows = torch.stack([padded[:, :, t : t + 2 * reach + 1 : dilation] for t in range(13)])  # token, sequence, ...
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        product = windows.flatten(2).flatten(0, 1) @ convolution.weight.flatten(1).T
    by_hand = product.view(13, 2, 8).permute(1, 2, 0) + convolution.bias[:, None]
    torch.testing.assert_close(convolution(torch.relu(x)), by_hand)
    overrides = {**{k: str(v) for k, v in SMALL["adabert"].items()}, "edges": repr(edges).replace("'", '"')}
    found = bertprof.breakdown("adabert", overrides=overrides, batch_size=2, sequence_length=13, time=False)
    assert 2 * sums(found, "macs")[C.CONVOLUTION] == 3 * counter.get_total_flops()


@pytest.mark.parametrize("operation", ["max-pool", "average-pool", "identity", "zero"])
def test_operations_without_products(operation: str):
    """FLOPs: ReLU 1, a window of 3, batch norm 2 an element; then a sum, and the mean of the nodes, 3 products and 2
    sums of the elements and softmax 5 of 3 numbers."""
    edges = [[0, 2, operation], [0, 3, "identity"], [0, 4, "identity"]]
    overrides = {**{k: str(v) for k, v in SMALL["adabert"].items()}, "edges": repr(edges).replace("'", '"')}
    found = bertprof.breakdown("adabert", overrides=overrides, sequence_length=13, time=False)
    assert C.CONVOLUTION not in sums(found, "macs")
    of_operation = 1 + 3 + 2 if "pool" in operation else 0
    assert sums(found, "flops")[C.CONVOLUTION] == 3 * (8 * 13 * (of_operation + 3 + 2) + 3 * 5)
    model = small("adabert", edges=edges)
    x = torch.randn(1, 8, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    cell = model.cells[0]
    weights = cell.node_shares.softmax(0)
    first = cell.edges[0]
    if operation == "identity":
        expected = x
    elif operation == "zero":
        expected = torch.zeros_like(x)
    else:
        padding = -torch.inf if operation == "max-pool" else torch.nan  # what is beyond the ends is no part of a mean
        window = functional.pad(torch.relu(x), (1, 1), value=padding).unfold(-1, 3, 1)
        pooled = window.amax(-1) if operation == "max-pool" else window.nanmean(-1)
        norm = first[2]
        expected = pooled / (1 + norm.eps) ** 0.5 * norm.weight[:, None] + norm.bias[:, None]
    torch.testing.assert_close(cell(x, x), weights[0] * expected + (weights[1] + weights[2]) * x)


# Running --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STUDENTS)
def test_students_run_on_token_ids_and_their_parts_sum_to_the_whole(name: str):
    found = bertprof.breakdown(name, batch_size=2, sequence_length=16, min_time_s=0)
    assert codes_of(found) == ["student-choices"] or codes_of(found) == ["student-choices", "unsteady-time"]
    timed = {cost.component for cost in found.costs if sum(cost.time_ms or []) > 0}
    assert timed >= {*macs_of(name, 2, 16), C.EMBEDDING}
    assert timed <= {*PARAMETERS[name], C.OTHER}
    whole = sum(found.instrumented_ms or [])
    assert sum(sum(cost.time_ms or []) for cost in found.costs) == pytest.approx(whole, rel=1e-3, abs=0.01)
    assert all(sample > 0 for sample in found.end_to_end_ms or [])
    assert sums(found, "macs") == macs_of(name, 2, 16)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize("name", STUDENTS)
def test_students_run_padded_in_any_dtype(name: str, dtype: str):
    found = bertprof.breakdown(name, batch_size=2, sequence_length=16, padding=0.5, dtype=dtype, min_time_s=0)
    recurrent = "bilstm" in name  # the LSTM sees 8 tokens; convolutions see all 16
    assert sums(found, "macs") == macs_of(name, 2, 8 if recurrent else 16)
    assert sums(found, "useful_macs") == macs_of(name, 2, 8)
    assert found.workload.mask == "2d"
    assert found.workload.padding == 0.5


@pytest.mark.parametrize("name", ["tang-bilstm", "liu-bilstm"])
def test_an_lstm_sees_no_padding(name: str):
    """Of sequences of several lengths, in a batch: each as if it were alone."""
    model, tokens = small(name), ids(4, 9)
    lengths = (9, 4, 1, 6)
    mask = torch.tensor([[int(place < length) for place in range(9)] for length in lengths])
    with torch.no_grad():
        together = model(tokens, attention_mask=mask).logits
        for row, length in enumerate(lengths):
            alone = model(tokens[row : row + 1, :length]).logits
            torch.testing.assert_close(together[row : row + 1], alone)
        torch.testing.assert_close(model(tokens[:2], attention_mask=mask[1].expand(2, -1)).logits[1], together[1])


@settings(max_examples=20)
@given(st.integers(1, 12), st.integers(0, 5))
def test_a_pair_is_the_halves_of_its_sequence(tokens: int, padded: int):
    """[s1, s2, |s1 − s2|, s1 · s2], the first half the longer one; padding behind it changes nothing."""
    model, sequence = small("tang-bilstm-mnli"), ids(2, tokens + padded)
    middle = (tokens + 1) // 2
    with torch.no_grad():
        first = model.backbone(model.embeddings(sequence[:, :middle]), None)[1]
        second = model.backbone(model.embeddings(sequence[:, middle:tokens] if tokens > 1 else sequence[:, :1]), None)[
            1
        ]
        states = torch.cat((first, second, (first - second).abs(), first * second), dim=1)
        expected = model.head.classifier(torch.relu(model.head.dense(states)))
        mask = torch.ones(2, tokens + padded, dtype=torch.long)
        mask[:, tokens:] = 0
        torch.testing.assert_close(model(sequence[:, :tokens]).logits, expected)
        torch.testing.assert_close(model(sequence, attention_mask=mask).logits, expected)


def test_the_attention_of_liu_by_hand():
    model, tokens = small("liu-bilstm"), ids(1, 6)
    with torch.no_grad():
        states = model.backbone(model.embeddings(tokens), None)[0][0]
        scores = [float(model.attention.score(torch.tanh(model.attention.projection(state)))) for state in states]
        weights = torch.tensor(scores, dtype=torch.float64).exp()
        pooled = sum(weight * state for weight, state in zip(weights / weights.sum(), states, strict=True))
        torch.testing.assert_close(model(tokens).logits[0], model.classifier(pooled))


def test_the_maxima_of_chia_by_hand():
    model, tokens = small("chia-cnn"), ids(2, 6)
    with torch.no_grad():
        x, pooled = model.embeddings.words(tokens).transpose(1, 2), []
        for convolution in model.backbone.convolutions:
            x = functional.conv1d(x, convolution.weight, convolution.bias, padding=2).clamp(min=0)
            pooled.append(x.max(dim=2).values)
        hidden = model.head.dense(torch.cat(pooled, 1)).clamp(min=0)
        torch.testing.assert_close(model(tokens).logits, model.head.classifier(hidden))


def test_the_cells_of_adabert_are_fed_by_the_two_before_them():
    model, tokens = small("adabert"), ids(2, 6)
    with torch.no_grad():
        embedded = model.embeddings(tokens, None)
        one = model.cells[0](embedded, embedded)
        two = model.cells[1](embedded, one)
        three = model.cells[2](one, two)
        shares = torch.stack([model.head.share[0], *(cell.share[0] for cell in model.cells)]).softmax(0)
        means = torch.stack([output.mean(-1) for output in (embedded, one, two, three)])
        blended = torch.einsum("n,nbc->bc", shares, means)
        torch.testing.assert_close(model(tokens).logits, model.head.classifier(torch.tanh(blended)))


def test_every_family_of_students_is_tested():
    families = {entry.family for entry in map(catalog.find, STUDENTS) if entry is not None}
    assert families == {family for family in FAMILIES if family.startswith("bertprof-")}


# Anatomy --------------------------------------------------------------------------------------------------------------


def test_cells_are_units_and_their_batch_norms_convolution():
    found = bertprof.breakdown("adabert", time=False)
    assert found.units == 8
    assert {(cost.unit, cost.component) for cost in found.costs if cost.unit is not None and cost.macs} == {
        (unit, Component.CONVOLUTION) for unit in range(8)
    }
    twin = build.on_meta(config_of("adabert"), None, "sdpa", torch.float32)
    regions = regions_of(twin)
    norms = {
        type(module).__name__: regions[path].component
        for path, module in twin.named_modules()
        if "Norm" in str(type(module))
    }
    assert norms == {"BatchNorm1d": C.CONVOLUTION, "LayerNorm": C.ADD_NORM}


@pytest.mark.parametrize("name", ["tang-bilstm", "liu-bilstm", "chia-cnn"])
def test_a_backbone_without_units(name: str):
    found = bertprof.breakdown(name, time=False)
    assert found.units == 0
    assert {cost.unit for cost in found.costs} == {None}
    twin = build.on_meta(config_of(name), None, "sdpa", torch.float32)
    assert [base.path for base in bases_of(twin)] == [""]
    assert [base.path for base in bases_of(nn.Sequential(twin))] == ["0"]
    assert bases_of(_Wrapper(twin.config)) == []


class _Wrapper(nn.Module):
    """Hands out a student's configuration, but is none."""

    base_model_prefix = ""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.other = nn.Linear(2, 2, device="meta")


# What cannot be built -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edges", "why"),
    [
        ([[0, 2, "conv9"]], "edge [0, 2, 'conv9'] is not [from, to, operation]"),
        ([[2, 2, "conv3"]], "edge [2, 2, 'conv3'] is not [from, to, operation], from < to"),
        ([[0, 5, "conv3"]], "to 2, 3 or 4"),
        ([[0, 2.0, "conv3"]], "is not [from, to, operation]"),
        ([[0, 2, ["conv3"]]], "is not [from, to, operation]"),
        ([1], "edge 1 is not [from, to, operation]"),
        ([[0, 2, "conv3"], [0, 2, "conv5"]], "there are two edges from node 0 to node 2"),
        ([[0, 2, "conv3"], [0, 4, "conv5"]], "no edge leads to node 3"),
    ],
)
def test_edges_that_make_no_cell(edges: list[Any], why: str):
    with pytest.raises(ConfigurationError, match="no model can be built from the configuration of adabert") as caught:
        bertprof.breakdown("adabert", overrides={"edges": repr(edges).replace("'", '"')}, time=False)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_that_make_no_student():
    with pytest.raises(ConfigurationError, match="kernel_size is 0; it must be at least 1"):
        bertprof.breakdown("chia-cnn", overrides={"kernel_size": "0"}, time=False)
    with pytest.raises(ConfigurationError, match="hidden_size is 0; it must be a whole number of at least 1"):
        bertprof.breakdown("liu-bilstm", overrides={"hidden_size": "0"}, time=False)
    with pytest.raises(UsageError, match="--seq-length 513 is beyond the model's 512 positions"):
        bertprof.breakdown("adabert", sequence_length=513, time=False)
    assert bertprof.breakdown("tang-bilstm", sequence_length=513, time=False).total("macs")


def test_a_folder_with_weights(tmp_path: Any):
    model = small("tang-bilstm", torch.float32)
    model.save_pretrained(tmp_path)
    found = bertprof.breakdown(str(tmp_path), sequence_length=8, min_time_s=0)
    assert found.workload.weights == "checkpoint"
    assert found.total("parameters") == sum(p.numel() for p in model.parameters())
