"""What a project sets for itself: `[tool.bertprof]` in the pyproject.toml of the working directory or above it.

[tool.bertprof.anatomy]
'encoder\\.blocks\\.\\d+\\.mixer' = "softmax-attention"
"""

import tomllib
from pathlib import Path
from typing import Any

from bertprof.components import Component
from bertprof.errors import UsageError


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


def _table(start: Path) -> tuple[Path | None, dict[str, Any]]:
    """The nearest pyproject.toml, upwards, and its [tool.bertprof]; an empty one where there is none."""
    for folder in (start, *start.absolute().parents):
        path = folder / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            tools = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read as TOML: {error}") from None
        table = tools.get("bertprof", {}) if isinstance(tools, dict) else {}
        if not isinstance(table, dict):
            raise UsageError(f"{path}: [tool.bertprof] must be a table")
        unknown = set(table) - {"anatomy"}
        if unknown:
            raise UsageError(f"{path}: [tool.bertprof] has no {', '.join(sorted(unknown))}; it has: anatomy")
        return path, table
    return None, {}
