"""Models and inputs that a user's own code makes: `package.module:callable` → what the callable returns."""

import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bertprof.errors import ConfigurationError, UsageError, first_line
from bertprof.measure.inputs import Inputs, read_inputs


def load_model(
    reference: str, device: torch.device, dtype: torch.dtype | None, options: Mapping[str, Any]
) -> nn.Module:
    """The module that a callable returns, on the device, in eval mode; in another dtype where one is asked for.

    Args:
        reference: `package.module:callable`, found from the working directory on.
        device: where it goes.
        dtype: None leaves it as it is.
        options: passed to the callable as far as it has parameters of these names.

    Raises:
        UsageError: there is no such callable, or it returns no module.
        ConfigurationError: it fails.
    """
    model = _called(reference, options)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{reference} returns {type(model).__name__}; it must return a torch.nn.Module")
    return model.to(device=device, dtype=dtype).eval()


def load_inputs(reference: str, model: nn.Module, device: torch.device, options: Mapping[str, Any]) -> Inputs:
    """The inputs that a callable returns, on the device. Arguments and errors as `load_model`."""
    return read_inputs(_called(reference, options), model).mapped(lambda tensor: tensor.to(device))


def _called(reference: str, options: Mapping[str, Any]) -> Any:
    function = _found(reference)
    if isinstance(function, nn.Module):
        return function
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    try:
        with _working_directory():  # it may import its neighbours only now
            return function(**{name: value for name, value in options.items() if name in parameters})
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{reference} fails: {type(error).__name__}: {first_line(error)}") from error


def _found(reference: str) -> Any:
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{reference!r} is not of the form package.module:callable")
    try:
        with _working_directory():
            found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UsageError(f"{reference}: {module_name} cannot be imported: {reason}") from error
    try:
        for name in attribute.split("."):
            found = getattr(found, name)
    except AttributeError:
        raise UsageError(f"{reference}: {module_name} has no {attribute}") from None
    if not callable(found):
        raise UsageError(f"{reference} is {type(found).__name__}; it must be callable")
    return found


@contextmanager
def _working_directory() -> Iterator[None]:
    """While open, modules are also found in the working directory, as `python -m` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
