"""The command line: parse, check, and only then import what is heavy."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import click

from lit_gan import __version__
from lit_gan.errors import UserError

USER_ERROR = 2
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # in the order in which Lightning believes them
MACHINE_SAYS_NO = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")


class Commands(click.Group):
    """Answers an unknown command with the nearest right one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands:
            near = difflib.get_close_matches(name, self.commands, 1, 0.5)
            meant = f"did you mean `{ctx.command_path} {near[0]}`? " if near else ""
            raise UserError(f"unknown command '{name}': {meant}there are {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__)
@click.pass_context
def cli(context: click.Context) -> None:
    """Train, measure and sample generative adversarial networks.

    \b
    lit-gan train arch=stylegan-lite                    digits, on whatever this machine has
    lit-gan train arch=r3gan data=folder data.path=photos/ trainer.devices=4
    lit-gan train resume=auto                           go on where the newest run stopped
    lit-gan sweep --grid arch=dcgan,r3gan seed=0,1,2    every combination, and a table at the end
    lit-gan sample runs/stylegan-lite-digits-1 -n 64
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@OVERRIDES
def train(overrides: tuple[str, ...]) -> int:
    """Train a variant on a data source.

    \b
    arch=NAME data=NAME experiment=NAME                 what to train; see `lit-gan list`
    run.images=200000 data.batch_size=64 model.width=64 any key of `lit-gan config`
    resume=RUN|CHECKPOINT|auto                          go on with a run, bit for bit
    """
    from lit_gan.resume import compose_run

    plan = compose_run(overrides)
    from lit_gan.train import train as start

    return start(plan)


class Sweep(click.Command):
    """`--grid` takes every word up to the next option: axes look like overrides, and the place tells them apart."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words: list[str] = []
        in_grid = False
        for word in args:
            if word == "--grid":
                in_grid = True
            elif word.startswith("-"):
                in_grid = word.startswith("--grid=")
                words.append(word)
            else:
                words += ["--grid", word] if in_grid else [word]
        return super().parse_args(ctx, words)


@cli.command(cls=Sweep)
@click.argument("what", nargs=-1, metavar="[EXPERIMENT] [KEY=VALUE]...")
@click.option(
    "--grid", multiple=True, metavar="KEY=A,B,...", help="The axes: all words up to the next option."
)
@click.option("--name", help="Of the sweep's folder; default from the data and the axes.")
@click.option("--gpus", metavar="0,1,...", help="One run at a time on each; default all there are.")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Runs at a time; default one a GPU, or one on a CPU."
)
@click.option("--wandb", is_flag=True, help="Run nothing: write the grid as a file for `wandb sweep`.")
def sweep(what: tuple[str, ...], grid: tuple[str, ...], name: str | None, wandb: bool, **machine: Any) -> int:
    """Train every combination of some values, and compare them; the same command again does what is left.

    \b
    lit-gan sweep experiment.yaml --grid arch=dcgan,wgan-gp,r3gan seed=0,1,2
    lit-gan sweep arch=gan data=toy --grid model.widths=[64],[64,64] seed=0-4 --jobs 2
    """
    from lit_gan.sweep import plan, run_sweep

    chosen = plan(what, grid, name)
    if wandb:
        from lit_gan.wandb_sweep import write_wandb_sweep

        for line in write_wandb_sweep(chosen):
            click.echo(line)
        return 0
    return run_sweep(chosen, **machine)


@cli.command()
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


@cli.command("eval")
@click.argument("source")
@OVERRIDES
@click.option("--against", metavar="DATA|FOLDER", help="The reals, instead of a run's own data.")
@click.option("--metrics", metavar="fid,kid,...", help="Short for eval.metrics=[fid,kid,...].")
@click.option("--protocol", metavar="NAME", help="How a field measures; see `lit-gan list protocols`.")
def evaluate(source: str, overrides: tuple[str, ...], **options: str | None) -> int:
    """Score SOURCE: a run, a checkpoint, or a folder of images of any model; eval.* and metrics.* say how.

    \b
    lit-gan eval runs/dcgan-digits-1 --metrics fid,kid
    lit-gan eval generated/ --against cifar10 --protocol clean
    lit-gan eval generated/ --against photos/ eval.images=5000 metrics.extractor=pixels
    """
    from lit_gan.resume import compose_comparison

    chosen = compose_comparison(source, overrides, **options)
    from lit_gan.evaluation import evaluate_comparison

    return evaluate_comparison(chosen)


class Label(click.ParamType[int | tuple[float, ...]]):
    """A class, or the numbers of a vector with commas between them."""

    name = "label"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | tuple[float, ...]:
        if not isinstance(value, str):
            return cast("int | tuple[float, ...]", value)
        with suppress(ValueError):
            return int(value)
        try:
            return tuple(float(word) for word in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is neither a class nor numbers with commas between them", param, ctx)


@cli.command()
@click.argument("autoencoder")
@OVERRIDES
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="The folder; an unfinished one goes on."
)
@click.option(
    "--posterior", is_flag=True, help="Keep its deviations too: training then draws fresh latents from it."
)
@click.option(
    "--batch-size", default=16, show_default=True, type=click.IntRange(min=1), help="Images at a time."
)
def encode(autoencoder: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Write the latents of images under AUTOENCODER, a folder in diffusers' format, to train on.

    \b
    lit-gan encode sd-vae/ data=folder data.path=photos/ data.image_size=256 data.flip=true --out latents/
    lit-gan train arch=gat data=latents data.path=latents/
    lit-gan eval latents/ --metrics fid                 what the autoencoder itself loses
    """
    from lit_gan.config import compose

    config = compose(overrides)
    from lit_gan.encode import encode_data

    for line in encode_data(config, autoencoder, **options):
        click.echo(line)
    return 0


@cli.command()
@click.argument("run")
@click.option(
    "-n", "--number", default=64, show_default=True, type=click.IntRange(min=1), help="How many images."
)
@click.option("--seed", default=0, show_default=True, help="Image i is a function of (seed, i).")
@click.option(
    "--label",
    type=Label(),
    help="A class, for a conditional variant; all in turn otherwise. Or the numbers of a vector: 0.5,1,0.",
)
@click.option(
    "--truncation",
    type=click.FloatRange(0),
    help="Styles: 1 none, 0 the mean image. BigGAN: the largest |z|.",
)
@click.option(
    "--batch-size",
    default=64,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many stay on the device; changes no image.",
)
@click.option(
    "--out", type=click.Path(file_okay=False), help="Where the PNGs go; default RUN/samples/seed<SEED>."
)
@click.option(
    "--decoder", metavar="PATH", help="Where the autoencoder of a run on latents lies, if it moved."
)
def sample(run: str, decoder: str | None, **options: Any) -> int:
    """Write images of RUN's best checkpoint, or of a checkpoint file, as PNGs and one grid."""
    from lit_gan.resume import compose_saved

    saved = compose_saved(run, () if decoder is None else (f"data.autoencoder={decoder}",))
    from lit_gan.sample import sample_run

    return sample_run(saved, **options)


class TileSide(click.ParamType[int | str]):
    """A side in pixels, auto or none."""

    name = "tile"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        if value in ("auto", "none"):
            return str(value)
        if not str(value).isdigit() or int(value) == 0:
            self.fail(f"{value!r} is neither auto, none nor a number of pixels", param, ctx)
        return int(value)


@cli.command()
@click.argument("run")
@click.argument("inputs", metavar="IN")
@click.argument("out", metavar="OUT")
@OVERRIDES
@click.option(
    "--tile",
    type=TileSide(),
    default="auto",
    metavar="auto|none|N",
    help="Side of tiles; auto: as memory asks.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, help="Of the noise, where the variant has any."
)
@click.option("--style", metavar="FILE", help="The image whose style is taken on, with adain.")
@click.option("--format", "suffix", metavar=".png", help="Ending of the results; default the source's.")
def translate(run: str, inputs: str, out: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Translate the images IN (a folder, a file, or - for paths on standard input) into OUT, by RUN's best checkpoint.

    \b
    lit-gan translate runs/pix2pix-facades-1 labels/ facades/
    lit-gan translate runs/esrgan-1/checkpoints/last.ckpt scan.tif large.tif --tile 512
    lit-gan translate runs/adain-unpaired-1 photos/ painted/ --style waves.jpg model.alpha=0.7
    Names, bit depth, alpha and metadata stay. Files that fail are listed, and the exit code is 1.
    """
    from lit_gan.resume import compose_saved

    saved = compose_saved(run, overrides)
    from lit_gan.sample import translate_run

    return translate_run(saved, inputs, out, **options)


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        try:
            return value if isinstance(value, tuple) else tuple(float(word) for word in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a number, or several with commas between them", param, ctx)


@cli.command()
@click.argument("run")
@OVERRIDES
@click.option(
    "--width", "widths", required=True, type=Numbers(), metavar="0.05,0.1,...", help="Relative widths."
)
@click.option(
    "--kimg", type=float, help="The end of the average, where a snapshot was taken; default the last."
)
@click.option("--eval", "score", is_flag=True, help="Score each, as eval.* and metrics.* say.")
def average(run: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Make averages of RUN's generator of other widths, after training, as checkpoints to evaluate and sample.

    \b
    lit-gan train arch=r3gan optim.ema_width=0.05       keeps the snapshots
    lit-gan average runs/r3gan-digits-1 --width 0.03,0.06,0.12 --eval
    """
    from lit_gan.resume import compose_saved

    saved = compose_saved(run, overrides)
    from lit_gan.average import average_run

    return average_run(saved, **options)


@cli.command()
@click.argument("first")
@click.argument("second")
@click.option("--alpha", required=True, type=float, help="The share of SECOND: 0 is FIRST, 1 is SECOND.")
@click.option(
    "--out", type=click.Path(dir_okay=False), help="Default: blend-<alpha>.ckpt with SECOND's checkpoints."
)
def blend(first: str, second: str, **options: Any) -> int:
    """Make a generator between those of two runs or checkpoints, weight by weight.

    \b
    lit-gan train arch=esrgan run.images=16000000       the stage for PSNR
    lit-gan train arch=esrgan model.pretrain_images=0 run.start_from=runs/esrgan-super-resolution-1
    lit-gan blend runs/esrgan-super-resolution-1 runs/esrgan-super-resolution-2 --alpha 0.8
    """
    from lit_gan.interpolation import blend_runs

    return blend_runs(first, second, **options)


@cli.command("list")
@click.argument("what", required=False)
def list_(what: str | None) -> int:
    """Show the archs, data sources, experiments and metrics, a line each."""
    from lit_gan.listing import listing

    for line in listing(what):
        click.echo(line)
    return 0


@cli.group(cls=Commands, invoke_without_command=True)
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


@cli.command()
@OVERRIDES
def config(overrides: tuple[str, ...]) -> int:
    """Print the resolved configuration, and where each value comes from."""
    from lit_gan.listing import origins
    from lit_gan.resume import compose_run

    for line in origins(compose_run(overrides).config):
        click.echo(line)
    return 0


@cli.command()
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


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; a `UserError` is one line on standard error and exit code 2."""
    try:
        return int(cli.main(args=arguments, prog_name="lit-gan", standalone_mode=False) or 0)
    except UserError as error:
        rank = next((os.environ[k] for k in RANKS if k in os.environ), "0")
        where = (
            "" if rank == "0" else f" [rank {rank}]"
        )  # most often every rank finds the same, but not always
        click.echo(f"lit-gan{where}: {' '.join(str(error).split())}", err=True)
        return USER_ERROR
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.Abort:
        return 130
    except click.ClickException as error:
        click.echo(
            f"lit-gan: {' '.join(error.format_message().split()).rstrip('.')}; see `lit-gan --help`", err=True
        )
        return USER_ERROR
    except OSError as error:
        if error.errno not in MACHINE_SAYS_NO:
            raise
        click.echo(f"lit-gan: {error.filename or 'disk'}: {error.strerror}", err=True)
        return USER_ERROR


def run() -> None:
    """The console script."""
    sys.exit(main())
