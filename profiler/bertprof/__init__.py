"""bertprof: where the parameters, FLOPs and time of a BERT-like Transformer go, component by component.

    import bertprof

    b = bertprof.breakdown("bert-base-uncased", device="cpu")
    print(b)                 # the table
    b.frame()                # a pandas DataFrame
    b.figure()               # the survey's Figure 2, a matplotlib Figure
    b.save("bert.json")      # the record; bertprof.load reads it back

    d = bertprof.compare("bert-base-uncased", "distilbert-base-uncased")
    print(d)                 # what changed, and where the gain came from

Importing this package is light: torch and the rest are loaded when a measurement asks for them.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bertprof.components import Component
    from bertprof.difference import Diff
    from bertprof.errors import BertprofError
    from bertprof.record import Breakdown, load
    from bertprof.session import breakdown, compare, diff, profile, survey_methods, survey_table1

__all__ = [
    "BertprofError",
    "Breakdown",
    "Component",
    "Diff",
    "__version__",
    "breakdown",
    "compare",
    "diff",
    "load",
    "profile",
    "survey_methods",
    "survey_table1",
]

_HOMES = {
    "BertprofError": "bertprof.errors",
    "Breakdown": "bertprof.record",
    "Component": "bertprof.components",
    "Diff": "bertprof.difference",
    "breakdown": "bertprof.session",
    "compare": "bertprof.session",
    "diff": "bertprof.session",
    "load": "bertprof.record",
    "profile": "bertprof.session",
    "survey_methods": "bertprof.session",
    "survey_table1": "bertprof.session",
}


def __getattr__(name: str) -> Any:
    """Public names come from their modules on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
