"""Whether a run between two domains moves images into the target one: the table of docs/results.md.

    python benchmarks/unpaired.py RUN [RUN ...] --train trainA/ trainB/ --test testA/ testB/

A classifier (`metrics.extractor=classifier`) learns the two domains from a third of their training images. The table has,
for the test sources as they are, for what each run makes of them, and for the test images of the target: the share that the
classifier takes for the target domain, and FID and KID to the test images of the target in its features (those of the
target itself between its halves).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import lit_gan
from lit_gan.build import data_of
from lit_gan.config import compose
from lit_gan.data.files import SUFFIXES
from lit_gan.metrics import build_extractor
from lit_gan.metrics.frechet import FrechetDistance
from lit_gan.metrics.kernel import KernelDistance

TARGET = 1  # its class: folders are numbered by name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="runs, or checkpoint files in them")
    parser.add_argument("--train", type=Path, nargs=2, required=True)
    parser.add_argument("--test", type=Path, nargs=2, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, domain in zip(("0-source", "1-target"), args.train, strict=True):
            (Path(folder) / name).symlink_to(domain.resolve(), target_is_directory=True)
        data = data_of(compose(["data=folder", f"data.path={folder}"]))
        classifier = build_extractor("classifier", data=data, device="cpu")
    sources, targets = (images_of(path) for path in args.test)
    half = len(targets) // 2

    def row(name: str, images: Tensor, reals: Tensor) -> None:
        fake, logits = classifier(images)
        real, _ = classifier(reals)
        assert logits is not None
        share = float((logits.argmax(1) == TARGET).double().mean())
        fid, kid = FrechetDistance(classifier.dim), KernelDistance(classifier.dim)
        for metric in (fid, kid):
            metric.update(fake, real=False)
            metric.update(real, real=True)
        print(
            f"| {name} | {100 * share:.1f} | {float(fid.compute()):.2f} | {1000 * float(kid.compute()):.2f} |"
        )

    print("| | taken for the target, % | FID | KID x 1000 |\n| --- | ---: | ---: | ---: |")
    row("sources", sources, targets)
    for run in args.runs:
        made = lit_gan.load(run)
        arrays = [made.translate(image.permute(1, 2, 0).numpy()) for image in sources]
        row(run, torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2), targets)
    row("target, halves", targets[:half], targets[half:])


def images_of(folder: Path) -> Tensor:
    """uint8 [N, 3, H, W], in the order of the names."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


if __name__ == "__main__":
    main()
