"""Commands that train, and `encode`, which makes what is trained on."""

from __future__ import annotations

from typing import Any

import click

from lit_gan.cli.parsing import OVERRIDES, Sweep


@click.command()
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


@click.command(cls=Sweep)
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


@click.command()
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
