"""`bertprof survey`: what the survey shows, measured here."""

import functools
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import typer

from bertprof import catalog, files, record, report, schema, session
from bertprof.cli import console, options
from bertprof.cli.options import BatchSize, Debug, Device, MinTime, NoTime, Output, SeqLength, Threads
from bertprof.difference import Diff
from bertprof.errors import UsageError
from bertprof.survey import claims, systems
from bertprof.survey import methods as documents
from bertprof.survey import table2 as tables
from bertprof.survey.approaches import Approach
from bertprof.survey.methods import Methods
from bertprof.survey.table2 import Table2

Found = TypeVar("Found", Methods, Table2)


def figure2(
    device: Device = "auto",
    seq_length: SeqLength = claims.SEQUENCE_LENGTH,
    threads: Threads = None,
    no_time: NoTime = False,
    min_time: MinTime = "2s",
    source: Annotated[
        Path | None, typer.Option("--record", help="Check a saved record instead of measuring BERT-base.")
    ] = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Reproduce Figure 2 and check its claims.

    The default of 256 tokens is the length that the survey's later edition states; its first states none.
    """
    outputs = options.checked(output)
    if source is not None:
        if (device, seq_length, threads, no_time, min_time) != ("auto", claims.SEQUENCE_LENGTH, None, False, "2s"):
            raise UsageError("--record checks a saved record, to which the options of a measurement do not apply")
        result = record.load(source)
    elif seq_length > claims.POSITIONS:
        raise UsageError(f"--seq-length {seq_length}: BERT-base has {claims.POSITIONS} positions")
    else:
        with console.progress_bar() as progress:
            result = session.survey_figure2(
                device=device,
                sequence_length=options.positive("--seq-length", seq_length),
                threads=threads,
                time=not no_time,
                min_time_s=options.duration(min_time),
                progress=progress,
            )
        result.command = console.command()
    verdicts = claims.check(result)
    options.write([(path, report.render(result, path, "component", verdicts)) for path in outputs])
    from bertprof.report import terminal

    if catalog.find(result.workload.model) != catalog.find(claims.MODEL):
        typer.echo(f"bertprof: the survey's claims are about {claims.MODEL}; this record is of another model", err=True)
    console.show_documents([result], "component")
    console.show("\n" + terminal.render_claims(verdicts, console.width(), console.color()))


def table2(
    device: Device = "auto",
    batch_size: BatchSize = 1,
    seq_length: SeqLength = 128,
    threads: Threads = None,
    no_time: NoTime = False,
    min_time: MinTime = "2s",
    source: Annotated[
        Path | None, typer.Option("--record", help="Show a saved table instead of measuring its rows.")
    ] = None,
    output: Output = None,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Reproduce Table 2: each printed row beside what is computed and measured here.

    Sizes are counted; speeds are measured against BERT-base, each row interleaved with it (--min-time is for each row).
    DeFormer runs on segments of its own, of 24 + 296 tokens, with its cache and without. Accuracies stay the survey's;
    the figures of its later edition stand beside ours. There is no .png or .svg of it.
    """
    outputs = options.checked(output)
    for path in outputs:
        report.check_suffix(path, tables.Table2)
    given = _Given(device, batch_size, seq_length, threads, no_time, min_time)
    result = _found("a saved table", session.survey_table2, tables.load, given, source)
    _show(result, outputs, json)


Source = Annotated[Path | None, typer.Option("--record", help="Show saved methods instead of measuring them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the methods as JSON.")]


def table1(
    device: Device = "auto",
    batch_size: BatchSize = 1,
    seq_length: SeqLength = 128,
    threads: Threads = None,
    no_time: NoTime = False,
    min_time: MinTime = "2s",
    source: Source = None,
    output: Output = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Reproduce Table 1: each printed mark beside what methods change here.

    Every method of Sections 3.1 to 3.4 is measured against BERT-base, interleaved with it (--min-time is for each). A
    file of `survey methods` is as good: both are the same measurement. As .png or .svg it is the figure of that.
    """
    outputs = options.checked(output)
    given = _Given(device, batch_size, seq_length, threads, no_time, min_time)
    result = _found("saved methods", session.survey_table1, documents.load, given, source)
    result.view = "table1"
    _show(result, outputs, json)


def methods(
    device: Device = "auto",
    batch_size: BatchSize = 1,
    seq_length: SeqLength = 128,
    threads: Threads = None,
    no_time: NoTime = False,
    min_time: MinTime = "2s",
    source: Source = None,
    pages: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the diff of each method into this folder, a page each."),
    ] = None,
    output: Output = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show every method beside BERT-base: size, MACs and time, by component.

    Every method of Sections 3.1 to 3.4 is measured against BERT-base, interleaved with it (--min-time is for each). A
    file of `survey table1` is as good: both are the same measurement. With --pages each method has the page that `diff`
    would write of it: by component and unit, what moved and why.
    """
    outputs = options.checked(output)
    diffs: list[tuple[Approach, Diff]] = []
    if pages is not None:
        if source is not None:
            raise UsageError(f"--pages {pages}: saved methods hold no diffs; measure again, or leave --record out")
        files.check_writable(pages / "page.html")
    given = _Given(device, batch_size, seq_length, threads, no_time, min_time)
    measure = functools.partial(session.survey_methods, told=lambda *each: diffs.append(each))
    result = _found("saved methods", measure, documents.load, given, source)
    result.view = "methods"
    options.write(_pages(pages, diffs, given) if pages is not None else [])
    _show(result, outputs, json)


def _pages(folder: Path, diffs: Sequence[tuple[Approach, Diff]], given: "_Given") -> list[tuple[Path, bytes]]:
    """A page a method, with the command that makes it by itself."""
    found = []
    for approach, diff in diffs:
        segments = [] if approach.segments is None else ["--segments", ",".join(map(str, approach.segments))]
        settings = [word for setting in approach.settings for word in ("--after", setting)]
        models = ["diff", systems.BASELINE, approach.model or ""]
        diff.command = shlex.join(["bertprof", *models, *segments, *settings, *given.words()])
        path = folder / f"{file_name(approach.name)}.html"
        found.append((path, report.render(diff, path)))
    return found


def file_name(name: str) -> str:
    """A method's name as that of a file: lower case, words joined by hyphens."""
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))


class _Given(NamedTuple):
    """The options of a measurement."""

    device: str = "auto"
    batch_size: int = 1
    seq_length: int = 128
    threads: int | None = None
    no_time: bool = False
    min_time: str = "2s"

    def words(self) -> list[str]:
        """As a command line has them, without those that are as usual."""
        found: list[str] = []
        for option, value, usual in zip(self._fields, self, _Given(), strict=True):
            if value != usual:
                found += [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
        return found


def _found(
    what: str, measure: Callable[..., Found], load: Callable[[Path], Found], given: _Given, source: Path | None
) -> Found:
    """What is measured, or read from a file, to which the options of a measurement do not apply."""
    if source is not None:
        if given != _Given():
            raise UsageError(f"--record shows {what}, to which the options of a measurement do not apply")
        return load(source)
    if given.seq_length > claims.POSITIONS:
        raise UsageError(f"--seq-length {given.seq_length}: {systems.BASELINE} has {claims.POSITIONS} positions")
    with console.progress_bar() as progress:
        return measure(
            device=given.device,
            batch_size=options.positive("--batch-size", given.batch_size),
            sequence_length=options.positive("--seq-length", given.seq_length),
            threads=given.threads,
            time=not given.no_time,
            min_time_s=options.duration(given.min_time),
            command=console.command(),
            progress=progress,
        )


def _show(result: Methods | Table2, outputs: list[Path], json: bool) -> None:
    options.write([(path, report.render(result, path)) for path in outputs])
    if json:
        console.show(schema.encode(result).decode())
    else:
        console.show_documents([result], "component")
