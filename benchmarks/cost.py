"""What an arch costs: seconds per kimg of its own preset, and that against `dcgan`'s, on one thread.

Every arch trains for about `--seconds`, in each of `--rounds` passes over all of them; the median over rounds of the run's
own clock, up to its first flush left out. Those that draw from noise see the digits at 32x32x1, the others
pictures of noise: 64x64x3, to be made from as many, or four times as large as their sources. Growing archs are timed
grown up, those with a first stage of one player in their second.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/cost.py [--archs dcgan r3gan ...] [--vgg VGG19.pth]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lit_gan.build import variant_of
from lit_gan.config import compose, names
from lit_gan.module import AdversarialModule
from lit_gan.resume import compose_run
from lit_gan.super_resolution import SuperResolver
from lit_gan.train import train

GROWN = ["model.stable_images=1", "model.fade_images=1"]
MORE: dict[str, list[str]] = {
    "progan": GROWN,
    "stylegan": GROWN,
    **{arch: ["model.pretrain_images=0"] for arch in ("srgan", "esrgan", "realesrgan")},
}
NEEDS_VGG = ("adain",)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--archs", nargs="+", choices=names("arch"), metavar="ARCH")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vgg", help="weights of VGG-19, without which `adain` is left out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.archs is not None and not args.vgg and (asked := set(args.archs) & set(NEEDS_VGG)):
        parser.error(f"{', '.join(asked)}: give weights by --vgg")
    archs = args.archs or [arch for arch in names("arch") if args.vgg or arch not in NEEDS_VGG]
    with tempfile.TemporaryDirectory(prefix="lit-gan-cost-") as name:
        folder = Path(name)
        draw(folder / "pictures")
        calibrated = {arch: speed(arch, stretch(arch) * 2, args, folder / f"{arch}-first") for arch in archs}
        found: dict[str, list[float]] = {arch: [] for arch in archs}
        for turn in range(args.rounds):
            for arch in archs:
                steps = stretch(arch)
                steps *= 1 + max(round(args.seconds * calibrated[arch] / images_a_step(arch) / steps), 1)
                found[arch].append(speed(arch, steps, args, folder / f"{arch}-{turn}"))
    cost = {arch: 1000 / statistics.median(speeds) for arch, speeds in found.items()}
    against = cost.get("dcgan")
    print(f"{args.threads} thread(s), {args.rounds} rounds, torch {torch.__version__}\n")
    print("| arch | images a step | s per kimg | times dcgan |\n| --- | ---: | ---: | ---: |")
    for arch, seconds in cost.items():
        ratio = f"{seconds / against:.1f}" if against and not kind_of(arch).translates else ""
        print(f"| `{arch}` | {images_a_step(arch)} | {seconds:,.2f} | {ratio} |")


def kind_of(arch: str) -> type[AdversarialModule]:
    return variant_of(compose([f"arch={arch}"]))


def stretch(arch: str) -> int:
    """Steps between flushes: as many lazy ones, of every fourth or sixteenth, in each; translators have none."""
    return 4 if kind_of(arch).translates else 16


def images_a_step(arch: str) -> int:
    config = compose([f"arch={arch}"])
    images: int = config.get("data.batch_size") * config.get("optim.d_steps_per_g_step")
    return images


def speed(arch: str, steps: int, args: argparse.Namespace, run: Path) -> float:
    """Images per second of a run of so many steps."""
    settings = [
        f"arch={arch}", *data_of(arch, run.parent / "pictures"), *MORE.get(arch, []), f"run.dir={run.parent}",
        f"run.name={run.name}", f"run.images={steps * images_a_step(arch)}", "eval.metrics=[]", "eval.at_start=false",
        "trainer.accelerator=cpu", "trainer.progress=false", "logger=csv", f"logger.every={stretch(arch)}",
        "samples.rows=1", "samples.columns=1",
    ]  # fmt: skip
    if arch in NEEDS_VGG:
        settings.append(f"model.vgg={args.vgg}")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train(compose_run(settings))
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["speed/hours"]]
    images, hours = (float(rows[-1][name]) - float(rows[0][name]) for name in ("kimg", "speed/hours"))
    return images * 1000 / (hours * 3600)


def data_of(arch: str, pictures: Path) -> list[str]:
    kind = kind_of(arch)
    if not kind.translates:
        return ["data=digits"]
    if issubclass(kind, SuperResolver):
        return ["data=super-resolution", f"data.path={pictures}/b", "data.scale=4", "data.crop_size=64"]
    return [
        "data=paired" if kind.needs_pairs else "data=unpaired",
        f"data.path={pictures}/b",
        f"data.sources={pictures}/a",
        "data.crop_size=64",
    ]


def draw(folder: Path) -> None:
    """Sides a and b, 64 pictures of noise each."""
    drawn = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 64, 3), dtype=np.uint8)
    for side, images in zip("ab", drawn, strict=True):
        (folder / side).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / side / f"{i:02d}.png")


if __name__ == "__main__":
    main()
