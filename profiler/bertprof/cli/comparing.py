"""`bertprof diff`: before and after, for a person and for CI."""

from typing import Annotated, Literal

import typer

from bertprof import pairs, report, schema, session, settings, sides
from bertprof.cli import console, options
from bertprof.cli.options import (
    Attention,
    BatchSize,
    Debug,
    Device,
    Dtype,
    Figure,
    Inputs,
    NoTime,
    Output,
    Padding,
    Segments,
    SeqLength,
    Set,
    Task,
    Threads,
    Weights,
    Wide,
    WidthMm,
)
from bertprof.errors import UsageError
from bertprof.measurement import Plan
from bertprof.sides import Asked

_GATE = "[SCOPE.]METRIC:LIMIT"
_SIDE = "A record, a folder of records (one a process), or a MODEL as in `breakdown`, as NAME+heads=6+int8."


def diff(
    context: typer.Context,
    before: Annotated[str, typer.Argument(metavar="BEFORE", help=_SIDE)],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The same.")],
    fail_on: Annotated[
        list[str] | None,
        typer.Option(metavar=_GATE, help="Fail above: time:+5%, ffn.time:+10%, parameters:+0, unit[*].ffn.macs:+0."),
    ] = None,
    warn_on: Annotated[list[str] | None, typer.Option(metavar=_GATE, help="The same, but only warn.")] = None,
    require: Annotated[
        list[str] | None, typer.Option(metavar=_GATE, help="Fail below a gain: ffn.time:-30%, time:1.5x.")
    ] = None,
    budget: Annotated[
        list[str] | None, typer.Option(metavar=_GATE, help="Fail above a ceiling of AFTER: total.bytes:100MB.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="What is inconclusive has failed.")] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Only report: no gate makes the command fail.")
    ] = False,
    allow_mismatch: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Compare although the sides differ in this, as sequence_length or cpu."),
    ] = None,
    min_samples: Annotated[
        int | None, typer.Option(help="Repeats a side below which a gate on a time is inconclusive.")
    ] = None,
    accuracy: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="BEFORE AFTER", help="Accuracies in points, for the survey's ΔMS/ΔA."),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What the accuracies are of, as MNLI.")] = None,
    of_before: Annotated[
        list[str] | None,
        typer.Option(
            "--before",
            metavar="KEY=VALUE",
            help="Ask that of BEFORE alone: attention=eager, apply=heads=6, set.FIELD=...",
        ),
    ] = None,
    of_after: Annotated[
        list[str] | None, typer.Option("--after", metavar="KEY=VALUE", help="Ask that of AFTER alone.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Two MODELs: sample until the change is known to ± that, as 2%.")
    ] = None,
    min_time: Annotated[str, typer.Option(help="Sample for at least so long: 2s, 500ms.")] = "2s",
    max_time: Annotated[
        str | None, typer.Option(show_default=False, help="Sample for at most so long; with --until, 60s.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(show_default=False, help="Measure MODELs in so many fresh processes each.")
    ] = None,
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
    set_: Set = None,
    weights: Weights = None,
    no_time: NoTime = False,
    by: Annotated[
        Literal["group", "component", "unit", "cell"],
        typer.Option(help="The view of the table; `cell`: unit and component."),
    ] = "component",
    wide: Wide = False,
    figure: Figure = None,
    width_mm: WidthMm = None,
    output: Output = None,
    json: Annotated[bool, typer.Option("--json", help="Print the diff as JSON instead of the table.")] = False,
    debug: Debug = False,
) -> None:
    """Compare two models or records, by component; fail where a limit is passed.

    Counts are compared exactly. Two MODELs are timed together, interleaved round by round in random order; records are
    compared across processes: make them with `breakdown --processes 5`. The options of a workload are those of
    `breakdown` and apply to MODELs; a MODEL beside a record takes the record's workload. Limits may also stand in
    [tool.bertprof] of pyproject.toml, as fail-on = ["time:+5%"].

    A compressed model beside the model as it is: bertprof diff bert-base-uncased bert-base-uncased+heads=6+int8; the
    report says why its time did or did not follow its size. `bertprof methods` lists what can stand behind a model.

    Exit codes: 0 fine, 1 a gate failed, 2 wrong use or invalid input, 3 not comparable.

    Example: bertprof diff bert-base-uncased distilbert-base-uncased --until 2% --require time:1.5x -o diff.html
    """
    from bertprof import ci, limits

    outputs = options.checked(output)
    options.drawn(figure, width_mm, outputs, "a diff")
    project = settings.gates()
    asked = Asked(
        device=device,
        batch_size=options.positive("--batch-size", batch_size),
        sequence_length=options.positive("--seq-length", seq_length),
        segments=options.segments(segments),
        padding=padding,
        dtype=dtype,
        attention=attention,
        task=task,
    )
    # A record beside a model fixes these: it must be told which of them were asked for.
    given = {sides.plain(name) for name in context.params if _is_given(context, name)}
    for name in set(asked) - given:
        asked.pop(name)  # type: ignore[misc]
    asked |= {"overrides": options.overrides(set_ or []), "weights": weights, "anatomy": settings.anatomy()}
    specs = [
        *project.specs,
        *limits.parse_all({"fail-on": fail_on, "warn-on": warn_on, "require": require, "budget": budget}),
    ]
    if until is not None and no_time:
        raise UsageError("--until samples times until they are known: --no-time excludes it")
    if metric is not None and accuracy is None:
        raise UsageError(f"--metric {metric}: it names what --accuracy BEFORE AFTER is of")
    plan = Plan(
        threads=threads,
        time=not no_time,
        min_time_s=options.duration(min_time),
        max_time_s=None if max_time is None else options.duration(max_time, "--max-time"),
        until=None if until is None else options.share(until, "--until"),
    )
    with console.progress_bar() as progress:
        pair = pairs.found(
            before,
            after,
            inputs,
            plan=plan,
            changes=(of_before or [], of_after or []),
            processes=None if processes is None else options.positive("--processes", processes),
            progress=progress,
            **asked,
        )
    result = session.checked_diff(
        *pair,
        specs,
        allowed=[*project.allow_mismatch, *(allow_mismatch or [])],
        min_samples=project.min_samples if min_samples is None else options.positive("--min-samples", min_samples),
        accuracy=accuracy,
        accuracy_metric=metric,
        until=plan.until,
        command=console.command(),
    )
    options.write(
        [(path, report.render(result, path, by, wide=wide, figure=figure, width_mm=width_mm)) for path in outputs]
    )
    is_strict = (strict or project.strict) and not exit_zero
    ci.tell(result, strict=is_strict)
    if json:
        console.show(schema.encode(result).decode())
    else:
        console.show_documents([result], by, wide)
    code = 0 if exit_zero else result.exit_code(strict=is_strict)
    if code:
        raise typer.Exit(code)


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, whatever its value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
