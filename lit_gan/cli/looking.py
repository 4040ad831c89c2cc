"""Commands that show what is there: runs side by side, names, settings, weight files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lit_gan.cli.parsing import OVERRIDES, Commands
from lit_gan.errors import USER_ERROR


@click.command()
@click.argument("runs", nargs=-1)
@click.option("--project", help="Default: where the runs were logged.")
@click.option("--entity", help="User or team; default: as the runs, else the account's own.")
@click.option("--dry-run", is_flag=True, help="Print the view, and ask no server.")
def dashboard(runs: tuple[str, ...], **options: Any) -> int:
    """Make a view of RUNS in their Weights & Biases project: scores, samples, losses, health and speed."""
    from lit_gan.dashboard import make_dashboard

    for line in make_dashboard(runs or ("runs",), **options):
        click.echo(line)
    return 0


@click.command("list")
@click.argument("what", required=False)
def list_(what: str | None) -> int:
    """Show the archs, data sources, experiments and metrics, a line each."""
    from lit_gan.listing import listing

    for line in listing(what):
        click.echo(line)
    return 0


@click.group(cls=Commands, invoke_without_command=True)
@click.pass_context
def weights(context: click.Context) -> None:
    """The weight files of the extractors: what is here, whether it is right, and fetching it."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@weights.command("list")
def weights_list() -> int:
    """The known files, and whether they are here."""
    from lit_gan.weights import table

    for line in table():
        click.echo(line)
    return 0


@weights.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def weights_check(names: tuple[str, ...]) -> int:
    """Hash what is here; exit code 2 where one is wrong."""
    from lit_gan.weights import check

    wrong = False
    for right, line in check(names):
        click.echo(line)
        wrong |= not right
    return USER_ERROR if wrong else 0


@weights.command("fetch")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--from", "source", type=click.Path(exists=True, file_okay=False), help="Copy from this folder instead."
)
def weights_fetch(names: tuple[str, ...], source: str | None) -> int:
    """Put what is missing into the cache, whole and checked."""
    from lit_gan.weights import fetch

    for line in fetch(names, None if source is None else Path(source)):
        click.echo(line)
    return 0


@click.command()
@OVERRIDES
def config(overrides: tuple[str, ...]) -> int:
    """Print the resolved configuration, and where each value comes from."""
    from lit_gan.listing import origins
    from lit_gan.resume import compose_run

    for line in origins(compose_run(overrides).config):
        click.echo(line)
    return 0


@click.command()
@click.argument("runs", nargs=-1)
@click.option(
    "--format", type=click.Choice(["md", "csv", "html"]), help="Default: Markdown, or the ending of --out."
)
@click.option("--out", metavar="FILE|DIR", help="A file, or a folder for every format and the charts.")
@click.option("--charts", metavar="DIR", help="Write the charts there as PNGs.")
@click.option("--metric", multiple=True, metavar="NAME", help="What ranks; fid,kid makes tables for both.")
@click.option("--each", is_flag=True, help="A row for every run, without merging seeds.")
def compare(runs: tuple[str, ...], **options: Any) -> int:
    """The scores of RUNS side by side: runs, or folders of runs; runs/ by default.

    Runs that are equal but for the seed share a row: mean and standard deviation. Scores of unequal protocol never
    share a column, and a line says in what they differ.

    \b
    lit-gan compare runs/                               tables, best first
    lit-gan compare runs/ --out compare.html            one page: tables, charts, sample grids
    lit-gan compare runs/gan-* --metric kid --format csv
    """
    from lit_gan.compare.report import report

    for text, is_report in report(runs or ("runs",), metrics=options.pop("metric"), **options):
        click.echo(text, err=not is_report)
    return 0
