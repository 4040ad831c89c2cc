"""lit-gan's FID, KID, IS, precision and recall against torch-fidelity, torchmetrics and clean-fid, on the same images.

One file of random weights in the standard format goes through all of them; clean-fid is left out where it is not installed.
Prints the tables of docs/metrics.md. Exit code 1 where a row of the same preprocessing and precision differs by more than
1e-6. More than 2048 images make the covariances of the whole network regular; that takes an hour.

    python benchmarks/metric_parity.py [--images 64] [--tap-images 320] [--size 32] [--threads 1]
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from clean_rows import clean_fid, clean_score_rows, clean_tap_rows, resize_lines, written
from common import pictures, random_weights, versions
from lit_gan.metrics import Inception
from lit_gan.metrics.weights import sha256_of
from parity_rows import Row, score_rows, tap_rows

COARSE = (4, 7)  # blobs along a side, of reals and of fakes


def rows(images: int, tap_images: int, size: int, weights: Path, folder: Path) -> Iterator[Row]:
    """All of them, one by one as they are known; files go into `folder`."""
    legacy, clean = inceptions(weights)
    fid = clean_fid()
    real, fake = (pictures(tap_images, size, coarse) for coarse in COARSE)
    yield from tap_rows(weights, legacy, real, fake)
    if fid is not None:
        files = written(real, folder / "tap-reals"), written(fake, folder / "tap-fakes")
        yield from clean_tap_rows(fid, legacy, clean, files, real, fake)
    real, fake = (pictures(images, size, coarse) for coarse in COARSE)
    yield from score_rows(weights, legacy, real, fake, folder)
    if fid is not None:
        files = written(real, folder / "reals"), written(fake, folder / "fakes")
        yield from clean_score_rows(fid, clean, files, real, fake)


def inceptions(weights: Path) -> tuple[Inception, Inception]:
    """lit-gan's, with either resize: legacy, clean."""
    legacy, clean = (Inception(weights, sha256_of(weights)) for _ in range(2))
    clean.choose_resize("clean")
    return legacy, clean


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=64, help="reals, and as many fakes")
    parser.add_argument(
        "--tap-images", type=int, default=320, help="the same, for the layers of 64 and 192 dimensions"
    )
    parser.add_argument("--size", type=int, default=32, help="their side")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", module="torchmetrics|torch_fidelity")
    packages = ["torch", "torchmetrics", "torch-fidelity", "pillow", "numpy", "scipy"]
    if clean_fid() is not None:
        packages.append("clean-fid")
    else:
        print("clean-fid is not installed: its rows are left out (pip install clean-fid)", file=sys.stderr)

    taps, number, side = arguments.tap_images, arguments.images, arguments.size
    print(f"{datetime.date.today()}, {versions(*packages)};")
    print(
        f"{number} reals and as many fakes ({taps} for 64 and 192 dimensions) of {side} x {side}, on a CPU:\n"
    )
    print(
        "| what | against | lit-gan | theirs | relative difference | same preprocessing |\n|---|---|---|---|---|---|"
    )
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        random_weights(weights)
        for row in rows(number, taps, side, weights, Path(folder)):
            failed |= row.failed
            print(row, flush=True)
        print(
            "\n| resize to 299 x 299 | legacy, torch-fidelity's | clean, grey levels apart | |\n|---|---|---|---|"
        )
        for line, holds in resize_lines(*inceptions(weights)):
            failed |= not holds
            print(line)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
