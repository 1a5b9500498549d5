"""`bertprof report`, `methods`, `models` and `doctor`: what there is, shown."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from bertprof import catalog, documents, report, session
from bertprof.cli import console, options
from bertprof.cli.options import Debug, Device, Figure, MinTime, Output, Threads, Wide, WidthMm
from bertprof.compress import recipe
from bertprof.compress.methods import METHODS


def report_(
    sources: Annotated[
        list[Path], typer.Argument(metavar="RECORD.json...", help="What `breakdown -o` or `diff -o` wrote.")
    ],
    by: Annotated[
        Literal["group", "component", "unit", "cell", "module"],
        typer.Option(
            help="The view of the table; `module`: the module tree of a record; `cell`: of a diff, each cell."
        ),
    ] = "component",
    wide: Wide = False,
    figure: Figure = None,
    width_mm: WidthMm = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Render saved records or a saved diff again; several records side by side.

    Nothing is measured. An HTML report is as good as the record that it carries. Writes files with -o, else prints the
    table.

    Example: bertprof report before.json after.json -o both.html -o both.csv
    """
    outputs = options.checked(output)
    options.drawn(figure, width_mm, outputs, None)
    found = [documents.load_any(source) for source in sources]
    options.write(
        [(path, report.render_all(found, path, by, wide=wide, figure=figure, width_mm=width_mm)) for path in outputs]
    )
    if not outputs:
        console.show_documents(found, by, wide)


def models(
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False, debug: Debug = False
) -> None:
    """List the models that are known without a network."""
    if json:
        console.show(msgspec.json.format(msgspec.json.encode(catalog.entries()), indent=1).decode() + "\n")
        return
    from bertprof.report import terminal

    console.show(terminal.render_models(catalog.entries(), width=console.width(), color=console.color()))


def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this one in full.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """List the compression methods that can be applied to a model.

    A recipe is a method with its value: heads=6. It stands behind a model, bert-base-uncased+heads=6+int8, or in
    --apply; `diff` of a model and the same with recipes says which part a method moved.
    """
    from bertprof.report import methods as renderer

    only = None if name is None else recipe.find(name)
    if json:
        records = renderer.records(METHODS.values() if only is None else [only])
        content = msgspec.json.encode(records if only is None else records[0])
        console.show(msgspec.json.format(content, indent=1).decode() + "\n")
    elif only is not None:
        console.show(renderer.render_one(only, console.width(), console.color()))
    else:
        console.show(renderer.render(METHODS.values(), console.width(), console.color()))


def doctor(
    device: Device = "auto",
    threads: Threads = None,
    processes: Annotated[
        int, typer.Option(help="Fresh processes for the noise between them, 3 or more; 0: leave that out.")
    ] = 5,
    min_time: MinTime = "2s",
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Is this machine fit to measure on, and how small a change can be seen here?

    Timer, cost of a mark, processor and GPU state, threads, load, and the noise between two runs of the same model,
    within a process and between processes; each with what to do about it.
    """
    with console.progress_bar() as progress:
        checks = session.doctor(
            device=device,
            threads=threads,
            processes=processes,
            min_time_s=options.duration(min_time),
            progress=progress,
        )
    if json:
        console.show(msgspec.json.format(msgspec.json.encode(checks), indent=1).decode() + "\n")
        return
    from bertprof.report import readiness

    console.show(readiness.render(checks, console.width(), console.color()))
