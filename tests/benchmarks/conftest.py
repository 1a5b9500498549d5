"""What the benchmarks share: the report that they write."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from bertprof.formatting import plain
from bertprof.measure import host
from bertprof.record import now

REPORT = Path(__file__).parents[2] / "reports" / "benchmarks.md"

Note = Callable[[str, str, str], None]


@pytest.fixture(scope="session")
def note() -> Iterator[Note]:
    """Notes a claim, its bar and what was measured; all are written down at the end."""
    rows: list[str] = []

    def add(claim: str, bar: str, measured: str) -> None:
        rows.append(f"| {claim} | {bar} | {measured} |")
        print(f"\n{claim}: {measured} (bar: {bar})")

    yield add
    machine = host.describe(torch.device("cpu"))
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {now()[:10]}: {plain(machine.cpu)}, {machine.cores} cores, "
        f"torch {machine.torch}, transformers {machine.transformers}, Python {machine.python}.",
        "",
        "| claim | bar | measured |",
        "| --- | --- | --- |",
        *rows,
    ]
    REPORT.write_text("\n".join(lines) + "\n")
