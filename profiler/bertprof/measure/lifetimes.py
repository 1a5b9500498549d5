"""Lifetimes: which tensors are still there and how many bytes they hold, told by weak references.

Memory is told apart by its storage, in which a tensor and all views of it are, and which is gone with the last of them.
"""

import weakref
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch

from bertprof.measure.traffic import held_bytes, memory_of


class Forgetting:
    """Forgets what is known of a tensor, by its identity, once it is gone and another may get the same identity."""

    def __init__(self, *known: dict[int, Any] | set[int]) -> None:
        """
        Args:
            known: what is known, by identity, or of which identities.
        """
        self._known = known
        self._watched: dict[int, weakref.ref[torch.Tensor]] = {}

    def watch(self, tensors: Iterable[torch.Tensor]) -> None:
        """From now on these are forgotten when they are gone."""
        for tensor in tensors:
            key = id(tensor)
            if key not in self._watched:
                self._watched[key] = weakref.ref(tensor, partial(self._gone, key))

    def _gone(self, key: int, _: Any) -> None:
        del self._watched[key]
        for known in self._known:
            if isinstance(known, set):
                known.discard(key)
            else:
                known.pop(key, None)


class Alive:
    """The memory that is alive of what was made since this began, and of what is held anyway.

    Attributes:
        bytes: of what is held, and of all storages that were made and are not gone yet, each once.
    """

    def __init__(self, held: Iterable[torch.Tensor] = ()) -> None:
        """
        Args:
            held: what whoever calls the forward holds, its inputs; of a slice the slice.
        """
        self.bytes = sum({memory_of(tensor): held_bytes(tensor) for tensor in held}.values())
        self._known: dict[int, weakref.ref[Any]] = {}

    def ran(self, operator: str, inputs: Iterable[torch.Tensor], outputs: Iterable[torch.Tensor]) -> int:
        """An operator ran, by its plain name; returns what is alive behind it, when its inputs still are."""
        if operator != "lift_fresh":  # whose input the forward itself has just made, past all operators
            self.given(inputs)
        self.made(outputs)
        return self.bytes

    def given(self, tensors: Iterable[torch.Tensor]) -> None:
        """These are there. Memory that nobody was seen to make was there before, and is not counted."""
        for tensor in tensors:
            self._know(tensor, counted=False)

    def made(self, tensors: Iterable[torch.Tensor]) -> None:
        """These are results. Memory that is not known yet counts from now on, until it is gone."""
        for tensor in tensors:
            self._know(tensor, counted=True)

    def _know(self, tensor: torch.Tensor, *, counted: bool) -> None:
        holder: Any = tensor
        try:
            holder = tensor.untyped_storage()
            key, size = holder._cdata, holder.nbytes()
        except (NotImplementedError, RuntimeError):  # a sparse or wrapped tensor shows no storage
            key, size = id(tensor), held_bytes(tensor)
        if key in self._known:
            return
        size = size if counted else 0

        def gone(_: Any) -> None:
            del self._known[key]
            self.bytes -= size

        self._known[key] = weakref.ref(holder, gone)
        self.bytes += size
