"""One forward, operator by operator, as torch dispatches it: what ran, in which module, on which parameters.

A twin on the meta device is run on *fake* tensors, which say that they are on a CPU and have shapes but no storage, so
that also code runs that asks for a device or for the value of a constant (XLNet, DeBERTa, SqueezeBERT).

The run is under inference mode, in which composite operators arrive whole: fused attention is counted by its
definition and not by whichever decomposition this device would run. The rest is decomposed here.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bertprof.measure.inputs import Inputs
from bertprof.measure.operators import (
    FUSED_ATTENTION,
    NOT_READ,
    NOTHING_MOVED,
    READ_IN_PART,
    Operand,
    attention_macs,
    extra_flops,
    plain_name,
)
from bertprof.measure.wrapping import target, wrap


class Operation(NamedTuple):
    """An operator that ran.

    Attributes:
        operator: its full name, `aten::addmm`.
        name: its plain name, `addmm`.
        macs: multiply-accumulates.
        flops: 2 · macs and other floating-point arithmetic; None where the operator has no rule.
        moved_bytes: inputs and outputs, each once; 0 for a view.
        written_bytes: results that are new, neither a view nor written in place.
        parameters: the names of the parameters that it uses, also through views of them.
        inputs, outputs: its tensors.
        view: the result shares its input's storage.
    """

    operator: str
    name: str
    macs: int
    flops: int | None
    moved_bytes: int
    written_bytes: int
    parameters: tuple[str, ...]
    inputs: tuple[torch.Tensor, ...]
    outputs: tuple[torch.Tensor, ...]
    view: bool


class Follower(Protocol):
    """Is told what happens, in order."""

    def enter(self, path: str) -> None:
        """The module, or bound method, at `path` is called."""

    def leave(self, path: str) -> None:
        """That call has returned, or raised."""

    def operate(self, operation: Operation) -> None:
        """An operator has run."""


def follow(model: nn.Module, inputs: Inputs, follower: Follower, methods: Iterable[str] = ()) -> None:
    """Runs one forward and tells a follower of every call of a module and every operator.

    Args:
        model: in eval mode, on any device; one on the meta device is run on fake tensors. Left as it was.
        inputs: of its forward, on its device.
        follower: is told.
        methods: the paths of bound methods whose calls are told too, `encoder.compute_position_bias()`.

    Raises:
        Exception: whatever the forward raises.
    """
    with ExitStack() as stack:
        for path in (*dict(model.named_modules()), *methods):
            module, method = target(model, path)
            stack.callback(wrap(module, method, _calling(follower.enter, path), _calling(follower.leave, path)))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(deciding_as_it_runs())
        stack.enter_context(fast_path(False))
        stack.enter_context(torch.inference_mode())
        if any(p.device.type == "meta" for p in model.parameters()):
            mode = stack.enter_context(faked(model))
            inputs = inputs.mapped(lambda tensor: _fake(mode, tensor))
            stack.enter_context(mode)
        else:
            inputs = inputs.fresh()
        stack.enter_context(_Tape(follower, {id(p): name for name, p in model.named_parameters()}))
        model(*inputs.args, **inputs.kwargs)


def _calling(told: Callable[[str], None], path: str) -> Callable[[], None]:
    return lambda: told(path)


@contextmanager
def faked(model: nn.Module) -> Iterator[FakeTensorMode]:
    """While open, the parameters and buffers of a meta model are fake tensors on the CPU."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes: dict[int, torch.Tensor] = {}
    before: list[tuple[dict[str, Any], str, torch.Tensor]] = []
    try:
        for module in model.modules():
            holders: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for holder in holders:
                for name, tensor in holder.items():
                    if tensor is None or tensor.device.type != "meta":
                        continue
                    if id(tensor) not in fakes:
                        fakes[id(tensor)] = _fake(mode, tensor)
                    before.append((holder, name, tensor))
                    holder[name] = fakes[id(tensor)]
        yield mode
    finally:
        for holder, name, tensor in before:
            holder[name] = tensor


def _fake(mode: FakeTensorMode, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.device.type != "meta":
        return tensor
    # Of its own: a fake tensor marks the storage that it is made of.
    own = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    fake = FakeTensor(mode, own, torch.device("cpu"))
    return nn.Parameter(fake, requires_grad=False) if isinstance(tensor, nn.Parameter) else fake


@contextmanager
def fast_path(on: bool) -> Iterator[None]:
    """Sets whether torch may run a whole encoder layer as one operator, in which no component shows."""
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(on)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def deciding_as_it_runs() -> Iterator[None]:
    """While open, transformers decides about masks as if it were neither traced nor run on fake tensors.

    It adds masks under a trace that it leaves out when it runs.
    """
    masking = sys.modules.get("transformers.masking_utils")
    asked = getattr(masking, "is_tracing", None)
    if masking is None or asked is None:
        yield
        return
    setattr(masking, "is_tracing", lambda *tensors: False)  # noqa: B010 (no attribute that a type checker knows)
    try:
        yield
    finally:
        setattr(masking, "is_tracing", asked)  # noqa: B010


class _Tape(TorchDispatchMode):
    """Tells the follower of each dispatched operator."""

    def __init__(self, follower: Follower, parameters: dict[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._follower = follower
        self._names = parameters
        self._kept: list[torch.Tensor] = []  # so that no other tensor gets the identity of one that is known
        self._uniform: dict[int, bool | int | float] = {}  # tensors all of whose entries are known to be one value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        operator = f"{func.namespace}::{packet.__name__}"
        name = plain_name(operator)
        if name == "dropout" and not args[2]:
            return args[0]  # as it runs; torch's own decomposition would copy
        if func.namespace == "aten" and packet not in flop_registry and name not in FUSED_ATTENTION:
            with self:
                decomposed = func.decompose(*args, **kwargs)
            if decomposed is not NotImplemented:
                return decomposed
        if name == "_local_scalar_dense" and id(args[0]) in self._uniform:
            return self._uniform[id(args[0])]  # a mask of ones made in the forward, asked whether it hides anything
        result = func(*args, **kwargs)
        if func.namespace == "prim":  # asks for a device, computes nothing
            return result
        self._know(name, args, kwargs, result)
        ins = tuple(_tensors((*args, *kwargs.values())))
        outs = tuple(_tensors((result,)))
        returns = [r.alias_info for r in func._schema.returns]
        view = bool(returns) and all(alias is not None and not alias.is_write for alias in returns)
        view = view or name == "_unsafe_view"
        parameters = tuple(self._names[id(t)] for t in ins if id(t) in self._names)
        if (view or name in _COPIES) and parameters:
            for out in outs:
                self._names[id(out)] = parameters[0]
                self._kept.append(out)
        operands, results = [_operand(a) for a in args], [_operand(r) for r in outs]
        extra = extra_flops(name, operands, results)
        if name in FUSED_ATTENTION:
            macs = attention_macs(operands)
        elif packet in flop_registry:
            macs = flop_registry[packet](*args, **kwargs, out_val=result) // 2
        else:
            macs = 0
        in_place = any(alias is not None and alias.is_write for alias in returns)
        self._follower.operate(
            Operation(
                operator,
                name,
                macs,
                None if extra is None and macs == 0 else 2 * macs + (extra or 0),
                0 if view else _moved(name, ins, outs),
                0 if view or in_place or name in NOTHING_MOVED else sum(map(_stored_bytes, outs)),
                parameters,
                ins,
                outs,
                view,
            )
        )
        return result

    def _know(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        """Follows tensors of one known value, which fake tensors themselves do not hold."""
        if not isinstance(result, torch.Tensor):
            return
        known = self._uniform.get(id(args[0])) if args else None
        value: Any = None
        if name in ("ones", "ones_like", "new_ones"):
            value = 1
        elif name in ("zeros", "zeros_like", "new_zeros"):
            value = 0
        elif name in ("full", "full_like"):
            value = args[1]
        elif known is not None and name in ("eq", "ne") and isinstance(args[1], bool | int | float):
            value = (known == args[1]) == (name == "eq")
        elif known is not None and name in _KEEPS_VALUE:
            value = known
        if isinstance(value, bool | int | float):
            boolean, floating = result.dtype is torch.bool, result.is_floating_point()
            self._uniform[id(result)] = bool(value) if boolean else float(value) if floating else int(value)
            self._kept.append(result)
        else:
            self._uniform.pop(id(result), None)  # written in place


_COPIES = frozenset(("clone", "_to_copy", "contiguous"))

_KEEPS_VALUE = frozenset(
    (
        *("all", "any", "max", "min", "amax", "amin", "view", "_unsafe_view", "expand", "slice", "select", "unsqueeze"),
        *("squeeze", "permute", "transpose", "t", "clone", "_to_copy", "detach", "alias", "index", "repeat"),
    )
)


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


def _operand(value: Any) -> Operand:
    if not isinstance(value, torch.Tensor):
        return Operand(None, flag=value is True)
    return Operand(tuple(value.shape), value.is_floating_point())


def _moved(name: str, ins: tuple[torch.Tensor, ...], outs: tuple[torch.Tensor, ...]) -> int:
    """Bytes of inputs and outputs, each once. Of a table only the rows that are looked up are read."""
    if name in NOTHING_MOVED:
        return 0
    written = sum(map(_stored_bytes, outs))
    if name in NOT_READ:
        return written
    unique = {_place(tensor): tensor for tensor in ins}.values()
    read = [_stored_bytes(tensor) for tensor in unique]
    if name in READ_IN_PART and read:
        read[0] = min(read[0], written)
    return written + sum(read)


def _place(tensor: torch.Tensor) -> tuple[int, ...]:
    """Which stretch of memory a tensor is, so that one that is given twice, also through a view, is read once."""
    try:
        return tensor.untyped_storage()._cdata, int(tensor.storage_offset()), tensor.numel()
    except (NotImplementedError, RuntimeError):
        return (id(tensor),)


def _stored_bytes(tensor: torch.Tensor) -> int:
    """A tensor's bytes; of one that repeats itself (expanded), those that are there."""
    try:
        return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
    except (NotImplementedError, RuntimeError):  # a sparse or wrapped tensor shows no storage
        return tensor.numel() * tensor.element_size()
