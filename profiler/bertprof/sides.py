"""What stands on a side of a measurement or a diff: a model and what is asked of it, a record, or a folder of records.

Light: everything here is said before torch is loaded.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

from bertprof import catalog, configuration, pooling, record
from bertprof.compress import recipe
from bertprof.configuration import Configuration
from bertprof.errors import RecordError, UsageError
from bertprof.record import Breakdown

MOST_TOKENS = 10**9
"""Tokens in a batch; more is a slip of the keyboard."""

LONGEST_S = 86400.0
"""The longest least time of sampling: a day."""

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Side(TypedDict):
    """A model by name and what is asked of it, as `breakdown` takes it; plain data, which another process can read."""

    model: str
    inputs: str | None
    device: str
    batch_size: int
    sequence_length: int
    segments: list[int] | None
    padding: float
    dtype: str
    attention: str
    task: str | None
    overrides: dict[str, str]
    weights: bool | None
    anatomy: dict[str, str]
    recipes: list[str]


DEFAULTS = Side(
    model="",
    inputs=None,
    device="auto",
    batch_size=1,
    sequence_length=128,
    segments=None,
    padding=0.0,
    dtype="float32",
    attention="sdpa",
    task=None,
    overrides={},
    weights=None,
    anatomy={},
    recipes=[],
)
"""What is asked of a model of which nothing else is said."""


class Asked(TypedDict, total=False):
    """What may be asked of models by name in a comparison; as in `bertprof.breakdown`."""

    device: str
    batch_size: int
    sequence_length: int
    segments: Sequence[int] | None
    padding: float
    dtype: str
    attention: str
    task: str | None
    overrides: Mapping[str, Any]
    weights: bool | None
    anatomy: Mapping[str, str]
    recipes: str | Sequence[str]


def asked_of(model: str, inputs: str | None, asked: Asked) -> Side:
    """What is asked of a model, whose name may carry recipes, and the defaults of what is not.

    Raises:
        UsageError: a recipe behind the name cannot be read, or the segments are none.
    """
    found: dict[str, Any] = {**DEFAULTS, **asked, "inputs": inputs}
    if isinstance(found["recipes"], str):
        found["recipes"] = [found["recipes"]]
    for text in found["recipes"]:
        if not isinstance(text, str):
            raise UsageError(f"recipe {text!r}: write it as text, such as 'heads=6'")
    found["model"], own = recipe.split_model(model)
    found |= {"overrides": texts(found["overrides"]), "anatomy": dict(found["anatomy"])}
    return _segmented(cast(Side, {**found, "recipes": [*own, *found["recipes"]]}))


def _segmented(side: Side) -> Side:
    """A side whose sequence is as long as its segments together, where it has some."""
    if side["segments"] is None:
        return side
    if isinstance(side["segments"], str) or not isinstance(side["segments"], Sequence):
        raise UsageError(f"segments is {side['segments']!r}: give a list of lengths, such as [24, 296]")
    segments = list(side["segments"])
    if len(segments) < 2 or not all(type(length) is int and length > 0 for length in segments):
        listed = ",".join(map(str, segments))
        raise UsageError(f"--segments {listed}: give the lengths of two segments or more, such as 24,296")
    return {**side, "segments": segments, "sequence_length": sum(segments)}


def texts(overrides: Mapping[str, Any] | None) -> dict[str, str]:
    """New values of configuration fields as text, as the command line has them."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in (overrides or {}).items()}


def checked(side: Side, threads: int | None, min_time_s: float, time: bool) -> Configuration | None:
    """What can be checked of a side before anything is loaded: its configuration, or None where it is own code.

    Where a recipe puts a student in the model's place, the configuration is the student's.

    Raises:
        BertprofError: one of its kinds: the model is not known, or what is asked of it cannot be.
    """
    check(threads, min_time_s, batch_size=side["batch_size"], sequence_length=side["sequence_length"])
    if not 0 <= side["padding"] < 1:
        raise UsageError(f"padding is {side['padding']}; it is a share of the sequence, at least 0 and below 1")
    model = side["model"]
    recipes = recipe.parse_all(side["recipes"])
    student = recipes[0] if recipes and recipes[0].method.stage == "student" else None
    if student is not None and is_reference(student.value):
        raise student.refused(f"{student.value} is your own code; a student is a known name or a folder")
    if student is not None and is_reference(model):
        raise student.refused(f"{model} is your own code, which makes its own inputs; name the student as the model")
    if not is_reference(model):
        if side["inputs"] is not None:
            raise UsageError(f"--inputs goes with a model of the form package.module:callable; {model} makes its own")
        found = configuration.resolve(model)
        if student is not None:
            found = configuration.resolve(student.value)
        if side["weights"] and not time and found.origin != "folder":
            raise UsageError("weights are loaded to be timed: --weights and --no-time exclude each other")
        return found
    given = {
        "--segments": side["segments"] is not None,
        "--padding": bool(side["padding"]),
        "--task": side["task"] is not None,
        "--set": bool(side["overrides"]),
        "--weights or --no-weights": side["weights"] is not None,
        "--attention": side["attention"] != "sdpa",
    }
    if any(given.values()):
        named = ", ".join(option for option, is_given in given.items() if is_given)
        raise UsageError(f"{named}: {model} is your own code, in which that is to be set")
    return None


def check(threads: int | None, min_time_s: float, **sizes: int) -> None:
    """What can be checked of the options before anything is loaded.

    Raises:
        UsageError: one of them cannot be.
    """
    for name, value in sizes.items():
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be at least 1")
    if math.prod(sizes.values()) > MOST_TOKENS:
        raise UsageError(f"{' × '.join(f'{n} {v}' for n, v in sizes.items())} is more than {MOST_TOKENS:,} tokens")
    cores = os.cpu_count() or 1
    if threads is not None and not 1 <= threads <= cores:
        raise UsageError(f"threads is {threads}; it must be from 1 to the {cores} cores of this machine")
    if not 0 <= min_time_s <= LONGEST_S:
        raise UsageError(f"the least time is {min_time_s} s; it must be from 0 to {LONGEST_S:.0f} s")


def is_reference(model: str) -> bool:
    """Whether a model is named as package.module:callable, recipes aside; a path or known name of that form wins."""
    model, _ = recipe.split_model(model)
    return bool(_REFERENCE.fullmatch(model)) and not Path(model).exists() and catalog.find(model) is None


def find(text: str) -> Breakdown | str:
    """What a side of a diff is: a record's file, a folder of records, or else a model's name.

    A folder with config.json is a model; one with records (*.json) stands for one measurement in several processes.

    Raises:
        RecordError: a file is no valid record, or a folder's records cannot be pooled.
    """
    if not text.strip():
        raise UsageError("a side of the diff is empty; give a record, a folder of records or a model")
    path = Path(text)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # too long, or with a null character: no path, and the name will be refused
        return text
    if is_file or (path.exists() and not is_folder):  # a pipe as well: diff <(git show main:cost.json) cost.json
        return record.load(path)
    if is_folder and not (path / "config.json").is_file():
        return pooling.load(path)
    if path.suffix in (".json", ".html", ".gz") and catalog.find(text) is None:
        made = text.removesuffix(".gz")
        raise RecordError(f"cannot read {text}: there is no such file; `bertprof breakdown -o {made}` makes one")
    return text


def like(other: Breakdown, model: str) -> Side:
    """A model with the workload of a record.

    Raises:
        UsageError: the record is of a live module, whose inputs nobody else has.
    """
    w = other.workload
    named = asked_of(model, None, {})
    if is_reference(model):  # the rest is in its own code
        side: Side = {**named, "device": w.device, "batch_size": w.batch_size, "dtype": w.dtype}
        return side if w.sequence_length is None else {**side, "sequence_length": w.sequence_length}
    if w.sequence_length is None:
        raise UsageError(f"{other.name} was measured on inputs of its own: {model} cannot be measured on the same")
    return {
        **named,
        "device": w.device,
        "batch_size": w.batch_size,
        "sequence_length": w.sequence_length,
        "segments": w.segments,
        "padding": w.padding or 0.0,
        "dtype": w.dtype,
        "attention": w.attention if w.attention in ("sdpa", "eager") else DEFAULTS["attention"],
        "task": w.task,
    }


def lengths(text: str, where: str) -> list[int]:
    """The lengths of segments: 24,296 or 24/296.

    Raises:
        UsageError: they are no whole numbers.
    """
    pieces = re.split("[,/]", text)
    if not all(re.fullmatch(r"\s*\d{1,9}\s*", piece) for piece in pieces):
        raise UsageError(f"{where}: give the lengths of two segments or more, such as 24,296")
    return list(map(int, pieces))


_TYPES: Mapping[str, type] = {
    "inputs": str,
    "device": str,
    "batch_size": int,
    "sequence_length": int,
    "segments": list,
    "padding": float,
    "dtype": str,
    "attention": str,
    "task": str,
    "weights": bool,
}
_ALIASES = {"seq_length": "sequence_length"}


def plain(key: str) -> str:
    """A key as records call it: seq-length is sequence_length."""
    name = key.strip().replace("-", "_")
    return _ALIASES.get(name, name)


def changed(side: Side, pairs: Sequence[str], option: str) -> Side:
    """A side with some of what is asked replaced, each written as KEY=VALUE; `set.FIELD` is a configuration's field,
    and `apply` adds a recipe.

    Raises:
        UsageError: a key is unknown, or a value is not of its kind.
    """
    new: dict[str, Any] = {**side, "overrides": dict(side["overrides"]), "recipes": list(side["recipes"])}
    named = set()
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key or not value:
            raise UsageError(f"{option} {pair}: write it as KEY=VALUE, such as attention=eager")
        name = plain(key)
        if key.startswith("set.") and key != "set.":
            new["overrides"][key.removeprefix("set.")] = value
        elif name == "apply":
            new["recipes"].append(value)
        elif name in _TYPES:
            new[name] = _typed(value, _TYPES[name], f"{option} {pair}")
            named.add(name)
        else:
            known = ", ".join((*_TYPES, "apply", "set.FIELD"))
            raise UsageError(f"{option} {pair}: there is no {key!r}; use one of {known}")
    if "sequence_length" in named and "segments" not in named:
        new["segments"] = None  # which are those of the length that is replaced
    return _segmented(cast(Side, new))


def _typed(value: str, kind: type, where: str) -> Any:
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise UsageError(f"{where}: it is true or false")
        return value.lower() == "true"
    if kind is list:
        return lengths(value, where)
    try:
        return kind(value)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise UsageError(f"{where}: it is {wanted}") from None
