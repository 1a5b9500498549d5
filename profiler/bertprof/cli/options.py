"""The options that several commands share, and what their text means."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from bertprof import files, formatting, report, sides
from bertprof.errors import UsageError
from bertprof.report import figures

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; auto is CUDA where there is some.")]
BatchSize = Annotated[int, typer.Option(help="Sequences in a batch.")]
SeqLength = Annotated[int, typer.Option(help="Tokens in a sequence.")]
Segments = Annotated[
    str | None,
    typer.Option(
        metavar="N,N",
        help="The lengths of the segments of each sequence, as question and passage: 24,296; overrules --seq-length.",
    ),
]
Dtype = Annotated[str, typer.Option(help="float32, float16, bfloat16 or float64.")]
Attention = Annotated[str, typer.Option(help="sdpa (fused) or eager.")]
Threads = Annotated[int | None, typer.Option(help="torch's threads within operators on the CPU.")]
NoTime = Annotated[bool, typer.Option("--no-time", help="Count only: nothing runs and no weights are built.")]
MinTime = Annotated[str, typer.Option(help="Sample for at least so long: 2s, 500ms.")]
Padding = Annotated[float, typer.Option(help="Share of each sequence that is padding, hidden by one mask.")]
Task = Annotated[
    str | None,
    typer.Option(
        help="Build that head: causal-lm, masked-lm, next-sentence-prediction, pretraining, question-answering, "
        "sequence-classification or token-classification."
    ),
]
Inputs = Annotated[
    str | None,
    typer.Option(metavar="MODULE:CALLABLE", help="With package.module:callable: what returns its inputs."),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the configuration.")
]
Apply = Annotated[
    list[str] | None,
    typer.Option(
        "--apply", metavar="RECIPE", help="Apply a compression method: heads=6, int8; `bertprof methods` lists them."
    ),
]
Weights = Annotated[
    bool | None,
    typer.Option(
        "--weights/--no-weights",
        show_default=False,
        help="Load the checkpoint's weights, or random ones. Without either, a local folder's are loaded.",
    ),
]
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
Figure = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"The figure in .png and .svg: {figures.listed('a breakdown', 'a diff', 'several records')}. "
        "The first is the usual one.",
    ),
]
WidthMm = Annotated[
    float | None,
    typer.Option(
        "--width-mm",
        metavar="MM",
        help="How wide a figure is in print; texts keep their size. Two columns of a journal are 183, one is 89.",
        show_default="183",
    ),
]
OutputOrTrace = Annotated[
    list[Path] | None,
    typer.Option(
        "-o",
        "--output",
        help="Write a report; its suffix says which: .json .html .png .svg .csv .md; .trace.json is one forward for "
        "Perfetto or chrome://tracing, with the components as tracks.",
    ),
]
Clock = Annotated[
    str | None,
    typer.Option(
        help="CUDA clocks, joined by commas: events (as it runs), graph (without launch gaps), kernels (busy and idle)."
    ),
]
CrossCheck = Annotated[
    bool, typer.Option("--cross-check", help="On a CPU: time the forward by torch.profiler's clock as well.")
]
Roofline = Annotated[
    bool,
    typer.Option("--roofline/--no-roofline", help="Say what each component is bound by: compute, memory or launches."),
]
Peaks = Annotated[
    bool, typer.Option("--peaks", help="Measure the device's peaks again instead of taking those of the cache.")
]
MemoryLimit = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Say which batch sizes fit into so much memory: 32GB, 16GiB.")
]
Training = Annotated[
    bool, typer.Option("--training", help="With --memory-limit: of training with Adam in mixed precision as well.")
]
Energy = Annotated[
    bool,
    typer.Option("--energy", help="On a CUDA GPU: measure the energy of each component by NVML, in 2 to 3 minutes."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the record as JSON instead of the table.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


# From text to values --------------------------------------------------------------------------------------------------


def positive(option: str, value: int) -> int:
    """A number that must be at least 1."""
    if value < 1:
        raise UsageError(f"{option} {value}: it must be at least 1")
    return value


def duration(text: str, option: str = "--min-time") -> float:
    """A duration in seconds."""
    try:
        value = formatting.seconds(text)
    except ValueError:
        raise UsageError(f"{option} {text}: not a duration; write 2s or 500ms") from None
    if not 0 <= value <= sides.LONGEST_S:
        raise UsageError(f"{option} {text}: it must be between 0s and a day")
    return value


def segments(text: str | None) -> list[int] | None:
    """The lengths of segments, where they are given."""
    return None if text is None else sides.lengths(text, f"--segments {text}")


def share(text: str, option: str) -> float:
    """A precision in percent, as a share: 2% is 0.02."""
    try:
        value = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        value = float("nan")
    if not text.strip().endswith("%") or not 0 < value < 1:
        raise UsageError(f"{option} {text}: write a percentage above 0 and below 100, such as 2%")
    return value


def overrides(pairs: Sequence[str]) -> dict[str, str]:
    """The fields that --set replaces."""
    found = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {pair}: write it as KEY=VALUE")
        found[key] = value
    return found


def drawn(figure: str | None, width_mm: float | None, outputs: Sequence[Path], kind: figures.Kind | None) -> None:
    """Makes sure, before anything long begins, that a figure that is asked for can be drawn and goes somewhere.

    Args:
        figure: its name, where one is asked for.
        width_mm: how wide, where that is said.
        outputs: the reports.
        kind: what it is of, where that is known.
    """
    figures.check(figure, width_mm, kind)
    if (figure, width_mm) != (None, None) and not any(path.suffix.lower() in report.DRAWN for path in outputs):
        option = f"--figure {figure}" if figure is not None else f"--width-mm {width_mm:g}"
        raise UsageError(f"{option}: no .png or .svg is written; name one with -o")


def split_trace(outputs: list[Path] | None) -> tuple[list[Path], Path | None]:
    """The reports, checked as in `checked`, and the file for a trace."""
    traces = [path for path in outputs or [] if path.name.lower().endswith(report.TRACE)]
    if len(traces) > 1:
        raise UsageError(f"-o {traces[1]}: one trace is made at a time, and {traces[0]} is one already")
    return checked([path for path in outputs or [] if path not in traces]), next(iter(traces), None)


def checked(outputs: list[Path] | None) -> list[Path]:
    """The outputs, each known to be writable and of a known kind before anything long begins."""
    paths = list(dict.fromkeys(outputs or []))
    for path in paths:
        report.check_suffix(path)
        files.check_writable(path)
    return paths


def write(contents: Sequence[tuple[Path, bytes]]) -> None:
    """Writes reports that were all rendered before the first is written."""
    for path, content in contents:
        files.write_whole(path, content)
        typer.echo(f"wrote {path}", err=True)
