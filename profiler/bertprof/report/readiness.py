"""What `bertprof doctor` found, as a terminal's table."""

import textwrap
from collections.abc import Mapping, Sequence

from bertprof.formatting import plain
from bertprof.readiness import Check, Verdict

_COLOURS: Mapping[Verdict, str] = {"ok": "\x1b[32m", "warn": "\x1b[1;33m", "info": "\x1b[2m"}
_BOLD, _RESET = "\x1b[1m", "\x1b[0m"

_NARROW = 30
"""With less room than this beside the names, what was found stands behind its name and not in a column."""


def render(checks: Sequence[Check], width: int = 100, color: bool = False) -> str:
    """One row a check: verdict, name, what was found; its advice stands below. Then how many warn.

    Args:
        checks: what was found.
        width: columns of the terminal.
        color: write ANSI colours.
    """
    longest = max((len(check.name) for check in checks), default=0)
    is_narrow = width - longest - len("warn    ") < _NARROW
    lines = []
    for check in checks:
        colour = _COLOURS[check.verdict] if color else ""
        reset = _RESET if color else ""
        name = f"{check.name}: " if is_narrow else f"{check.name:<{longest}}  "
        indent = " " * len("warn  " if is_narrow else f"warn  {name}")
        found = _wrapped(check.value, f"{check.verdict:<4}  {name}", indent, width)
        lines += [f"{colour}{check.verdict}{reset}{found[0][len(check.verdict) :]}", *found[1:]]
        if check.advice is not None:
            advice = _wrapped(check.advice, f"{indent}→ ", f"{indent}  ", width)
            lines += [f"{indent}{colour}{line[len(indent) :]}{reset}" for line in advice]
    warnings = sum(check.verdict == "warn" for check in checks)
    text = f"{warnings} warning{'s' if warnings > 1 else ''}" if warnings else "ready: nothing here spoils measurements"
    lines += ["", f"{_BOLD}{text}{_RESET}" if color else text]
    return "".join(f"{line}\n" for line in lines)


def _wrapped(text: str, first: str, rest: str, width: int) -> list[str]:
    """Text without control characters in lines of that width. A command's options are not torn apart."""
    room = max(width, len(rest) + 8)
    wrapped = textwrap.wrap(
        plain(text), room, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=False
    )
    return wrapped or [first.rstrip()]
