"""Runs of super-resolution against bicubic, on a folder of large images: the table of docs/results.md.

    python benchmarks/super_resolution.py RUN [RUN ...] --images set5/ [--scale 4] [--features cifar10/train.parquet]

Small images are Pillow's bicubic of the large ones, cut to whole multiples of the scale; what `lit_gan.load(run)` makes of
them and what bicubic makes are compared with the large ones on Y without a border of the scale. `--features`, a labelled
parquet file of small pictures, adds a distance of features as LPIPS has it, where LPIPS's own weights are not at hand: of
the three convolutional layers of `metrics.extractor=classifier` of these data, each place at unit length, squared
differences summed over channels, averaged over places and summed over layers, times 1000. It ranks methods of one table
and no more.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import lit_gan
from lit_gan.build import data_of
from lit_gan.config import compose
from lit_gan.data.files import SUFFIXES
from lit_gan.metrics import build_extractor
from lit_gan.metrics.classifier import Classifier
from lit_gan.metrics.paired import PSNRY, SSIMY

Method = Callable[[Image.Image], Image.Image]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="runs, or checkpoint files in them")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--features")
    args = parser.parse_args()
    distance = feature_distance(args.features) if args.features else None
    paths = sorted(path for path in args.images.iterdir() if path.suffix.lower() in SUFFIXES)
    methods: dict[str, Method] = {"bicubic": lambda small: enlarged(small, args.scale)}
    methods |= {run: lit_gan.load(run).translate for run in args.runs}

    print(f"{len(paths)} images of {args.images}, x{args.scale}\n")
    print("| | PSNR-Y | SSIM-Y |" + (" features |" if distance else ""))
    print("| --- | ---: | ---: |" + (" ---: |" if distance else ""))
    for name, method in methods.items():
        psnr, ssim, apart = PSNRY(args.scale), SSIMY(args.scale), []
        for path in paths:
            large = whole_multiple(Image.open(path).convert("RGB"), args.scale)
            small = large.resize(
                (large.width // args.scale, large.height // args.scale), Image.Resampling.BICUBIC
            )
            made, real = levels(method(small)), levels(large)
            psnr.update(made, real)
            ssim.update(made, real)
            if distance:
                apart.append(distance(made, real))
        row = f"| {name} | {float(psnr.compute()):.2f} | {float(ssim.compute()):.4f} |"
        print(row + (f" {np.mean(apart):.1f} |" if distance else ""), flush=True)


def enlarged(image: Image.Image, scale: int) -> Image.Image:
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)


def whole_multiple(image: Image.Image, scale: int) -> Image.Image:
    return image.crop((0, 0, image.width - image.width % scale, image.height - image.height % scale))


def levels(image: Image.Image) -> Tensor:
    """uint8 [1, 3, H, W]."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)[None]


def feature_distance(path: str) -> Callable[[Tensor, Tensor], float]:
    data = data_of(compose(["data=hub", f"data.path={path}", "data.image_size=32", "data.channels=3"]))
    classifier = build_extractor("classifier", data=data, device="cpu")
    assert isinstance(classifier, Classifier)
    body = classifier.network.body
    ends = [i + 1 for i, layer in enumerate(body) if isinstance(layer, nn.ReLU)][:3]

    @torch.no_grad()
    def between(fake: Tensor, real: Tensor) -> float:
        h = torch.cat([fake, real]).float() / 127.5 - 1
        total, start = 0.0, 0
        for end in ends:
            h = body[start:end](h)
            one, other = nn.functional.normalize(h, eps=1e-6)
            total += float((one - other).square().sum(0).mean())
            start = end
        return 1000 * total

    return between


if __name__ == "__main__":
    main()
