"""The command line: parse, one call, write files, exit code.

Heavy modules are imported by the commands that need them. Errors are answered in one line on stderr. Exit codes: 0
fine, 1 a gate failed, 2 wrong use, unreadable or invalid input and internal errors, 3 not comparable, 130 interrupted.
"""

from typing import Annotated

import typer

import bertprof
from bertprof.cli import comparing, measuring, reading
from bertprof.cli import survey as surveying
from bertprof.cli.console import Commands

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


app.command()(measuring.breakdown)
app.command()(comparing.diff)
app.command("report")(reading.report_)
app.command()(reading.doctor)
app.command()(reading.models)
app.command()(reading.methods)
survey.command("figure2")(surveying.figure2)
survey.command("table1")(surveying.table1)
survey.command("table2")(surveying.table2)
survey.command("methods")(surveying.methods)
