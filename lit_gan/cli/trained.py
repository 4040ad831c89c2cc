"""Commands that take a trained run: scores, images, averages."""

from __future__ import annotations

from typing import Any

import click

from lit_gan.cli.parsing import OVERRIDES, Label, Numbers, TileSide


@click.command("eval")
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


@click.command()
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


@click.command()
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
@click.option(
    "--direction",
    type=click.Choice(["forward", "back"]),
    default="forward",
    show_default=True,
    help="back: from images to sources, with cyclegan.",
)
@click.option(
    "--mask",
    metavar="FILE",
    help="White where a run on data=inpainting is to fill; default where an image is transparent.",
)
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


@click.command()
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


@click.command()
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
