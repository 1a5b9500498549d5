"""Names that mean harm, and records and diffs of which every text that their makers can choose is such a name."""

from collections.abc import Mapping

from compared import gate, real

from bertprof.comparison import Comparison
from bertprof.difference import Diff
from bertprof.record import Breakdown, Caveat

NAMES: Mapping[str, str] = {
    "script": "</script><script>alert(1)</script>",
    "handler": "<img src=x onerror=alert(1)><svg/onload=alert(1)>",
    "quotes": "\"onmouseover=alert(1) x='y' `z`",
    "entity": "&lt;b&gt; &#60;script&#62;",
    "table": "a | b || c\\| d",
    "markdown": "![a](javascript:alert(1)) [b](//c) **d** _e_ ~~f~~ <https://g> - # h",
    "block": "a\n\n# b\n\n> c\n\n```\nd\n```\n- e\n\n---\r\n\tf",
    "math": "$x$ $$\\frac{y}{z}$$ 100% %s {0} {{ 7 * 7 }} {% raw %}",
    "formula": "=1+1",
    "formula-behind": "@SUM(A1)\t+1",
    "long": "bert" * 1250,
    "override": "a\u202eb\u202c \u202dc\u202c \u2066d\u2069 \u2067e\u2069 \u2068f\u2069 \u200eg\u200f",
    "right-to-left": "\u0646\u0645\u0648\u0630\u062c 12 \u05e2\u05d1\u05e8\u05d9\u05ea 34",
    "control": "a\x1b[31mb\x1b]0;c\x07\x9b2Jd\x00e\x7ff\x08g\x85h",
    "invisible": "a\u200bb\u200dc\ufeffd\u00ade\u2028f\u2029g",
    "emoji": "\U0001f916\U0001f468\u200d\U0001f4bb e\u0301",
    "surrogate-free": "\U0010ffff\ufffe",
    "command": "::error::x `rm` $(rm) @somebody #1",
}

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
"""Characters that change the order in which others are shown."""


def named(name: str) -> Breakdown:
    """The real record, in which every text that its maker can choose is this name."""
    found = real()
    w, h = found.workload, found.host
    found.label = w.model = w.config_sha256 = name
    w.recipes = [name] * 3
    h.cpu = h.os = h.torch = name
    found.command = f"bertprof breakdown {name}"
    found.caveats = [Caveat(code="x", text=name)]
    for module in found.modules or []:
        module.type = name
    for cost in found.costs:
        cost.operators = {f"{name}{key}": operator for key, operator in cost.operators.items()}
    return found


def named_diff(name: str) -> Diff:
    """The same of a diff, with a gate that failed."""
    before, after = named(name), named(name)
    for cost in after.costs:
        cost.parameters *= 2
    diff = Comparison(before, after).diff()
    diff.gates = [gate("failed", text=name, origin=name, reason=name)]
    diff.command = f"bertprof diff {name} {name}"
    return diff
