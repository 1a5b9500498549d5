"""One forward, operator by operator, as torch dispatches it: what ran, in which module, on which parameters.

A twin on the meta device is run on *fake* tensors, which say that they are on a CPU and have shapes but no storage, so
that also code runs that asks for a device or for the value of a constant (XLNet, DeBERTa, SqueezeBERT).

The run is under inference mode, in which composite operators arrive whole: fused attention is counted by its
definition and not by whichever decomposition this device would run. The rest is decomposed here.
"""

import itertools
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bertprof.measure.inputs import Inputs
from bertprof.measure.lifetimes import Forgetting
from bertprof.measure.operators import (
    FUSED_ATTENTION,
    NOTHING_MOVED,
    POOLS,
    READ_IN_PART,
    RECURRENT,
    SPARSE_LINEAR,
    Operand,
    attention_macs,
    extra_flops,
    plain_name,
    recurrent_counts,
    sparse_macs,
)
from bertprof.measure.traffic import held_bytes, memory_of, moved_bytes
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
        named: for each input the names of the parameters that it is, or was made of without a product.
        constant: it is computed from parameters alone.
        writes: it changes its first input in place.
        inputs, outputs: its tensors.
    """

    operator: str
    name: str
    macs: int
    flops: int | None
    moved_bytes: int
    written_bytes: int
    named: tuple[tuple[str, ...], ...]
    constant: bool
    writes: bool
    inputs: tuple[torch.Tensor, ...]
    outputs: tuple[torch.Tensor, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of all parameters that it uses."""
        return tuple(name for names in self.named for name in names)


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
        inputs: of its forward, on its device; for a model on the meta device some may be on the CPU, whose values the
            forward may then ask for.
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
        stack.enter_context(uncompiled())
        stack.enter_context(_silent())
        values: dict[int, torch.Tensor] = {}
        on_meta = any(p.device.type == "meta" for p in model.parameters())
        if on_meta:
            mode = stack.enter_context(faked(model))
            inputs = inputs.mapped(lambda tensor: _known(mode, tensor, values))
            stack.enter_context(mode)
        else:
            inputs = inputs.fresh()
        names = {id(p): name for name, p in model.named_parameters()}
        stack.enter_context(_Tape(follower, names, {id(b) for b in model.buffers()}, values, on_meta))
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


def _known(mode: FakeTensorMode, tensor: torch.Tensor, values: dict[int, torch.Tensor]) -> torch.Tensor:
    """A fake tensor for an input, whose values are known if it has some."""
    fake = _fake(mode, tensor)
    if tensor.device.type == "cpu":
        values[id(fake)] = tensor.clone()  # a forward may write into it
    return fake


def _fake(mode: FakeTensorMode, tensor: torch.Tensor) -> torch.Tensor:
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
def _silent() -> Iterator[None]:
    """While open, torch does not log the traceback of an operator that does not run without storage."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        logger.setLevel(level)


def uncompiled() -> AbstractContextManager[Any]:
    """While open, what torch.compile made runs as it was written; compiled code has no modules to tell apart.

    Without it the compiler would meet our modes and wrappers and give up on the user's code for good.
    """
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return]


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
    """Tells the follower of each dispatched operator.

    Beside the forward it keeps two things. What is computed from parameters alone, so that a product knows its weight
    also where that was cut, joined or scaled first. And, in a run on fake tensors, the values of what is computed from
    constants and known inputs alone, so that a forward may ask whether a mask hides anything.
    """

    def __init__(
        self,
        follower: Follower,
        parameters: dict[int, str],
        buffers: set[int],
        values: dict[int, torch.Tensor],
        faked: bool,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._follower = follower
        self._names: dict[int, tuple[str, ...]] = {key: (name,) for key, name in parameters.items()}
        self._constant = {*parameters, *buffers}
        self._values = values
        self._faked = faked
        self._forgetting = Forgetting(self._names, self._constant, self._values)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        operator = f"{func.namespace}::{packet.__name__}"
        name = plain_name(operator)
        if name == "dropout" and not args[2]:
            return args[0]  # as it runs; torch's own decomposition would copy
        if self._faked and any(isinstance(t, nn.Parameter) and id(t) not in self._names for t in _tensors(args)):
            # Of a function that the model holds (a lambda) and that no copy could take along.
            raise RuntimeError("a parameter is used that is none of the model's")
        if func.namespace == "aten" and packet not in flop_registry and name not in _WHOLE:
            with self:
                decomposed = func.decompose(*args, **kwargs)
            if decomposed is not NotImplemented:
                return decomposed
        if name == "_local_scalar_dense" and id(args[0]) in self._values:
            with unset_fake_temporarily():
                return self._values[id(args[0])].item()
        result = func(*args, **kwargs)
        if func.namespace == "prim":  # asks for a device, computes nothing
            return result
        ins = tuple(_tensors((*args, *kwargs.values())))
        outs = tuple(_tensors((result,)))
        self._evaluate(func, args, kwargs, ins, outs)
        returns = [r.alias_info for r in func._schema.returns]
        view = bool(returns) and all(alias is not None and not alias.is_write for alias in returns)
        view = view or name == "_unsafe_view"
        operands, results = [_operand(a) for a in args], [_operand(r) for r in outs]
        extra = extra_flops(name, operands, results)
        if name in FUSED_ATTENTION:
            macs = attention_macs(operands)
        elif func.namespace == "quantized" and name.startswith("linear"):
            macs = results[0].elements * (operands[0].shape or (0,))[-1]
        elif name == SPARSE_LINEAR:
            macs = sparse_macs(operands[0], args[3])
        elif packet in flop_registry:
            macs = _stored_only(flop_registry[packet](*args, **kwargs, out_val=result) // 2, ins)
        else:
            macs = 0
        flops = None if extra is None and macs == 0 else 2 * macs + (extra or 0)
        if name in RECURRENT:
            tokens = math.prod(args[0].shape[:-1])
            macs, flops = recurrent_counts(name, tokens, [tuple(t.shape) for t in _tensors(args[2:])])
        named = tuple(self._names.get(id(t), ()) for t in ins)
        # What is looked up is no weight, also where the ids are a buffer: a table of positions.
        constant = bool(ins) and name not in READ_IN_PART and all(id(t) in self._constant or not t.ndim for t in ins)
        if constant:
            self._forgetting.watch(outs)
            self._constant |= {id(out) for out in outs}
            # A product or a norm of parameters is no weight any more: a projected table of positions (DeBERTa).
            if not macs and "norm" not in name:
                self._names |= {id(out): tuple(dict.fromkeys(itertools.chain(*named))) for out in outs}
        in_place = any(alias is not None and alias.is_write for alias in returns)
        self._follower.operate(
            Operation(
                operator,
                name,
                macs,
                flops,
                0 if view else moved_bytes(name, ins, outs, args[4] if name == SPARSE_LINEAR else None),
                0 if view or in_place or name in NOTHING_MOVED else sum(map(held_bytes, outs)),
                named,
                constant,
                in_place,
                ins,
                outs,
            )
        )
        return result

    def _evaluate(self, func: Any, args: Any, kwargs: Any, ins: Sequence[Any], outs: Sequence[Any]) -> None:
        """Computes for real what depends on nothing but known values."""
        if (
            not (outs and all(isinstance(t, FakeTensor) for t in outs))
            or torch.Tag.nondeterministic_seeded in func.tags
        ):
            return
        # A tensor that is not fake is its own value: one that scripted code makes (DeBERTa in transformers 5.17).
        unknown = any(isinstance(t, FakeTensor) and id(t) not in self._values for t in ins)
        if unknown or any(out.numel() > MOST_VALUES for out in outs):
            self._forget(outs)
            return
        try:
            with unset_fake_temporarily():
                result = func(*_with(args, self._values), **_with(kwargs, self._values))
        except Exception:  # only what it costs is needed, and that is known
            return
        for out, value in zip(outs, _tensors((result,)), strict=True):
            self._values[id(out)] = value
            self._forgetting.watch((out,))

    def _forget(self, outs: Sequence[torch.Tensor]) -> None:
        """What was written in place with values that are not known is not known any more, in no view of it."""
        places = {memory_of(self._values[id(out)]) for out in outs if id(out) in self._values}
        if places:
            stale = [key for key, value in self._values.items() if memory_of(value) in places]
            for key in stale:
                del self._values[key]


MOST_VALUES = 1 << 20
"""The most entries of a tensor whose values are followed."""

_WHOLE = FUSED_ATTENTION | POOLS | {"rms_norm", "batch_norm", *RECURRENT}
"""Composite operators that have a rule of their own."""


def _with(value: Any, values: Mapping[int, torch.Tensor]) -> Any:
    """An argument with its fake tensors replaced by their values."""
    if isinstance(value, torch.Tensor):
        return values.get(id(value), value)
    if isinstance(value, dict):
        return {key: _with(item, values) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_with(item, values) for item in value)
    return value


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


def _operand(value: Any) -> Operand:
    if isinstance(value, list | tuple) and all(type(item) is int for item in value):
        return Operand(None, numbers=tuple(value))
    if not isinstance(value, torch.Tensor):
        return Operand(None, flag=value is True)
    return Operand(tuple(value.shape), value.is_floating_point())


def _stored_only(macs: int, ins: Sequence[torch.Tensor]) -> int:
    """MACs of a product of which a factor stores no zeros: every weight of a dense one takes part as often as others.

    Args:
        macs: of the product as if all were dense.
        ins: its factors.
    """
    for tensor in ins:
        if tensor.layout is not torch.strided and tensor.numel():
            macs = macs * _values(tensor).numel() // tensor.numel()
    return macs


def _values(tensor: torch.Tensor) -> torch.Tensor:
    """The scalars that a sparse tensor stores."""
    return tensor._values() if tensor.layout is torch.sparse_coo else tensor.values()
