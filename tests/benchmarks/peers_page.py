"""What other counters say beside bertprof, as a page: `make bench-peers` writes reports/peers.md.

Each tool is asked in a process of its own for each model, since some patch torch.

    python tests/benchmarks/peers_page.py reports/peers.md
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from peers import BERT_MACS, DUE, MARK, PEERS, PRODUCTS, SUBJECTS, TOOLS, parts

# What is made of the answers ------------------------------------------------------------------------------------------


def read(printed: str) -> dict[str, Any]:
    """The answer in what a process printed.

    Raises:
        ValueError: there is none.
    """
    lines = [line for line in printed.splitlines() if line.startswith(MARK)]
    if not lines:
        raise ValueError("no answer")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    return found


def asked(tool: str, subject: str) -> dict[str, Any]:
    """The answer of a process of its own; {"error": ...} where there is none."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(Path(__file__).with_name("peers.py")), tool, subject]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    try:
        return read(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": last[-1][:120]}


def in_macs(figure: float, unit: float) -> float:
    """A figure in MACs; `unit` is what the tool says of one."""
    return figure / unit


def difference(found: Mapping[str, Any], macs_of_parts: Mapping[str, int], off: float) -> list[tuple[str, int]]:
    """By which parts a tool's figure of BERT-base is off, in MACs.

    Args:
        found: its answer to "parts".
        macs_of_parts: what is due of each.
        off: by how much the whole is off, MACs.

    Returns:
        part and MACs too many (negative: too few), the largest first; "elsewhere" is what the parts do not explain.
    """
    unit = found["unit"]
    said = {name: None if None in kinds else sum(kinds) / unit for name, kinds in found["parts"].items()}
    linears, biased = said.get("linears"), said.pop("linears with biases", None)
    apart = {name: figure - macs_of_parts[name] for name, figure in said.items() if figure is not None}
    if linears is not None and biased is not None:
        apart["biases"] = biased - linears
    apart["elsewhere"] = off - sum(apart.values())
    whole = [(name, round(figure)) for name, figure in apart.items() if round(figure)]
    return sorted(whole, key=lambda pair: -abs(pair[1]))


def counts_in(unit: float) -> str:
    """What a tool's figure is of, by what it says of one MAC."""
    return {1.0: "MACs", 2.0: "FLOPs: 2 a MAC"}.get(unit, f"{unit:g} a MAC")


# The page -------------------------------------------------------------------------------------------------------------


def page(answers: Mapping[str, Mapping[str, Mapping[str, Any]]], macs_of_parts: Mapping[str, int]) -> str:
    """reports/peers.md, of tool → subject → answer."""
    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers"))
    return "\n".join(
        [
            "# Other counters beside bertprof",
            "",
            f"Written by `make bench-peers`: {_machine()}, {versions}, Python {platform.python_version()}.",
            "",
            "Each tool was asked for BERT-base at 1 × 128 tokens, with its pooler, in a process of its own. What its",
            "figure is of was found by asking it for one linear. Nothing here is a time: the figures are the same on",
            "every machine. MACs that are due, by hand:",
            "",
            f"- BERT-base: 12 · 128 · (4 · 768² + 2 · 768 · 3,072) + 12 · 2 · 128² · 768 + 768² = {BERT_MACS:,},",
            f"  of them {PRODUCTS:,} the two products of softmax attention; 109,482,240 parameters.",
            f"- ALBERT-base: 128 · 128 · 768 more, {DUE['albert'][0]:,}; 11,683,584 parameters, which its twelve",
            "  units share.",
            "",
            "## What they count",
            "",
            *_table(
                ("tool", "figure is of", "MACs of BERT-base, sdpa", "off by", "eager attention: off by", "parameters"),
                [_counts(tool, found) for tool, found in answers.items()],
            ),
            "## Where the difference comes from",
            "",
            "Each part of BERT-base was also shown to each tool alone, at its real size, and the figure multiplied by",
            "how often the part is there. *Elsewhere*, if it stands in a row, is what that leaves unexplained.",
            "",
            *_table(
                ("tool", "MACs too many (+) or too few (−), sdpa"),
                [_why(tool, found, macs_of_parts) for tool, found in answers.items()],
            ),
            "## Shared weights: ALBERT-base",
            "",
            *_table(
                ("tool", "MACs, sdpa", "off by", "parameters", "off by"),
                [_shared(tool, found) for tool, found in answers.items()],
            ),
            "## What they tell, and what they leave behind",
            "",
            *_table(
                (
                    *("tool", "figures by module", "by operator", "times of modules", "components †"),
                    *("compares two models †", "left in the model", "left where the forward fails"),
                ),
                [_tells(tool, found) for tool, found in answers.items()],
            ),
            "† From the tool's documentation; all else was found by the script. *By module*: how many modules of",
            "BERT-base have a figure above 0; bertprof's is the module's own, the others' are with its children, and",
            "where they are printed into torch's picture of a model, equal units stand once. *Left*: attributes,",
            "hooks, buffers and modes of every module, and torch's functions, before and after; the forward fails in",
            "the seventh unit.",
            "",
        ]
    )


def _table(headers: tuple[str, ...], rows: list[str]) -> list[str]:
    return [_row(*headers), _row(*["---"] * len(headers)), *rows, ""]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _off(figure: float, due: int) -> str:
    gap = round(figure) - due
    return "0" if gap == 0 else f"{'+' if gap > 0 else '−'}{abs(gap):,} ({100 * gap / due:+.2f} %)".replace("-", "−")


def _label(tool: str) -> str:
    return tool if tool == "bertprof" else f"{tool} {_version(TOOLS[tool].distribution)}"


def _counts(tool: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    sdpa, unit = found["sdpa"], found["parts"].get("unit")
    if "error" in sdpa or unit is None:
        return _row(_label(tool), "–", f"failed: {sdpa.get('error') or found['parts']['error']}", *"–––")
    macs, due = in_macs(sdpa["figure"], unit), DUE["sdpa"]
    eager = found["eager"]
    return _row(
        _label(tool),
        counts_in(unit),
        f"{macs:,.0f}",
        _off(macs, due[0]),
        f"failed: {eager['error']}" if "error" in eager else _off(in_macs(eager["figure"], unit), due[0]),
        "not told" if sdpa["parameters"] is None else _parameters(sdpa["parameters"], due[1]),
    )


def _parameters(said: int, due: int) -> str:
    return f"{said:,}" if said == due else f"{said:,}, off by {_off(said, due)}"


def _why(tool: str, found: Mapping[str, Mapping[str, Any]], macs_of_parts: Mapping[str, int]) -> str:
    if "error" in found["sdpa"] or "error" in found["parts"]:
        return _row(_label(tool), "–")
    off = in_macs(found["sdpa"]["figure"], found["parts"]["unit"]) - DUE["sdpa"][0]
    apart = difference(found["parts"], macs_of_parts, off)
    return _row(_label(tool), ", ".join(f"{name} {'+' if n > 0 else '−'}{abs(n):,}" for name, n in apart) or "none")


def _shared(tool: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    albert, unit = found["albert"], found["parts"].get("unit")
    if "error" in albert or unit is None:
        return _row(_label(tool), f"failed: {albert.get('error')}", *"–––")
    macs, due = in_macs(albert["figure"], unit), DUE["albert"]
    said = albert["parameters"]
    return _row(
        _label(tool),
        f"{macs:,.0f}",
        _off(macs, due[0]),
        *(("not told", "–") if said is None else (f"{said:,}", _off(said, due[1]))),
    )


def _tells(tool: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    sdpa = found["sdpa"]
    if "error" in sdpa:
        return _row(_label(tool), *"–––––––")
    peer = TOOLS[tool]
    return _row(
        _label(tool),
        f"yes, {sdpa['modules']}" if sdpa["modules"] else "no",
        *("yes" if said else "no" for said in (sdpa["operators"], sdpa["timed"], peer.components, peer.compares)),
        sdpa["changed"] or "nothing",
        found["failing"].get("left", found["failing"].get("error")) or "nothing",
    )


def _version(distribution: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    found = next(iter(importlib.metadata.distributions(name=distribution, path=[str(PEERS)])), None)
    return "(not installed)" if found is None else found.version


def _machine() -> str:
    import torch

    from bertprof.measure import host

    found = host.describe(torch.device("cpu"))
    return f"{found.cpu}, {found.cores} cores"


def main(where: Path) -> None:
    """Asks all, two at a time, and writes the page."""
    subjects = [*SUBJECTS, "parts", "failing"]
    with ThreadPoolExecutor(2) as pool:
        found = {(tool, subject): pool.submit(asked, tool, subject) for tool in TOOLS for subject in subjects}
        answers = {tool: {subject: found[tool, subject].result() for subject in subjects} for tool in TOOLS}
    macs_of_parts = {name: sum(part.times * part.macs for part in kinds) for name, kinds in parts().items()}
    where.write_text(page(answers, macs_of_parts), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
