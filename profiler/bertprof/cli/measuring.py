"""`bertprof breakdown`: measure, write, print."""

from typing import Annotated

import typer

from bertprof import record, report, session, settings
from bertprof.cli import console, options
from bertprof.cli.options import (
    Apply,
    AsJson,
    Attention,
    BatchSize,
    By,
    Clock,
    CrossCheck,
    Debug,
    Device,
    Dtype,
    Energy,
    Figure,
    Inputs,
    Label,
    MemoryLimit,
    MinTime,
    NoTime,
    OutputOrTrace,
    Padding,
    Peaks,
    Roofline,
    Segments,
    SeqLength,
    Set,
    Task,
    Threads,
    Training,
    Weights,
    Wide,
    WidthMm,
)
from bertprof.errors import OutputError, UsageError


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
    segments: Segments = None,
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
    clock: Clock = None,
    cross_check: CrossCheck = False,
    roofline: Roofline = True,
    peaks: Peaks = False,
    memory_limit: MemoryLimit = None,
    training: Training = False,
    energy: Energy = False,
    by: By = "component",
    wide: Wide = False,
    figure: Figure = None,
    width_mm: WidthMm = None,
    output: OutputOrTrace = None,
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
    outputs, trace = options.split_trace(output)
    options.drawn(figure, width_mm, outputs, "a breakdown")
    if no_time and processes != 1:
        raise UsageError("--processes repeats the measurement of times: --no-time excludes it")
    with console.progress_bar() as progress:
        result = session.breakdown(
            model,
            inputs=inputs,
            device=device,
            batch_size=options.positive("--batch-size", batch_size),
            sequence_length=options.positive("--seq-length", seq_length),
            segments=options.segments(segments),
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
            clocks=() if clock is None else clock,
            cross_check=cross_check,
            trace=trace,
            roofline=roofline,
            peaks=peaks,
            memory_limit=memory_limit,
            training=training,
            energy=energy,
        )
    result.command = console.command()
    options.write(
        [(path, report.render(result, path, by, wide=wide, figure=figure, width_mm=width_mm)) for path in outputs]
    )
    if json:
        console.show(record.encode(result).decode())
    else:
        console.show_documents([result], by, wide)
    if trace is not None:
        for caveat in (caveat for caveat in result.caveats if caveat.code == "no-trace"):
            raise OutputError(caveat.text)
        typer.echo(f"wrote {trace}", err=True)
