"""Recipes: compression methods as a user writes them, read and checked without anything heavy.

`heads=6`, `heads=12,12,8`, `units=0-5:ffn=1024`, `bits=4,embedding=8,groups=128`; joined by `+` they apply one after
another. A value of several numbers is written with commas or slashes. A model may carry its recipes in its name:
`bert-base-uncased+heads=6+int8`.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bertprof import formatting
from bertprof.compress.methods import FLOAT_BITS, FREE_STAGES, METHODS, SEMI_STRUCTURED, STAGES, WIDEST, Kind, Method
from bertprof.errors import UsageError

MOST = 10**6
"""No count in a recipe is larger."""


class Recipe(NamedTuple):
    """One method with what it is given.

    Attributes:
        method: the method.
        values: its own value: none, one, or one a unit or index.
        options: every option of the method, defaults filled in; None where it has none of its own.
        units: the units that it is for; None: all.
        text: as it is recorded; reading it again gives the same.
    """

    method: Method
    values: tuple[Any, ...]
    options: Mapping[str, Any]
    units: tuple[int, ...] | None
    text: str

    @property
    def value(self) -> Any:
        """Its own value where there is one only."""
        (value,) = self.values
        return value

    def refused(self, why: str) -> UsageError:
        """The error that says why it cannot be applied."""
        return _refused(self.text, why)


def _refused(text: str, why: str) -> UsageError:
    return UsageError(f"recipe {formatting.line(text, 80)}: {why}")


_KNOWN = "|".join(sorted(METHODS, key=len, reverse=True))
_JOINT = re.compile(rf"\+\s*(?=(?:units=[\d,\- ]*:)?(?:{_KNOWN})\s*(?:[=,+]|$))")
"""A plus before a known method: paths and names of students may hold others."""


_NAME = re.compile(r"\w[\w.-]*(?:/[\w.-]+)?|[\w.]+:[\w.]+")
"""Names of a catalogue or hub, and of own code. None holds a plus: what stands behind one is meant to be a recipe."""


def split_model(text: str) -> tuple[str, list[str]]:
    """A model as it was typed and the recipes behind it; the longest path that exists wins.

    Raises:
        UsageError: a recipe behind it is unknown or cannot be read.
    """
    ends = [len(text), *(joint.start() for joint in reversed(list(_JOINT.finditer(text))))]
    end = next((end for end in ends if _exists(text[:end])), ends[-1])
    before, plus, _ = text[:end].partition("+")
    if plus and not _exists(text[:end]) and (_NAME.fullmatch(before) or _exists(before)):
        end = len(before)
    return text[:end], [recipe.text for recipe in parse_all([text[end + 1 :]] if end < len(text) else [])]


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def parse_all(texts: Sequence[str]) -> list[Recipe]:
    """Recipes in the order in which they apply; each text may hold several, joined by `+`.

    Raises:
        UsageError: one cannot be read, or two cannot follow each other.
    """
    recipes = [parse(part) for text in texts for part in _apart(text)]
    for i, recipe in enumerate(recipes):
        for earlier in recipes[:i]:
            _check_order(earlier, recipe)
        if recipe.method.name == "cache-segment" and all(r.method.name != "decompose-attention" for r in recipes):
            raise recipe.refused(
                "only what attends within its segment can be computed beforehand; write "
                f"decompose-attention=9+{recipe.text}"
            )
    return recipes


def _apart(text: str) -> list[str]:
    """Recipes that are joined. Only the name of a student may hold a plus, as a path."""
    joints = [joint.start() for joint in _JOINT.finditer(text)]
    first = next(iter(joints), len(text))
    if re.match(r"\s*student\s*=", text):
        path = text.partition("=")[2].lstrip()
        begin = len(text) - len(path)
        # The longest path that exists, as of a model.
        first = next((end for end in (len(text), *reversed(joints)) if _exists(text[begin:end])), first)
        return [text[:first], *(_apart(text[first + 1 :]) if first < len(text) else [])]
    return [*text[:first].split("+"), *(_apart(text[first + 1 :]) if first < len(text) else [])]


def find(name: str, where: str = "") -> Method:
    """A method by name.

    Args:
        name: as recipes call it.
        where: what an error begins with.

    Raises:
        UsageError: there is none; the text names the nearest.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name.lower(), METHODS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"{where}there is no method {name!r}; {hint}`bertprof methods` lists them")
    return METHODS[name]


def parse(text: str) -> Recipe:
    """One recipe.

    Raises:
        UsageError: it cannot be read; the text says what is wrong and, for a misspelt method, what is near.
    """
    if not text.strip():
        raise UsageError("a recipe is empty; write heads=6, or heads=6+int8; `bertprof methods` lists them")
    scope, separator, body = text.strip().partition(":")
    if not (separator and scope.strip().startswith("unit")):
        scope, body = "", text.strip()
    head, *options = _parts(body)
    name, equals, value = (part.strip() for part in head.partition("="))

    def wrong(why: str) -> UsageError:
        return _refused(text, why)

    if not name:
        raise wrong(f"write a method behind {scope.strip()}:, as {scope.strip()}:heads=6")
    if not scope and re.match(r"units?\b", name):
        raise wrong("write the units before the method, as units=0-5:heads=6")
    if "," in name:
        raise wrong("there is nothing behind its comma")
    method = find(name, f"recipe {formatting.line(text, 80)!r}: ")
    if scope and not method.scoped:
        raise wrong(f"{name} is for the whole model; leave out {scope.strip()}:")
    units = _units(scope, wrong) if scope else None
    if equals and not value:
        raise wrong(f"there is nothing behind {name}=")
    if method.kind == "none" and value:
        raise wrong(f"{name} takes no value")
    if not value and method.kind not in ("none", "choice"):
        raise wrong(f"write it as {name}=...: {method.value}")
    values = _values(method.kind, value or "", method.choices, name, wrong)
    given: dict[str, Any] = {}
    written = []
    for option in options:
        key, _, setting = (part.strip() for part in option.partition("="))
        if key not in method.options:
            known = f"it has {', '.join(method.options)}" if method.options else "it has none"
            raise wrong(f"{name} has no option {key!r}; {known}")
        if key in given:
            raise wrong(f"{key} is given twice")
        kind, choices = method.options[key].kind, method.options[key].choices
        if not setting:
            raise wrong(f"there is nothing behind {key}=")
        (given[key],) = _values(kind, setting, choices, key, wrong)
        written.append(f"{key}={setting}")
    defaults = {
        key: _values(option.kind, option.default, option.choices, key, wrong)[0] if option.default else None
        for key, option in method.options.items()
    }
    own = ",".join(map(str, values)) if value else ""
    canonical = (f"{scope.replace(' ', '')}:" if scope else "") + name + (f"={own}" if own else "")
    return Recipe(method, values, {**defaults, **given}, units, ",".join([canonical, *written]))


def _parts(body: str) -> list[str]:
    """The value with all its numbers, then each option: a part without `=` belongs to what is before it."""
    parts: list[str] = []
    for part in body.split(","):
        if parts and "=" not in part:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return parts


def _units(scope: str, wrong: Any) -> tuple[int, ...]:
    """The indices of units=0-5,7."""
    found: list[int] = []
    name, _, text = scope.partition("=")
    if name.strip() != "units":
        raise wrong("write the units as units=0-5: or units=0,2,4:")
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?", part)
        if ends is None:
            raise wrong("write the units as units=0-5: or units=0,2,4:")
        start, stop = int(ends[1]), int(ends[2] or ends[1])
        if start > stop:
            raise wrong(f"units {part.strip()}: the first is behind the last")
        found.extend(range(start, stop + 1))
    if len(set(found)) < len(found):
        raise wrong("a unit is named twice")
    return tuple(sorted(found))


def _values(kind: Kind, text: str, choices: Sequence[str], key: str, wrong: Any) -> tuple[Any, ...]:
    """What a text means, by its kind; empty for none."""
    if kind == "none":
        return ()
    if kind == "model":
        return (text,)
    if kind == "choice":
        word = text or choices[0]
        if word not in choices:
            raise wrong(f"{key} is {word!r}; use one of {', '.join(choices)}")
        return (word,)
    if kind == "zeros":
        if text == SEMI_STRUCTURED:
            return (text,)
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            raise wrong(f"{key} is {text!r}; write a share, such as {key}=0.6, or {key}=2:4") from None
        if not 0 < share < 1:
            raise wrong(f"{key} is {text}; it is a share above 0 and below 1")
        return (share,)
    several = kind in ("counts", "widths", "indices")
    pieces = [piece.strip() for piece in re.split("[,/]", text)]
    if len(pieces) > 1 and not several:
        raise wrong(f"{key} takes one number, not {len(pieces)}")
    if not all(re.fullmatch(r"\d{1,99}", piece) for piece in pieces):
        raise wrong(f"{key} is {text!r}; write {'whole numbers' if several else 'a whole number'}, such as {key}=8")
    numbers = tuple(map(int, pieces))
    least = 0 if kind == "indices" and len(numbers) > 1 else 1
    for number in numbers:
        if kind in ("width", "widths") and not (1 <= number <= WIDEST or number == FLOAT_BITS):
            raise wrong(f"{key} is {number}; a weight has 1 to {WIDEST} bits, or {FLOAT_BITS}: it stays as it is")
        if not least <= number <= MOST:
            raise wrong(f"{key} is {number:,}; it must be at least {least} and at most {MOST:,}")
    if kind == "indices" and len(numbers) > 1 and sorted(set(numbers)) != list(numbers):
        raise wrong(f"{key} is {text}; the indices of units must rise")
    return numbers


_WHY = {
    "student": "a student replaces the whole model",
    "structure": "what is left to remove or share must be known before weights are zeroed or quantised",
    "attention": "how units attend is changed before their weights are zeroed or quantised, or a segment is cached",
    "cache": "a segment is cached before weights are zeroed or quantised",
    "zeros": "weights are zeroed before they are cast or quantised",
    "dtype": "quantised weights are cast no more",
}


def _check_order(earlier: Recipe, later: Recipe) -> None:
    """Refuses two recipes of which the later cannot follow the earlier."""
    first, second = earlier.method, later.method
    apart = earlier.units is not None and later.units is not None and not {*earlier.units} & {*later.units}
    if first.stage == second.stage and first.stage not in FREE_STAGES and not apart:
        raise later.refused(f"it cannot follow {earlier.text}: a weight is in one of both; leave one out")
    if first.name == second.name and not apart:
        raise later.refused(f"it cannot follow {earlier.text}: {second.name} is given twice; leave one out")
    if "int8" in (first.name, second.name) and "dtype" in (first.stage, second.stage):
        why = "the integer kernels take float32 activations; leave one out"
        raise later.refused(f"it does not go with {earlier.text}: {why}")
    if STAGES.index(first.stage) > STAGES.index(second.stage) and second.stage in _WHY:
        raise later.refused(f"it cannot follow {earlier.text}: {_WHY[second.stage]}; write {later.text}+{earlier.text}")
