"""The compression methods, listed and one in full, for a terminal, for Markdown and for a program."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bertprof.components import GROUPS
from bertprof.compress.methods import COLUMNS, STAGES, Kind, Method, Option
from bertprof.report.console import console_of, trimmed

WIDE = 110
"""From this width on the list shows what a method targets and where it is from."""

_PLACES: dict[Kind, str] = {
    "none": "",
    "choice": "[=WORD]",
    "count": "=N",
    "counts": "=N,...",
    "indices": "=N,...",
    "width": "=BITS",
    "widths": "=BITS,...",
    "zeros": "=SHARE",
    "model": "=MODEL",
}

_CHANGES = {"parameters": "P", "bytes": "B", "macs": "M", "time": "T"}

LEGEND = "P parameters, B bytes, M MACs, T time: what a method can change"

_HOW = (
    "Methods stand behind a model and apply one after another, bert-base-uncased+heads=6+int8, or in --apply; "
    "`bertprof methods NAME` explains one."
)


def usage(method: Method) -> str:
    """As it is written: heads=N,..."""
    return method.name + _PLACES[method.kind]


def options(method: Method) -> list[str]:
    """What may stand behind that: ,groups=N."""
    return [f",{name}{_PLACES[option.kind].strip('[]')}" for name, option in method.options.items()]


def targets(method: Method) -> str:
    """What it means to make cheaper, by groups of components."""
    found = [name for name, members in GROUPS.items() if set(members) & set(method.targets)]
    return ", ".join(found) if len(found) < len(GROUPS) - 1 else "all"


def changes(method: Method) -> str:
    """What it can change, as reports call it."""
    return ", ".join("MACs" if change == "macs" else change for change in method.changes)


def render(methods: Iterable[Method], width: int = 100, color: bool = False) -> str:
    """A list: how each is written, its column of Table 1, what it does and can change.

    Args:
        methods: those to list.
        width: columns of the terminal; a wide one shows targets and papers as well.
        color: write ANSI colours.
    """
    console, stream = console_of(width, color)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", expand=True)
    table.add_column("method", no_wrap=True)
    table.add_column("Table 1", width=7)
    table.add_column("what it does", ratio=4)
    for letter in _CHANGES.values():
        table.add_column(letter, no_wrap=True)
    wide = width >= WIDE
    if wide:
        table.add_column("targets", width=18)
        table.add_column("paper", ratio=3)
    for method in methods:
        written = Text("\n").join([Text(usage(method)), *(Text(f"  {text}", style="dim") for text in options(method))])
        ticks = ["✓" if change in method.changes else "" for change in _CHANGES]
        cells = [" ".join(method.columns), method.help, *ticks]
        if wide:
            cells += [targets(method), "; ".join(paper.partition(", arXiv")[0] for paper in method.papers)]
        table.add_row(written, *map(Text, cells))
    console.print(table)
    console.print(Text(LEGEND, style="dim"))
    console.print(Text(_HOW, style="dim"))
    return trimmed(stream)


def render_one(method: Method, width: int = 100, color: bool = False) -> str:
    """One in full: its value and options, what it targets and changes, where it may stand, its papers, an example."""
    console, stream = console_of(width, color)
    console.print(Text.assemble((method.name, "bold"), f": {method.help}\n"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for word, text in _facts(method):
        grid.add_row(Text(word), Text(text))
    console.print(grid)
    return trimmed(stream)


def _facts(method: Method) -> list[tuple[str, str]]:
    found = [("written", usage(method))]
    if method.value:
        found.append(("value", f"{method.value}{_words(method.choices)}"))
    found += [
        ("options" if i == 0 else "", f"{written}  {_explained(option)}")
        for i, (written, option) in enumerate(zip(options(method), method.options.values(), strict=True))
    ]
    found += [
        ("units", "units=0-5: before it, for these units alone" if method.scoped else "for the whole model only"),
        ("targets", targets(method)),
        ("can change", changes(method)),
        ("Table 1", ", ".join(f"{column} {COLUMNS[column]}" for column in method.columns)),
        *(("paper" if i == 0 else "", paper) for i, paper in enumerate(method.papers)),
        ("order", _order(method)),
        ("example", f"bertprof diff bert-base-uncased bert-base-uncased+{method.example}"),
    ]
    return found


def _explained(option: Option) -> str:
    text = f"{option.help}{_words(option.choices)}"
    return text if option.choices or not option.default else f"{text} (default {option.default})"


def _words(choices: Sequence[str]) -> str:
    """The words to choose from, the default first."""
    return f" ({', '.join([f'{choices[0]}, the default', *choices[1:]])})" if choices else ""


_STAGES = {
    "student": "a student",
    "structure": "what cuts or shares",
    "attention": "how units attend",
    "cache": "a cached segment",
    "zeros": "zeros",
    "dtype": "a dtype",
    "quantization": "quantising",
}


def _order(method: Method) -> str:
    """Where it stands among other recipes."""
    at = STAGES.index(method.stage)
    before, after = ([_STAGES[stage] for stage in part] for part in (STAGES[:at], STAGES[at + 1 :]))
    parts = [*([f"after {', '.join(before)}"] if before else []), *([f"before {', '.join(after)}"] if after else [])]
    return "; ".join(parts)


def records(methods: Iterable[Method]) -> list[dict[str, object]]:
    """One entry a method, for a program to read."""
    return [
        {
            **method._asdict(),
            "usage": usage(method),
            "targets": [str(component) for component in method.targets],
            "options": {name: option._asdict() for name, option in method.options.items()},
        }
        for method in methods
    ]


def render_markdown(methods: Iterable[Method]) -> str:
    """The list as a table for docs/methods.md."""
    heads = ("method", "Table 1", "what it does", "targets", "can change", "paper")
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for method in methods:
        written = " ".join(f"`{text}`" for text in (usage(method), *options(method)))
        columns, papers = ", ".join(method.columns), "; ".join(method.papers)
        cells = (written, columns, method.help, targets(method), changes(method), papers)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
