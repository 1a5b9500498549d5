"""One forward followed operator by operator: closed-form traffic, and a model that is left as it was."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bertprof.measure import dispatch, flops
from bertprof.measure.dispatch import Operation, follow
from bertprof.measure.inputs import Inputs
from bertprof.measure.wrapping import wrap
from conftest import tiny_twin, traces_of


class Listing:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.operations: list[Operation] = []

    def enter(self, path: str) -> None:
        self.told.append(f"> {path}")

    def leave(self, path: str) -> None:
        self.told.append(f"< {path}")

    def operate(self, operation: Operation) -> None:
        self.told.append(operation.name)
        self.operations.append(operation)


def listed(model: nn.Module, *args: Any, methods: tuple[str, ...] = ()) -> Listing:
    listing = Listing()
    follow(model.eval(), Inputs(args), listing, methods)
    return listing


def on_meta(make: Any) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = make()
    return model


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(*shape, dtype=dtype, device="meta")


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_traffic_of_a_linear(device: str):
    with torch.device(device), torch.random.fork_rng():
        model, x = nn.Linear(3, 5), torch.zeros(7, 3)
    traffic = flops.count_by_dispatch(model, Inputs((x,)), {}).traffic
    (found,) = traffic.values()
    # input 7·3, weight 3·5, bias 5, output 7·5, four bytes each; the transpose of the weight is a view
    assert found.moved_bytes == 4 * (7 * 3 + 3 * 5 + 5 + 7 * 5)
    assert found.activation_bytes == 4 * 7 * 5


def test_of_a_table_only_the_rows_that_are_looked_up_move():
    listing = listed(on_meta(lambda: nn.Embedding(1000, 8)), meta(2, 3, dtype=torch.long))
    (found,) = listing.operations
    # six ids of eight bytes, six rows of 8 · 4 bytes read and written
    assert found.moved_bytes == 6 * 8 + 2 * 6 * 8 * 4
    assert found.written_bytes == 6 * 8 * 4


def test_fused_attention_moves_no_scores_and_eager_attention_does():
    class Attention(nn.Module):
        def __init__(self, fused: bool) -> None:
            super().__init__()
            self.fused = fused

        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if self.fused:
                return F.scaled_dot_product_attention(q, k, v)
            return torch.softmax(q @ k.transpose(-1, -2) / 2.0, -1) @ v

    q, k, v = (meta(1, 2, 16, 4) for _ in range(3))
    fused, eager = listed(Attention(True), q, k, v), listed(Attention(False), q, k, v)
    tensor, scores = 4 * 2 * 16 * 4, 4 * 2 * 16 * 16
    assert sum(o.moved_bytes for o in fused.operations) == 4 * tensor
    # QKᵀ: q, k in, scores out; division and softmax: scores in and out; ·V: scores and v in, result out
    expected = (2 * tensor + scores) + 2 * 2 * scores + (scores + 2 * tensor)
    assert sum(o.moved_bytes for o in eager.operations) == expected
    # One tensor given three times is read once by an operator, and so is its transpose.
    assert sum(o.moved_bytes for o in listed(Attention(True), q, q, q).operations) == 2 * tensor
    assert sum(o.moved_bytes for o in listed(Attention(False), q, q, q).operations) == expected - tensor
    assert sum(o.macs for o in fused.operations) == sum(o.macs for o in eager.operations) == 2 * 2 * 16 * 16 * 4
    assert sum(o.flops or 0 for o in fused.operations) == sum(o.flops or 0 for o in eager.operations)


def test_what_is_expanded_is_read_as_far_as_it_is_there():
    class Adding(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return x + mask.expand(4, 8)

    (add,) = (o for o in listed(Adding(), meta(4, 8), meta(1, 8)).operations if o.name == "add")
    assert add.moved_bytes == 4 * (32 + 8 + 32)


def test_in_place_and_dropout():
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            y += 1
            return F.dropout(y, 0.5, training=False)

    listing = listed(InPlace(), meta(10))
    assert [(o.name, o.moved_bytes, o.written_bytes) for o in listing.operations] == [("mul", 80, 40), ("add", 80, 0)]


def test_parameters_are_known_through_views_and_copies():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight.t().contiguous().view(4, 4)

    product = next(o for o in listed(on_meta(Scaled), meta(2, 4)).operations if o.macs)
    assert product.parameters == ("weight",)


def test_calls_and_methods_are_told_in_order_also_past_the_modules_call():
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def helper(self, x: Tensor) -> Tensor:
            return self.inner.forward(x) + 1  # no hook would see this call

        def forward(self, x: Tensor) -> Tensor:
            return self.helper(x)

    listing = listed(Outer(), meta(3), methods=("helper()",))
    assert listing.told == ["> ", "> helper()", "> inner", "mul", "< inner", "add", "< helper()", "< "]


def test_a_mask_of_ones_made_in_the_forward_hides_nothing_and_one_of_unknown_values_is_not_guessed():
    class Asking(nn.Module):
        def __init__(self, made: bool) -> None:
            super().__init__()
            self.made = made
            self.weight = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.ones(2, 4, dtype=torch.bool)[:, None, :].expand(2, 3, 4) if self.made else x > 0
            if mask.all():
                return x * self.weight
            return x

    assert "mul" in listed(on_meta(lambda: Asking(True)), meta(2, 4)).told
    with pytest.raises(Exception, match="_local_scalar_dense"):
        listed(on_meta(lambda: Asking(False)), meta(2, 4))


def test_values_that_are_known_follow_what_is_written_into_them():
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            mask = torch.ones(2, 4, dtype=torch.bool)
            view = mask.t()
            mask[:, 3:] = False
            assert not view.all()
            if (torch.arange(4) < lengths[:, None]).any():
                x = x * self.weight
            mask[:, :] = x > 0
            return x + 1 if view.all() else x

    lengths = torch.tensor([2, 3])
    with pytest.raises(Exception, match="_local_scalar_dense"):
        listed(on_meta(Asking), meta(2, 4), lengths)
    assert lengths.tolist() == [2, 3]


def test_a_real_tensor_in_a_fake_run_is_its_own_value():
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4))
            self.span = torch.tensor(3)  # no buffer: it stays where it is

        def forward(self, x: Tensor) -> Tensor:
            return x[:, : int(self.span - 1)] * self.weight[:2]

    model = Asking()
    model.weight = nn.Parameter(meta(4))
    (product,) = (o for o in listed(model, meta(2, 4)).operations if o.name == "mul")
    assert product.outputs[0].shape == (2, 2)


def test_what_is_written_over_is_not_read():
    class Copying(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            y[:, :2] = x
            return y

    (copy,) = (o for o in listed(Copying(), meta(5, 2), meta(5, 4)).operations if o.name == "copy")
    assert copy.moved_bytes == 2 * 4 * 5 * 2


def test_a_parameter_that_is_none_of_the_models_is_no_constant():
    with torch.random.fork_rng():
        linear = nn.Linear(4, 4)

    class Holding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Parameter(torch.zeros(4))
            self.function = lambda x: linear(x)

        def forward(self, x: Tensor) -> Tensor:
            return self.function(x) * self.own

    with pytest.raises(RuntimeError, match="none of the model's"):
        listed(on_meta(Holding), meta(2, 4))


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails: bool):
    model = tiny_twin("deberta")
    before, parameters = traces_of(model), list(model.parameters())
    if fails:
        with pytest.raises(ValueError, match="input_ids"):
            follow(model, Inputs(), Listing())
    else:
        follow(model, Inputs(kwargs={"input_ids": meta(1, 8, dtype=torch.long)}), Listing())
    assert traces_of(model) == before
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))


def test_wrapping_is_undone_in_either_state():
    module = nn.Linear(1, 1, device="meta")
    seen: list[str] = []
    undo = wrap(module, "forward", lambda: seen.append("in"), lambda: seen.append("out"))
    module(meta(1))
    assert seen == ["in", "out"]
    undo()
    assert "forward" not in vars(module)
    own = module.forward
    module.forward = own
    wrap(module, "forward", lambda: None, lambda: None)()
    assert vars(module)["forward"] is own


def test_the_fast_path_comes_back():
    before = torch.backends.mha.get_fastpath_enabled()
    with dispatch.fast_path(not before):
        assert torch.backends.mha.get_fastpath_enabled() != before
    assert torch.backends.mha.get_fastpath_enabled() == before
