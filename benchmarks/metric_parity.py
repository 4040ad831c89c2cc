"""lit-gan's FID, KID and IS against torch-fidelity's and torchmetrics', and its clean resize against Pillow's.

Parity does not need the trained weights: a file of random ones in the standard format goes through all three. The values
mean nothing, the differences do. Prints the table of docs/metrics.md.

    python benchmarks/metric_parity.py [--images 64] [--size 32] [--threads 1]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
from torchmetrics.image.inception import InceptionScore as TheirInceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from lit_gan.metrics import FrechetDistance, Inception, InceptionScore, KernelDistance
from lit_gan.metrics.extractors import resized
from lit_gan.metrics.weights import sha256_of

BATCH = 16
Row = tuple[str, str, float, float]  # what, against whom, lit-gan's value, theirs


class Images(Dataset):
    """uint8 [N, 3, H, W], one at a time, as torch-fidelity reads data."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]

    def __len__(self) -> int:
        return len(self.images)


def random_weights(path: Path) -> None:
    """Inception's state dict with weights that keep the signal's size through all layers."""
    with (
        patch("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: {}),
        patch.object(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None),
    ):
        graph = FeatureExtractorInceptionV3("random", ["2048"])
    for layer in graph.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.normal_(graph.fc.weight, std=0.3)  # else every image is of all classes, and the Inception score 1
    torch.save(graph.state_dict(), path)


def pictures(number: int, size: int, coarse: int) -> Tensor:
    """Coloured blobs, uint8 [N, 3, size, size]; `coarse` is how many there are along a side."""
    blobs = nn.functional.interpolate(torch.randn(number, 3, coarse, coarse), (size, size), mode="bicubic")
    return (blobs * 60 + 128 + torch.randn(number, 3, size, size) * 8).clamp(0, 255).to(torch.uint8)


def direct_kid(real: Tensor, fake: Tensor) -> float:
    """The unbiased squared MMD, written out in float64."""
    real, fake = real.double(), fake.double()
    n, m, d = len(real), len(fake), real.shape[1]
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((real, real), (fake, fake), (real, fake)))
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def gram_fid(real: Tensor, fake: Tensor) -> float:
    """FID of fewer samples than features without any D x D matrix: singular values of the centred cross Gram matrix."""
    real, fake = real.double(), fake.double()
    x, y = ((f - f.mean(0)) / (len(f) - 1) ** 0.5 for f in (real, fake))
    spread = x.square().sum() + y.square().sum() - 2 * torch.linalg.svdvals(x @ y.T).sum()
    return float((real.mean(0) - fake.mean(0)).square().sum() + spread)


def scores(path: Path, real: Tensor, fake: Tensor) -> Iterator[Row]:
    ours = Inception(path, sha256_of(path))
    graph = FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], str(path))
    parts = [ours(part) for part in (*real.split(BATCH), *fake.split(BATCH))]
    features, logits = (torch.cat(values) for values in zip(*parts, strict=True))
    number = len(real)
    with torch.no_grad():
        theirs = graph(real[:BATCH])[0]
    yield (
        "features, largest difference",
        "torch-fidelity",
        float((features[:BATCH] - theirs).abs().max()),
        0.0,
    )

    fid, kid = FrechetDistance(ours.dim), KernelDistance(ours.dim)
    for metric in (fid, kid):
        metric.update(features[:number], real=True)
        metric.update(features[number:], real=False)
    inception = {}
    for splits in (10, 1):
        inception[splits] = InceptionScore(1008, number, splits)
        inception[splits].update(logits[number:], torch.arange(number))
    our = {"fid": float(fid.compute()), "kid": float(kid.compute())}
    our |= {f"is{splits}": float(metric.compute()[0]) for splits, metric in inception.items()}

    fidelity = calculate_metrics(
        input1=Images(fake), input2=Images(real), fid=True, kid=True, isc=True, cuda=False, cache=False,
        kid_subsets=1, kid_subset_size=number, samples_shuffle=False, batch_size=BATCH, verbose=False,
        feature_extractor_weights_path=str(path), save_cpu_ram=True,
    )  # fmt: skip
    yield "FID", "torch-fidelity", our["fid"], fidelity["frechet_inception_distance"]
    halves = (features[:number].double(), features[number:].double())
    statistics = [fid_features_to_statistics(half) for half in halves]
    value = fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    yield "FID", "torch-fidelity's formula on float64 features", our["fid"], value
    theirs = FrechetInceptionDistance(feature_extractor_weights_path=str(path), antialias=False)
    yield "FID", "torchmetrics, antialias=False", our["fid"], _both(theirs, real, fake)
    yield "FID", "Gram matrix, float64", our["fid"], gram_fid(features[:number], features[number:])

    yield "KID", "written out, float64", our["kid"], direct_kid(features[:number], features[number:])
    yield "KID", "torch-fidelity, one subset of all", our["kid"], fidelity["kernel_inception_distance_mean"]
    net = NoTrainInceptionV3("net", ["2048"], str(path), antialias=False)
    theirs = KernelInceptionDistance(net, subsets=1, subset_size=number)
    yield "KID", "torchmetrics, one subset of all", our["kid"], _both(theirs, real, fake)

    yield "IS, 10 splits", "torch-fidelity", our["is10"], fidelity["inception_score_mean"]
    net = NoTrainInceptionV3("net", ["logits_unbiased"], str(path), antialias=False)
    theirs = TheirInceptionScore(net, splits=1)  # it shuffles, so only one split is comparable
    for part in fake.split(BATCH):
        theirs.update(part)
    yield "IS, 1 split", "torchmetrics", our["is1"], float(theirs.compute()[0])


def _both(metric: FrechetInceptionDistance | KernelInceptionDistance, real: Tensor, fake: Tensor) -> float:
    for images, is_real in ((real, True), (fake, False)):
        for part in images.split(BATCH):
            metric.update(part, real=is_real)
    value = metric.compute()
    return float(value[0] if isinstance(value, tuple) else value)


def pillow(image: Tensor, side: int) -> Tensor:
    """[3, H, W] as clean-fid resizes it: bicubic on float32 channels, cut to [0, 255], not rounded."""
    channels = [Image.fromarray(channel.numpy().astype(np.float32), mode="F") for channel in image]
    resized = [np.asarray(channel.resize((side, side), Image.Resampling.BICUBIC)) for channel in channels]
    return torch.from_numpy(np.stack(resized)).clamp(0, 255)


def resizes() -> Iterator[str]:
    for size in (32, 64, 299, 512, 1024):
        image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
        difference = (resized(image[None], (299, 299))[0] - pillow(image, 299)).abs().max()
        yield f"| clean resize {size} to 299, largest difference in grey levels | Pillow | {float(difference):.1e} |  |  |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=64, help="reals, and as many fakes")
    parser.add_argument("--size", type=int, default=32, help="their side")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", module="torchmetrics|torch_fidelity")
    real = pictures(arguments.images, arguments.size, 4)
    fake = pictures(arguments.images, arguments.size, 7)

    names = ("torch", "torchmetrics", "torch-fidelity", "pillow", "numpy")
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))
    print("| what | against | lit-gan | theirs | relative difference |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        random_weights(path)
        for what, whom, our, their in scores(path, real, fake):
            relative = f"{abs(our - their) / abs(their):.1e}" if their else "" if our else "0"
            print(f"| {what} | {whom} | {our:.10g} | {their:.10g} | {relative} |", flush=True)
    for line in resizes():
        print(line)


if __name__ == "__main__":
    main()
