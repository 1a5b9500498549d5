"""Launches: between which marks of a forward anything is given to the device to do."""

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bertprof.measure.clocks import Tape
from bertprof.measure.inputs import tensors_of


class Watch(TorchDispatchMode):
    """A clock that tells no time, but between which marks something was launched; it watches while it is open.

    Whatever torch dispatches counts as a launch, unless all that it returns lies in the memory of what it was given and
    it writes nothing: views, and operators that hand back what they got (`contiguous()` of what is contiguous, dropout
    in eval mode). So does an empty tensor being made, which launches nothing: code that launches kernels of its own
    past torch's dispatcher (Triton, an extension) makes its results that way, and would not be seen otherwise. What is
    not seen at all is such code that writes into tensors which are there already.

    Attributes:
        codes: the marks in order.
        launched: one more than marks: whether there was a launch before the first, between each two, after the last.
    """

    name = "launches"

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.codes: list[int] = []
        self.launched: list[bool] = [False]

    def start(self) -> None:
        """Begins a tape."""
        self.codes, self.launched = [], [False]

    def mark(self, code: int) -> None:
        """Notes a crossing."""
        self.codes.append(code)
        self.launched.append(False)

    def stop(self) -> Tape:
        """Ends the tape, on which no time passes."""
        return Tape(self.codes, [0] * len(self.launched))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self.launched[-1]:
            self.launched[-1] = _launches(func, (args, kwargs), result)
        return result


_PLAIN = (torch.Tensor, nn.Parameter)


def _launches(func: Any, given: Any, result: Any) -> bool:
    if func.namespace == "prim":  # asks for a device
        return False
    outs = list(tensors_of(result))
    # A tensor that wraps others, or is sparse, does not show where it lies.
    if not outs or func._schema.is_mutable or any(type(t) not in _PLAIN or t.layout is not torch.strided for t in outs):
        return True
    there = {t.untyped_storage()._cdata for t in tensors_of(given) if type(t) in _PLAIN and t.layout is torch.strided}
    return any(out.untyped_storage()._cdata not in there for out in outs)
