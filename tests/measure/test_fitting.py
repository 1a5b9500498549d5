"""What fits into a limit: against closed forms, and against following the batch itself."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

import bertprof
from bertprof.measure import fitting, live, training
from bertprof.measure.fitting import at_batch, fits
from bertprof.measure.inputs import Inputs
from bertprof.measure.memory import lifeline
from bertprof.measure.parameters import Storage
from bertprof.measure.sparse import CountedLinear
from bertprof.measure.subject import Subject
from bertprof.measure.training import saved_bytes
from bertprof.observations import Fit
from conftest import FAMILIES, tiny, tiny_twin


@pytest.fixture(autouse=True)
def as_random_as_before() -> Iterator[None]:
    with torch.random.fork_rng():
        yield


def ids(batch: int = 2, tokens: int = 20) -> Tensor:
    return torch.randint(3, 90, (batch, tokens), generator=torch.Generator().manual_seed(0))


def subject_of(model: nn.Module, *args: Tensor, **kwargs: Tensor) -> Subject:
    return live.from_module(model.eval(), Inputs(args, kwargs))


def batches(rows: list[Fit], mode: str = "inference") -> list[int]:
    return [row.batch_size for row in rows if row.mode == mode]


# Inference ------------------------------------------------------------------------------------------------------------


MLP_BYTES = 4 * (4 * 8 + 8 + 8 * 2 + 2)
EACH = 4 * (4 + 8 + 8)
"""Bytes a row: the input, and the hidden layer before and behind the ReLU."""


def mlp(rows: int = 1) -> Subject:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    return subject_of(model, torch.zeros(rows, 4))


def test_the_largest_batch_is_exact():
    limit = MLP_BYTES + 1000 * EACH
    rows, caveats = fits(mlp(), MLP_BYTES, limit, training=False)
    assert not caveats
    assert batches(rows) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
    assert [row.activation_bytes for row in rows] == [row.batch_size * EACH for row in rows]
    assert all(row.fits and row.parameter_bytes == MLP_BYTES for row in rows)
    assert rows[-1].total_bytes == limit
    assert {row.gradient_bytes for row in rows} == {row.optimizer_bytes for row in rows} == {None}
    fewer, _ = fits(mlp(), MLP_BYTES, limit - 1, training=False)
    assert batches(fewer)[-1] == 999


def test_one_sequence_is_told_of_also_where_it_does_not_fit():
    rows, _ = fits(mlp(), MLP_BYTES, MLP_BYTES + EACH - 1, training=False)
    assert [(row.batch_size, row.fits) for row in rows] == [(1, False)]


def test_the_given_batch_is_told_of_as_well():
    rows, _ = fits(mlp(7), MLP_BYTES, MLP_BYTES + 3 * EACH, training=False)
    assert [(row.batch_size, row.fits) for row in rows] == [(1, True), (2, True), (3, True), (7, False)]


@pytest.mark.parametrize("sequences", [1, 3, 1000, 123_456, 10**9])
def test_rows_are_a_dozen_at_most(sequences: int):
    rows, _ = fits(mlp(), MLP_BYTES, MLP_BYTES + sequences * EACH, training=False)
    assert len(rows) <= 12
    assert batches(rows)[0] == 1
    assert batches(rows)[-1] == sequences
    assert batches(rows) == sorted(set(batches(rows)))


@given(st.integers(0, 10**9))
def test_what_fits_fits_and_one_more_does_not(limit: int):
    def bytes_of(sequences: int) -> int:
        return 37 + 3 * sequences + sequences**2 // 1000

    largest = fitting._largest(lambda sequences: bytes_of(sequences) <= limit)
    assert largest == 0 or bytes_of(largest) <= limit
    assert bytes_of(largest + 1) > limit


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_needs_at_any_batch_what_following_that_batch_says(family: str, attention: str):
    twin = tiny_twin(family, attention)
    given = Inputs(kwargs={"input_ids": ids()}).for_twin()

    def alive(sequences: int) -> list[int]:
        return lifeline(twin, at_batch(given, 2, sequences))

    def saved(sequences: int) -> list[int]:
        return [saved_bytes(twin, at_batch(given, 2, sequences))]

    for followed in (alive, saved):
        calls: list[int] = []

        def counted(
            sequences: int, followed: Callable[[int], list[int]] = followed, calls: list[int] = calls
        ) -> list[int]:
            calls.append(sequences)
            return followed(sequences)

        most = fitting._Most(counted)
        assert most(1) == max(followed(1))
        assert most(61) == max(followed(61))
        assert max(calls) <= 8  # lines, and not that batch, told it


def test_what_grows_by_no_line_is_followed_batch_by_batch():
    class Gram(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.t()) * self.scale

    def needed(rows: int) -> int:  # x of 4 numbers a row, and two tables of all rows by all
        return 4 * (4 * rows + 2 * rows**2)

    rows, caveats = fits(subject_of(Gram(), torch.zeros(3, 4)), 4, 4 + needed(50) + 17, training=False)
    assert not caveats
    assert batches(rows) == [1, 2, 3, 4, 8, 16, 32, 50]
    assert [row.activation_bytes for row in rows] == [needed(row.batch_size) for row in rows]


def test_inputs_that_cannot_be_scaled_leave_the_given_batch_alone():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x).view(3, 2, 2)

    rows, caveats = fits(subject_of(Fixed(), torch.zeros(3, 4)), 80, 10**6, training=True)
    assert [(row.mode, row.batch_size) for row in rows] == [("inference", 3), ("training", 3)]
    assert [caveat.code for caveat in caveats] == ["fits-one-batch"]
    # Sequences first in shape, choices behind: 2 × 3 sequences are no dimension of these inputs.
    choices = live.from_module(tiny("bert"), {"input_ids": ids(6)})
    asked = dataclasses.replace(choices, twin_inputs=Inputs(kwargs={"input_ids": ids(3)}))
    rows, caveats = fits(asked, 80, 10**9, training=False)
    assert batches(rows) == [6]
    assert [caveat.code for caveat in caveats] == ["fits-one-batch"]


def test_only_inputs_with_as_many_rows_are_scaled():
    inputs = Inputs((torch.arange(6).view(3, 2),), {"mask": torch.zeros(1, 1, 2, 2), "scale": torch.tensor(2.0)})
    scaled = at_batch(inputs, 3, 5)
    assert scaled.args[0].tolist() == [[0, 1]] * 5
    assert scaled.args[0].is_contiguous()
    assert scaled.kwargs["mask"].shape == (1, 1, 2, 2)
    assert scaled.kwargs["scale"].ndim == 0
    with pytest.raises(ValueError, match="no input has 4 rows"):
        at_batch(inputs, 4, 5)


def test_where_it_cannot_be_followed_nothing_is_claimed():
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x) * float(x.sum())

    subject = subject_of(Stubborn(), torch.zeros(1, 4))
    for asked in (subject, dataclasses.replace(subject, twin=None)):
        rows, caveats = fits(asked, 80, 10**6, training=False)
        assert not rows
        (caveat,) = caveats
        assert caveat.code == "fits-unknown"
        assert caveat.text.startswith("which batch sizes fit is not known: ")


# Training -------------------------------------------------------------------------------------------------------------


def test_states_take_16_bytes_a_parameter_each_once():
    model = tiny("gpt2", task="causal-lm")  # whose head is tied to its table
    count = sum(parameter.numel() for parameter in model.parameters())
    rows, _ = fits(subject_of(model, input_ids=ids(1)), 4 * count, 10**9, training=True)
    trained = [row for row in rows if row.mode == "training"]
    assert {(row.parameter_bytes, row.gradient_bytes, row.optimizer_bytes) for row in trained} == {
        (2 * count, 2 * count, 12 * count)
    }
    assert trained[-1].total_bytes <= 10**9
    assert trained[-1].total_bytes + trained[0].activation_bytes > 10**9


def test_two_linears_save_their_inputs():
    twin = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.1), nn.Linear(8, 2)).to("meta")
    # Of each of 3 rows, 2 bytes a number: the input of 4, 8 before the GELU, 8 into the second linear; and 8 bytes of
    # the dropout's mask. The input needs no gradient but the first weight's is made of it.
    assert saved_bytes(twin, Inputs((torch.zeros(3, 4, device="meta"),))) == 3 * (2 * (4 + 8 + 8) + 8)
    # Without dropout, and with a ReLU that saves its result, which is the second linear's input as well.
    twin = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).to("meta")
    assert saved_bytes(twin, Inputs((torch.zeros(3, 4, device="meta"),))) == 3 * 2 * (4 + 8)


def test_sparse_products_are_trained_dense():
    linear = nn.Linear(4, 8)
    x = Inputs((torch.zeros(3, 4, device="meta"),))
    dense = saved_bytes(nn.Sequential(linear, nn.GELU()).to("meta"), x)
    assert saved_bytes(nn.Sequential(CountedLinear(linear, 3, 100), nn.GELU()).to("meta"), x) == dense == 3 * 2 * 12


@pytest.mark.parametrize("sequences", [1, 3])
def test_a_unit_of_bert_saves_what_korthikanti_et_al_say(sequences: int):
    s, b, a, h = 20, sequences, 4, 32

    def unit(attention: str) -> int:
        two, three = (
            saved_bytes(
                tiny_twin("bert", attention, num_hidden_layers=layers, intermediate_size=4 * h),
                Inputs(kwargs={"input_ids": ids(b, s)}).for_twin(),
            )
            for layers in (2, 3)
        )
        return three - two

    statistics = 2 * 2 * 2 * s * b  # of two norms, two each, 2 bytes a token
    # Reducing Activation Recomputation in Large Transformer Models, equation 1: what a GPU of 16-bit floats saves.
    assert unit("eager") == 34 * s * b * h + 5 * a * s**2 * b + statistics
    # Fused attention saves neither scores nor their mask, but a float32 logarithm for each head and query.
    assert unit("sdpa") == 34 * s * b * h + 4 * a * s * b + statistics


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2", "modernbert", "xlnet", "deberta-v2"])
def test_saved_is_what_autograd_really_saves(family: str):
    """On real tensors, by the same kernels."""
    model, given = tiny(family), ids()
    theory = saved_bytes(tiny_twin(family), Inputs(kwargs={"input_ids": given}).for_twin())
    model = model.half().train().requires_grad_()
    weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    saved: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage
        return tensor

    with training._AsOnGpu(), saved_tensors_hooks(pack, lambda tensor: tensor):
        result = model(input_ids=given)
    assert sum(storage.nbytes() for storage in saved.values()) == theory
    del result


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_told_of_training(family: str, untouched: Any):
    model = untouched(tiny(family))
    rows, caveats = fits(live.from_module(model, {"input_ids": ids()}), 10**6, 10**8, training=True)
    assert not caveats
    trained = [row for row in rows if row.mode == "training"]
    forward = {row.batch_size: row for row in rows if row.mode == "inference"}
    assert trained
    for row in trained:
        assert row.batch_size not in forward or row.activation_bytes > 0.5 * forward[row.batch_size].activation_bytes


@pytest.mark.parametrize("build", [lambda: nn.LSTM(8, 8, batch_first=True), lambda: nn.TransformerEncoderLayer(8, 2)])
def test_modules_of_torch_can_be_told_of_training(build: Callable[[], nn.Module]):
    rows, caveats = fits(subject_of(build(), torch.zeros(2, 5, 8)), 10**4, 10**6, training=True)
    assert not caveats
    assert [row.fits for row in rows if row.mode == "training"][-1]


def test_following_in_training_leaves_the_twin_as_it_was():
    twin = tiny_twin("bert")
    twin.pooler.train()  # as odd as can be
    before = {path: module.training for path, module in twin.named_modules()}
    parameters = {name: id(parameter) for name, parameter in twin.named_parameters()}
    saved_bytes(twin, Inputs(kwargs={"input_ids": ids()}).for_twin())
    assert {path: module.training for path, module in twin.named_modules()} == before
    assert {name: id(parameter) for name, parameter in twin.named_parameters()} == parameters
    assert not any("forward" in vars(module) for module in twin.modules())


def test_training_of_what_is_stored_in_fewer_bits_is_that_of_the_float_model():
    subject = mlp()
    plain, none = fits(subject, MLP_BYTES, 10**4, training=True)
    assert not none
    indexed = dataclasses.replace(subject, storage={"0.weight": Storage(32, 4 * 16 + 100, 16, index_bytes=100)})
    assert [caveat.code for caveat in fits(indexed, MLP_BYTES, 10**4, training=True)[1]] == ["float-training"]
    quantised = dataclasses.replace(subject, storage={"0.weight": Storage(32, 32 + 8)})
    rows, caveats = fits(quantised, MLP_BYTES - 88, 10**4, training=True)
    assert [caveat.code for caveat in caveats] == ["float-training"]
    assert [row for row in rows if row.mode == "training"] == [row for row in plain if row.mode == "training"]
    assert not fits(quantised, MLP_BYTES - 88, 10**4, training=False)[1]


# From end to end ------------------------------------------------------------------------------------------------------


def test_a_record_says_what_fits(folder: Callable[..., Path], tmp_path: Path):
    found = bertprof.breakdown(str(folder("bert")), time=False, memory_limit="2MB", training=True, sequence_length=16)
    assert found.memory_limit_bytes == 2_000_000
    assert found.fits is not None
    assert {fit.mode for fit in found.fits} == {"inference", "training"}
    first = found.fits[0]
    assert (first.batch_size, first.parameter_bytes) == (1, found.total("parameter_bytes"))
    assert first.activation_bytes == found.activation_peak_bytes
    found.save(tmp_path / "bert.json")
    assert bertprof.load(tmp_path / "bert.json").fits == found.fits


def test_of_a_quantised_model_the_weights_count_as_stored(folder: Callable[..., Path]):
    found = bertprof.breakdown(
        f"{folder('bert')}+int8", time=False, memory_limit="2MB", training=True, sequence_length=8
    )
    assert found.fits is not None
    assert found.fits[0].parameter_bytes == found.total("parameter_bytes") < 4 * found.total("parameters")
    trained = next(fit for fit in found.fits if fit.mode == "training")
    assert trained.parameter_bytes == 2 * found.total("parameters")
    assert "float-training" in [caveat.code for caveat in found.caveats]


@pytest.mark.slow
def test_more_than_1_3_billion_parameters_do_not_train_in_32_gb_but_run_in_it():
    """As in the survey's introduction, with attention as it was then, on as many tokens as GPT-2 has positions.

    GPT-2 XL has 1,557,611,200 parameters, of which a unit has 12 · 1600² + 13 · 1600; 43 of its 48 units leave 1.404
    billion, whose states take 16 bytes each: 22.5 GB. (42 units, 1.373 billion, would still train.)
    """
    found = bertprof.breakdown(
        *("gpt2-xl",), overrides={"n_layer": "43"}, sequence_length=1024, attention="eager", time=False,
        memory_limit="32GB", training=True,
    )  # fmt: skip
    largest = {
        mode: max((fit.batch_size for fit in found.fits or () if fit.mode == mode and fit.fits), default=0)
        for mode in ("inference", "training")
    }
    assert found.total("parameters") == 1_557_611_200 - 5 * 30_740_800
    assert largest["training"] == 0
    assert largest["inference"] >= 29
