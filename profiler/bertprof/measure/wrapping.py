"""Functions around a module's calls, by replacing an attribute of the instance; on leaving, it is as it was.

A path names a module (its `forward` is wrapped) or a bound method of one: `layer.0.rel_attn.post_attention()`.
Unlike hooks, a wrapper also sees a `forward` that is called without the module's `__call__` (SqueezeBERT's encoder).
"""

from collections.abc import Callable
from typing import Any

from torch import nn


def target(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The module of a path, and the name of the method that a call of it runs."""
    if path.endswith("()"):
        path, _, method = path[:-2].rpartition(".")
        return model.get_submodule(path), method
    return model.get_submodule(path), "forward"


def wrap(
    module: nn.Module, method: str, entering: Callable[[], None], leaving: Callable[[], None]
) -> Callable[[], None]:
    """Calls `entering` before and `leaving` after each call of a module's method, also when it raises.

    Returns:
        what undoes it.
    """
    own = vars(module)
    missing = object()
    before = own.get(method, missing)
    original = getattr(module, method)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        entering()
        try:
            return original(*args, **kwargs)
        finally:
            leaving()

    own[method] = wrapped

    def undo() -> None:
        if before is missing:
            del own[method]
        else:
            own[method] = before

    return undo
