"""From what a user typed to a model's raw configuration: catalogue, folder, or hub. The only door to the network.

Light on purpose: it imports neither torch nor transformers, so that a misspelt name is answered at once. Only a
configuration is ever fetched here, and no code that a configuration names is ever run.
"""

import json
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bertprof import catalog
from bertprof.errors import ConfigurationError, UnknownModelError, UsageError

HUB_DEADLINE_S = 3.5
"""How long the hub may take. An unknown name must be answered within 5 s, imports included."""

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


class Configuration(NamedTuple):
    """A model's configuration as it was found.

    Attributes:
        name: what to call the model.
        fields: the raw fields, `model_type` among them.
        origin: where it was found.
        source: the folder or hub name from which weights can be loaded.
    """

    name: str
    fields: dict[str, Any]
    origin: Literal["catalog", "folder", "hub"]
    source: str


def resolve(model: str) -> Configuration:
    """Finds the configuration of a model.

    Args:
        model: a known name, a folder with config.json, or a name on the hub. A folder with config.json wins.

    Raises:
        UsageError: the name is empty.
        UnknownModelError: nothing of that name is found; the text names the nearest known ones.
        ConfigurationError: config.json is missing, broken, or asks for remote code.
    """
    if not model.strip():
        raise UsageError("the model's name is empty; `bertprof models` lists the known ones")
    if len(model) > 1000 or "\0" in model:
        raise UsageError("the model's name is no name: it is longer than 1,000 characters or holds a null character")
    folder = Path(model)
    if (folder / "config.json").is_file():
        return Configuration(model, _read(folder / "config.json"), "folder", model)
    entry = catalog.find(model)
    if entry is not None:
        return Configuration(model, {"model_type": entry.family, **entry.config}, "catalog", entry.name)
    if folder.is_dir():
        raise ConfigurationError(f"{model} is a folder without config.json; name the folder that holds it")
    if folder.is_file():
        raise ConfigurationError(f"{model} is a file; name the folder with config.json, or use `bertprof report`")
    if not _HUB_NAME.fullmatch(model):
        raise UnknownModelError(f"{model!r} is neither a folder nor a model's name{_suggestion(model)}")
    return Configuration(model, _read(_fetch(model)), "hub", model)


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ConfigurationError(f"{path} is no configuration: it holds no JSON object")
    if "auto_map" in fields:
        raise ConfigurationError(f"{path} asks for code from the model's repository (auto_map); bertprof never runs it")
    if not isinstance(fields.get("model_type"), str):
        raise ConfigurationError(f'{path} names no "model_type"; without it the architecture is unknown')
    return fields


class HubError(Exception):
    """The hub did not give what it was asked for; the text says why."""


def _fetch(name: str) -> Path:
    """The hub's config.json, which tells the known names where that fails."""
    try:
        return fetch(name)
    except HubError as reason:
        raise UnknownModelError(
            f"{name!r} is no known model and no folder, and its configuration cannot be fetched: {reason}"
            + _suggestion(name)
        ) from None


def fetch(name: str) -> Path:
    """The hub's config.json of that model, within the deadline and without any noise of the hub's library.

    Raises:
        HubError: it cannot be had, or not in time.
    """
    answer: list[Path | Exception] = []
    from huggingface_hub import hf_hub_download

    def ask() -> None:
        try:
            answer.append(Path(hf_hub_download(name, "config.json", etag_timeout=HUB_DEADLINE_S)))
        except Exception as error:
            answer.append(error)

    # A daemon thread, since the library may retry for minutes and cannot be interrupted.
    thread = threading.Thread(target=ask, daemon=True)
    with _quiet_hub():
        thread.start()
        thread.join(HUB_DEADLINE_S)
    if answer and isinstance(answer[0], Path):
        return answer[0]
    raise HubError(_reason(answer[0]) if answer else f"the hub did not answer within {HUB_DEADLINE_S:g} s")


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """No messages or progress bars of the hub's library."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    level, shown = logger.level, not are_progress_bars_disabled()
    try:
        logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            disable_progress_bars()
        yield
    finally:
        logger.setLevel(level)
        if shown:
            enable_progress_bars()


def _reason(error: object) -> str:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "RepositoryNotFoundError" in kinds:
        return "the hub knows no model of that name, or it is private"
    if kinds & {"EntryNotFoundError", "RemoteEntryNotFoundError"} and "LocalEntryNotFoundError" not in kinds:
        return "the hub's model has no config.json"
    if "OfflineModeIsEnabled" in kinds or "HFValidationError" in kinds:
        return str(error).splitlines()[0]
    return "the hub cannot be reached from here"


def _suggestion(name: str) -> str:
    near = catalog.nearest(name)
    listing = "`bertprof models` lists the known ones"
    return f"; did you mean {', '.join(near)}? ({listing})" if near else f"; {listing}"
