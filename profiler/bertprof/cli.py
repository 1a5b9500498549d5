"""The command line: parse, one call, write files, exit code.

Heavy modules are imported by the commands that need them. Errors are answered in one line on stderr: 2 for wrong use,
unreadable or invalid input and internal errors; 130 when interrupted.
"""

import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import typer
from typer.core import TyperGroup

import bertprof
from bertprof import catalog, files, formatting, record, report, session, settings
from bertprof.errors import BertprofError, OutputError, UsageError
from bertprof.record import Breakdown
from bertprof.survey import claims

DEFAULT_WIDTH = 120
"""Columns of a table that goes to no terminal, unless COLUMNS says otherwise."""


class Commands(TyperGroup):
    """The commands, with one way of failing: one line on stderr and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command line; see `TyperGroup.main`."""
        arguments = sys.argv[1:] if args is None else list(args)

        def run() -> Any:
            return super(Commands, self).main(arguments, prog_name, complete_var, False, windows_expand_args, **extra)

        if not standalone_mode:
            return run()
        try:
            code = run()
        except BertprofError as error:
            code = _fail(str(error), error.exit_code, error, arguments)
        except Exception as error:
            code = _unexpected(error, arguments)
        sys.exit(code if isinstance(code, int) else 0)


def _unexpected(error: Exception, arguments: Sequence[str]) -> int:
    """The parser's own errors, and ours that should not be."""
    if not hasattr(error, "format_message"):
        return _fail(f"internal error: {type(error).__name__}: {error}; --debug shows where", 2, error, arguments)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
        return 2
    return _fail(f"{error.format_message()} (see --help)", 2, error, arguments)


def _fail(message: str, code: int, error: BaseException, arguments: Sequence[str]) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exception(error)
    typer.echo(f"bertprof: {' '.join(message.split())}", err=True)
    return code


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Where the parameters, FLOPs and time of a BERT-like Transformer go, component by component.",
)
survey = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Reproduce what the survey shows.\n\nThat is Ganesh et al. 2020, arXiv 2002.11985.",
)
app.add_typer(survey, name="survey")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"bertprof {bertprof.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


# The options that several commands share ------------------------------------------------------------------------------

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; auto is CUDA where there is some.")]
BatchSize = Annotated[int, typer.Option(help="Sequences in a batch.")]
SeqLength = Annotated[int, typer.Option(help="Tokens in a sequence.")]
Dtype = Annotated[str, typer.Option(help="float32, float16, bfloat16 or float64.")]
Attention = Annotated[str, typer.Option(help="sdpa (fused) or eager.")]
Threads = Annotated[int | None, typer.Option(help="torch's threads within operators on the CPU.")]
NoTime = Annotated[bool, typer.Option("--no-time", help="Count only: nothing runs and no weights are built.")]
MinTime = Annotated[str, typer.Option(help="Sample for at least so long: 2s, 500ms.")]
Label = Annotated[str | None, typer.Option(help="What to call the result in reports.")]
By = Annotated[
    Literal["group", "component", "unit", "module"],
    typer.Option(help="The view of the table; `module` shows the module tree."),
]
Wide = Annotated[
    bool,
    typer.Option("--wide", help="More columns (not by module): bytes moved, FLOPs a byte, activations, non-zeros."),
]
Output = Annotated[
    list[Path] | None,
    typer.Option("-o", "--output", help="Write a report; its suffix says which: .json .html .png .svg .csv .md"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the record as JSON instead of the table.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def breakdown(
    model: Annotated[
        str,
        typer.Argument(
            help="A known name (see `bertprof models`), a folder with config.json, a hub name, or "
            "package.module:callable that returns a torch module."
        ),
    ],
    inputs: Annotated[
        str | None,
        typer.Option(metavar="MODULE:CALLABLE", help="With package.module:callable: what returns its inputs."),
    ] = None,
    device: Device = "auto",
    batch_size: BatchSize = 1,
    seq_length: SeqLength = 128,
    padding: Annotated[float, typer.Option(help="Share of each sequence that is padding, hidden by one mask.")] = 0.0,
    dtype: Dtype = "float32",
    attention: Attention = "sdpa",
    task: Annotated[
        str | None,
        typer.Option(
            help="Build that head: causal-lm, masked-lm, next-sentence-prediction, pretraining, question-answering, "
            "sequence-classification or token-classification."
        ),
    ] = None,
    threads: Threads = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the configuration.")
    ] = None,
    weights: Annotated[
        bool | None,
        typer.Option(
            "--weights/--no-weights",
            show_default=False,
            help="Load the checkpoint's weights, or random ones. Without either, a local folder's are loaded.",
        ),
    ] = None,
    no_time: NoTime = False,
    min_time: MinTime = "2s",
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

    Example: bertprof breakdown bert-base-uncased --device cuda -o bert.json -o bert.html
    """
    outputs = _checked(output)
    with _progress() as progress:
        result = session.breakdown(
            model,
            inputs=inputs,
            device=device,
            batch_size=_positive("--batch-size", batch_size),
            sequence_length=_positive("--seq-length", seq_length),
            padding=padding,
            dtype=dtype,
            attention=attention,
            task=task,
            threads=threads,
            overrides=_overrides(set_ or []),
            weights=weights,
            anatomy=settings.anatomy(),
            time=not no_time,
            min_time_s=_duration(min_time),
            label=label,
            progress=progress,
        )
    _write(result, outputs, by, wide=wide)
    _print(record.encode(result).decode() if json else _text(result, by, wide))


@app.command("report")
def report_(
    source: Annotated[Path, typer.Argument(metavar="RECORD.json", help="A record that `breakdown -o` wrote.")],
    by: By = "component",
    wide: Wide = False,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Render a saved record again.

    Nothing is measured. Writes files with -o, else prints the table.
    """
    outputs = _checked(output)
    result = record.load(source)
    _write(result, outputs, by, wide=wide)
    if not outputs:
        _print(_text(result, by, wide))


@app.command()
def models(
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False, debug: Debug = False
) -> None:
    """List the models that are known without a network."""
    if json:
        import msgspec

        _print(msgspec.json.format(msgspec.json.encode(catalog.entries()), indent=1).decode() + "\n")
        return
    from bertprof.report import terminal

    _print(terminal.render_models(catalog.entries(), width=_width(), color=_color()))


@survey.command("figure2")
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
    outputs = _checked(output)
    if source is not None:
        if (device, seq_length, threads, no_time, min_time) != ("auto", claims.SEQUENCE_LENGTH, None, False, "2s"):
            raise UsageError("--record checks a saved record, to which the options of a measurement do not apply")
        result = record.load(source)
    elif seq_length > claims.POSITIONS:
        raise UsageError(f"--seq-length {seq_length}: BERT-base has {claims.POSITIONS} positions")
    else:
        with _progress() as progress:
            result = session.survey_figure2(
                device=device,
                sequence_length=_positive("--seq-length", seq_length),
                threads=threads,
                time=not no_time,
                min_time_s=_duration(min_time),
                progress=progress,
            )
    verdicts = claims.check(result)
    _write(result, outputs, "component", verdicts)
    from bertprof.report import terminal

    if catalog.find(result.workload.model) != catalog.find(claims.MODEL):
        typer.echo(f"bertprof: the survey's claims are about {claims.MODEL}; this record is of another model", err=True)
    _print(_text(result, "component") + "\n" + terminal.render_claims(verdicts, width=_width(), color=_color()))


# From text to values, from results to files ---------------------------------------------------------------------------


def _positive(option: str, value: int) -> int:
    if value < 1:
        raise UsageError(f"{option} {value}: it must be at least 1")
    return value


def _duration(text: str) -> float:
    try:
        value = formatting.seconds(text)
    except ValueError:
        raise UsageError(f"--min-time {text}: not a duration; write 2s or 500ms") from None
    if not 0 <= value <= session.LONGEST_S:
        raise UsageError(f"--min-time {text}: it must be between 0s and a day")
    return value


def _overrides(pairs: Sequence[str]) -> dict[str, str]:
    overrides = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {pair}: write it as KEY=VALUE")
        overrides[key] = value
    return overrides


def _checked(outputs: list[Path] | None) -> list[Path]:
    """The outputs, each known to be writable and of a known kind before anything long begins."""
    paths = list(dict.fromkeys(outputs or []))
    for path in paths:
        report.check_suffix(path)
        files.check_writable(path)
    return paths


def _write(
    result: Breakdown,
    outputs: Sequence[Path],
    by: str,
    verdicts: Sequence[claims.Verdict] = (),
    *,
    wide: bool = False,
) -> None:
    contents = [(path, report.render(result, path, by, verdicts, wide=wide)) for path in outputs]
    for path, content in contents:
        files.write_whole(path, content)
        typer.echo(f"wrote {path}", err=True)


def _text(result: Breakdown, by: str, wide: bool = False) -> str:
    from bertprof.report import terminal

    return terminal.render(result, by=by, width=_width(), color=_color(), wide=wide)


def _print(text: str) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a code page without box characters still gets the figures
    try:
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.write(text)
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = None  # what is left in its buffer would fail once more at exit
        raise OutputError(f"cannot write to standard output: {error.strerror}") from None


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _width() -> int:
    if _is_terminal(sys.stdout) or "COLUMNS" in os.environ:
        return max(20, shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns)
    return DEFAULT_WIDTH


def _color() -> bool:
    return _is_terminal(sys.stdout) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr; none where stderr is no terminal."""
    if not _is_terminal(sys.stderr):
        yield lambda step, fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # It is drawn between the forwards only: a thread that draws would run into what is timed.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("loading torch", total=None)
        bar.refresh()
        drawn = [-1.0]

        def update(step: str, fraction: float) -> None:
            bar.update(task, description=step, total=1.0 if step == "timing" else None, completed=fraction)
            if time.monotonic() - drawn[0] > 0.1:
                bar.refresh()
                drawn[0] = time.monotonic()

        yield update
