"""`bertprof breakdown`, `bertprof survey figure2` and `bertprof survey table2`: measure, write, print."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bertprof import catalog, record, report, schema, session, settings
from bertprof.cli import console, options
from bertprof.cli.options import (
    Apply,
    AsJson,
    Attention,
    BatchSize,
    By,
    Debug,
    Device,
    Dtype,
    Inputs,
    Label,
    MinTime,
    NoTime,
    Output,
    Padding,
    SeqLength,
    Set,
    Task,
    Threads,
    Weights,
    Wide,
)
from bertprof.errors import UsageError
from bertprof.survey import claims, systems
from bertprof.survey import table2 as tables


def breakdown(
    model: Annotated[
        str,
        typer.Argument(
            help="A known name (see `bertprof models`), a folder with config.json, a hub name, or "
            "package.module:callable that returns a torch module; with recipes: NAME+heads=6+int8."
        ),
    ],
    inputs: Inputs = None,
    device: Device = "auto",
    batch_size: BatchSize = 1,
    seq_length: SeqLength = 128,
    padding: Padding = 0.0,
    dtype: Dtype = "float32",
    attention: Attention = "sdpa",
    task: Task = None,
    threads: Threads = None,
    apply: Apply = None,
    set_: Set = None,
    weights: Weights = None,
    no_time: NoTime = False,
    min_time: MinTime = "2s",
    processes: Annotated[
        int, typer.Option(help="Measure in so many fresh processes and pool them; 5 or more for records to compare.")
    ] = 1,
    label: Label = None,
    by: By = "component",
    wide: Wide = False,
    output: Output = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Break a model down by component.

    Parameters, FLOPs and measured time of each part of every encoder unit. A model of no known family is placed by what
    it computes; [tool.bertprof.anatomy] in pyproject.toml maps what that gets wrong.

    With recipes behind its name, a model is measured as it would be compressed: bertprof breakdown
    bert-base-uncased+heads=6+int8. `bertprof methods` lists them.

    Example: bertprof breakdown bert-base-uncased --device cuda -o bert.json -o bert.html
    """
    outputs = options.checked(output)
    if no_time and processes != 1:
        raise UsageError("--processes repeats the measurement of times: --no-time excludes it")
    with console.progress_bar() as progress:
        result = session.breakdown(
            model,
            inputs=inputs,
            device=device,
            batch_size=options.positive("--batch-size", batch_size),
            sequence_length=options.positive("--seq-length", seq_length),
            padding=padding,
            dtype=dtype,
            attention=attention,
            task=task,
            threads=threads,
            overrides=options.overrides(set_ or []),
            weights=weights,
            anatomy=settings.anatomy(),
            recipes=apply or [],
            time=not no_time,
            min_time_s=options.duration(min_time),
            processes=options.positive("--processes", processes),
            label=label,
            progress=progress,
        )
    options.write([(path, report.render(result, path, by, wide=wide)) for path in outputs])
    if json:
        console.show(record.encode(result).decode())
    else:
        console.show_documents([result], by, wide)


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
    Accuracies stay the survey's. There is no .png or .svg of it.
    """
    outputs = options.checked(output)
    for path in outputs:
        report.check_suffix(path, tables.Table2)
    if source is not None:
        if (device, batch_size, seq_length, threads, no_time, min_time) != ("auto", 1, 128, None, False, "2s"):
            raise UsageError("--record shows a saved table, to which the options of a measurement do not apply")
        result = tables.load(source)
    elif seq_length > claims.POSITIONS:
        raise UsageError(f"--seq-length {seq_length}: {systems.BASELINE} has {claims.POSITIONS} positions")
    else:
        with console.progress_bar() as progress:
            result = session.survey_table2(
                device=device,
                batch_size=options.positive("--batch-size", batch_size),
                sequence_length=options.positive("--seq-length", seq_length),
                threads=threads,
                time=not no_time,
                min_time_s=options.duration(min_time),
                command=shlex.join(["bertprof", *sys.argv[1:]]),
                progress=progress,
            )
    options.write([(path, report.render(result, path)) for path in outputs])
    if json:
        console.show(schema.encode(result).decode())
    else:
        console.show_documents([result], "component")
