"""What a project sets for itself: `[tool.bertprof]` of the nearest pyproject.toml upwards that has one.

[tool.bertprof]
fail-on = ["parameters:+0", "ffn.time:+5%"]     # warn-on, require, budget: see bertprof.gate
strict = true
allow-mismatch = ["torch"]
min-samples = 20

[tool.bertprof.anatomy]
'encoder\\.blocks\\.\\d+\\.mixer' = "softmax-attention"
"""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bertprof.components import Component
from bertprof.errors import UsageError

if TYPE_CHECKING:
    from bertprof.limits import Spec

_KEYS = ("anatomy", "fail-on", "warn-on", "require", "budget", "strict", "allow-mismatch", "min-samples")


class GateSettings(NamedTuple):
    """How a project judges a change: its gates, and the options of `bertprof diff` of the same names."""

    specs: "list[Spec]"
    strict: bool
    allow_mismatch: list[str]
    min_samples: int


def gates(start: Path | None = None) -> GateSettings:
    """The project's gates.

    Args:
        start: where to look first; the working directory otherwise.

    Raises:
        UsageError: the file is no TOML, or a value is none of its key; the text names both.
    """
    from bertprof import gate, limits
    from bertprof.conditions import MISMATCHES

    path, table = _table(start or Path.cwd())
    specs = limits.parse_all({kind: _texts(table.get(kind, []), path, kind) for kind in limits.KINDS}, str(path))
    strict = table.get("strict", False)
    if not isinstance(strict, bool):
        raise UsageError(f"{path}: [tool.bertprof] strict is {strict!r}; write true or false")
    allowed = _texts(table.get("allow-mismatch", []), path, "allow-mismatch")
    for key in allowed:
        if key not in MISMATCHES:
            known = ", ".join(MISMATCHES)
            raise UsageError(f"{path}: [tool.bertprof] allow-mismatch has {key!r}; use one of {known}")
    fewest = table.get("min-samples", gate.FEWEST_SAMPLES)
    if not isinstance(fewest, int) or isinstance(fewest, bool) or fewest < 1:
        raise UsageError(f"{path}: [tool.bertprof] min-samples is {fewest!r}; write a whole number from 1 on")
    return GateSettings(specs, strict, allowed, fewest)


def anatomy(start: Path | None = None) -> dict[str, str]:
    """The project's mapping of modules to components: regular expression on a module's path → component, or "unit".

    Args:
        start: where to look first; the working directory otherwise.

    Raises:
        UsageError: the file is no TOML, or the table does not map expressions to components.
    """
    path, table = _table(start or Path.cwd())
    mapping = table.get("anatomy", {})
    if not isinstance(mapping, dict):
        raise UsageError(f"{path}: [tool.bertprof.anatomy] must be a table of expression = component")
    for expression, component in mapping.items():
        if component not in (*Component, "unit"):
            known = ", ".join((*Component, "unit"))
            raise UsageError(f"{path}: [tool.bertprof.anatomy] {expression!r} is {component!r}; use one of {known}")
    return mapping


def _texts(value: Any, path: Path | None, key: str) -> list[str]:
    """A list of texts, or the one text that stands for it."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{path}: [tool.bertprof] {key} must be a text or a list of texts, not {value!r}")
    return texts


def _table(start: Path) -> tuple[Path | None, dict[str, Any]]:
    """The nearest pyproject.toml, upwards, that has a [tool.bertprof], and this; an empty one where none has."""
    for folder in (start, *start.absolute().parents):
        path = folder / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            tools = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read as TOML: {error}") from None
        if not isinstance(tools, dict) or "bertprof" not in tools:
            continue
        table = tools["bertprof"]
        if not isinstance(table, dict):
            raise UsageError(f"{path}: [tool.bertprof] must be a table")
        unknown = set(table) - set(_KEYS)
        if unknown:
            raise UsageError(f"{path}: [tool.bertprof] has no {', '.join(sorted(unknown))}; it has: {', '.join(_KEYS)}")
        return path, table
    return None, {}
