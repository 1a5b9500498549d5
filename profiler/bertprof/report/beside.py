"""What Table 2 and the survey's methods both say of a model beside BERT-base."""

from collections.abc import Iterable, Sequence

from bertprof import formatting
from bertprof.difference import Latency
from bertprof.record import Caveat
from bertprof.report import lines
from bertprof.survey.methods import Methods
from bertprof.survey.table2 import Table2

_TOLD = ("marks", "time-not-split", "no-kernel", "mismatch", "quantised")
"""Codes of what stands in the cells already, and of what is about single components."""


def setting(document: Table2 | Methods) -> list[str]:
    """The work and the machine."""
    parts = lines.workload_parts(document.workload, document.timed)
    return [", ".join(parts.values()), lines.machine_line(document.host, document.workload.device)]


def timed(after: Latency, before: Latency, rounds: int | None) -> str:
    """Both latencies."""
    found = [
        f"{formatting.measured(latency.median_ms)} ms [{formatting.measured(latency.low_ms)}, "
        f"{formatting.measured(latency.high_ms)}]"
        for latency in (after, before)
    ]
    return f"{found[0]} against {found[1]} of BERT-base in the same {rounds} rounds"


def caveats(found: Iterable[Caveat]) -> list[str]:
    """The texts of caveats that a reader does not know from the table, each once."""
    return list(dict.fromkeys(formatting.line(caveat.text) for caveat in found if caveat.code not in _TOLD))


def sentences(found: Iterable[str]) -> list[str]:
    """Texts that end as sentences do."""
    return [formatting.line(text if text.endswith((".", "?")) else f"{text}.", 1000) for text in found]


def command(base: str | None, model: str | None, settings: Sequence[str], segments: Sequence[int] | None) -> str:
    """How to measure a model beside BERT-base by itself."""
    asked = f" --segments {','.join(map(str, segments))}" if segments else ""
    asked += "".join(f" --after {setting}" for setting in settings)
    return formatting.line(f"bertprof diff {base} {model}{asked}", 1000)
