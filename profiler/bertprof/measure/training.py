"""Training: what a forward saves for the backward pass, in theory."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bertprof.measure import sparse  # noqa: F401 (defines its operator)
from bertprof.measure.dispatch import Operation, follow
from bertprof.measure.inputs import Inputs


def saved_bytes(twin: nn.Module, inputs: Inputs, dtype: torch.dtype = torch.float16) -> int:
    """What one forward in training saves for its backward pass, without activation checkpointing.

    Every parameter is trained. Each storage counts once, whatever views are saved of it; parameters and buffers do not.
    A dropout saves a byte an element, its mask, and fused attention no scores, as on a GPU: for a unit of BERT with
    eager attention, on b sequences of s tokens, a attention heads and hidden size h, that is 34·s·b·h + 5·a·s²·b bytes
    (Korthikanti et al. 2022, equation 1) and two statistics a token for each of two LayerNorms, of 2 bytes here and 4
    on a GPU.

    Args:
        twin: the float model on the meta device. Left as it was.
        inputs: of its forward, on the meta device, or on the CPU where its values may be asked for.
        dtype: of weights and activations.

    Raises:
        Exception: whatever the forward raises.
    """
    training = {module: module.training for module in twin.modules()}
    trained = _Trained(twin, dtype)
    try:
        twin.train()
        follow(trained, inputs.mapped(lambda tensor: _cast(tensor, dtype)), _Nobody())
    finally:
        for module, before in training.items():
            module.training = before
    return sum(storage.nbytes() for storage in trained.saved.values())


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A floating-point tensor in another dtype; a mask's least number is then that dtype's."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.clamp(torch.finfo(dtype).min, torch.finfo(dtype).max).to(dtype)


class _Nobody:
    """Follows nothing."""

    def enter(self, path: str) -> None:
        pass

    def leave(self, path: str) -> None:
        pass

    def operate(self, operation: Operation) -> None:
        pass


class _Trained(nn.Module):
    """A model that, followed under inference mode on fake tensors, runs as in training and notes what that saves."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.saved: dict[int, Any] = {}
        self._shapes: dict[str, torch.Tensor] = {}
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            own = dtype if tensor.is_floating_point() else tensor.dtype
            self._shapes[name] = torch.empty_strided(tensor.shape, tensor.stride(), dtype=own, device="meta")

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """One forward; returns nothing."""
        parameters = dict(self.model.named_parameters())
        first: Any = next(iter(parameters.values()))
        with _with_gradients():
            weights: dict[str, torch.Tensor] = {
                name: FakeTensor(first.fake_mode, shape, torch.device("cpu")).requires_grad_(
                    name in parameters and shape.is_floating_point()
                )
                for name, shape in self._shapes.items()
            }
            constant = {tensor.untyped_storage()._cdata for tensor in weights.values()}

            def pack(tensor: torch.Tensor) -> torch.Tensor:
                storage = tensor.untyped_storage()
                if storage._cdata not in constant:
                    self.saved[storage._cdata] = storage
                return tensor

            inputs = Inputs(args, kwargs).mapped(torch.clone)  # tensors of inference mode cannot be saved
            with _AsOnGpu(), saved_tensors_hooks(pack, lambda tensor: tensor):
                functional_call(self.model, weights, inputs.args, dict(inputs.kwargs))


@contextmanager
def _with_gradients() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield


class _AsOnGpu(TorchFunctionMode):
    """While open, dropout and fused attention save what their kernels of a GPU save, and sparse products are dense.

    Those of a CPU save dropout's mask in the dtype of the activations, and attention with dropout is not fused. A fused
    kernel makes its mask again from the state of a random generator.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            args = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args
            kwargs = {name: value for name, value in kwargs.items() if name != "dropout_p"}
        if func is functional.dropout:
            return _dropout(*args, **kwargs)
        if func is torch.ops.bertprof.sparse_linear:  # of which there is no backward pass
            return functional.linear(*args[:3])
        return func(*args, **kwargs)


def _dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(input, p, True)[0] if training and p else input
