"""The time of a whole evaluation, from uint8 images to FID, KID, IS and precision/recall: lit-gan against torchmetrics and
torch-fidelity.

One process, the same random-weight Inception and resize on all sides, all sides in turn, medians. "first" knows nothing,
"again" has the reals from before, as every evaluation of a training but the first: lit-gan's cache, torch-fidelity's, and
torchmetrics' `reset_real_features=False`. lit-gan also takes the floor (the same scores between halves of the reals) the
first time. torchmetrics has no precision and recall; torch-fidelity loads its network in every call.

    python benchmarks/evaluation.py [--images 64] [--size 32] [--rounds 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch_fidelity import calculate_metrics
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from common import BATCH, Output, Pictures, pictures, random_weights, torchmetrics_once, versions
from lit_gan.metrics import Inception
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.gallery import Gallery
from lit_gan.metrics.weights import sha256_of

SUBSET = 1000  # of KID, where there are as many images: the libraries' default

Calls = tuple[Callable[[], float], Callable[[], float]]  # first and again: both give the FID


def of_lit_gan(weights: Path, real: Pictures, fake: Pictures, errors: bool) -> Calls:
    """lit-gan's evaluate(); the standard error of FID is what `lit-gan eval` and the last one in training have."""
    extractor, generator = Inception(weights, sha256_of(weights)), Gallery(fake)
    cache = Path(os.environ["LIT_GAN_CACHE"])

    def again() -> float:
        scores = evaluate(
            generator, real, metrics=["fid", "kid", "is", "pr"], extractor=extractor, fakes=len(fake), batch_size=BATCH,
            errors=errors,
        )  # fmt: skip
        return scores["fid"].value

    def first() -> float:
        for entry in cache.glob("statistics/*.npz"):
            entry.unlink()
        return again()

    return first, again


def of_torchmetrics(
    nets: list[nn.Module], real: Pictures, fake: Pictures, forget: Callable[[], None]
) -> Calls:
    """torchmetrics' three metrics over the networks of FID, KID and IS; `forget` is called before each pass."""
    subset = min(SUBSET, len(real), len(fake))
    fid = FrechetInceptionDistance(nets[0], reset_real_features=False)
    kid = KernelInceptionDistance(nets[1], subset_size=subset, reset_real_features=False)
    score = InceptionScore(nets[2])

    def again() -> float:
        forget()
        for metric in (fid, kid, score):
            metric.reset()
        for part in fake.tensor.split(BATCH):
            fid.update(part, real=False)
            kid.update(part, real=False)
            score.update(part)
        values = fid.compute(), kid.compute(), score.compute()
        return float(values[0])

    def first() -> float:
        forget()
        for metric in (fid, kid):
            metric.reset_real_features = True
            metric.reset()
            metric.reset_real_features = False
        for part in real.tensor.split(BATCH):
            fid.update(part, real=True)
            kid.update(part, real=True)
        return again()

    return first, again


def of_torch_fidelity(weights: Path, real: Pictures, fake: Pictures, folder: Path) -> Calls:
    """torch-fidelity's calculate_metrics, which keeps the reals' features in `folder`."""

    def again() -> float:
        values = calculate_metrics(
            input1=fake, input2=real, isc=True, fid=True, kid=True, prc=True, cuda=False, batch_size=BATCH, verbose=False,
            feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(weights),
            kid_subset_size=min(SUBSET, len(real), len(fake)), cache_root=str(folder), input2_cache_name="real",
            save_cpu_ram=True,
        )  # fmt: skip
        return float(values["frechet_inception_distance"])

    def first() -> float:
        for entry in folder.glob("*.pt"):
            entry.unlink()
        return again()

    return first, again


def sides(weights: Path, real: Pictures, fake: Pictures, folder: Path) -> dict[str, Calls]:
    """All of them by name; networks are built here, outside what is timed, but for torch-fidelity's."""

    def net(output: str) -> nn.Module:
        return NoTrainInceptionV3("net", [output], str(weights), antialias=False)

    once = torchmetrics_once(weights)
    shared: list[nn.Module] = [Output(once, 0, 2048), Output(once, 0, 2048), Output(once, 1, 1008)]
    own = [net("2048"), net("2048"), net("logits_unbiased")]
    own[0].num_features = 2048  # type: ignore[assignment]  # else it is found by a run over an image
    return {
        "lit-gan": of_lit_gan(weights, real, fake, errors=False),
        "lit-gan, with standard errors": of_lit_gan(weights, real, fake, errors=True),
        "torchmetrics, a network each": of_torchmetrics(own, real, fake, lambda: None),
        "torchmetrics, one pass by hand": of_torchmetrics(shared, real, fake, once.known.clear),
        "torch-fidelity": of_torch_fidelity(weights, real, fake, folder),
    }


def measured(
    calls: dict[str, Calls], rounds: int
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, float]]:
    """Seconds of the first and of the second evaluation of every round, and the FID, by name."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    values = {}
    for _ in range(rounds):
        for name, pair in calls.items():
            seconds = []
            for call in pair:
                started = time.perf_counter()
                values[name] = call()
                seconds.append(time.perf_counter() - started)
            taken[name].append((seconds[0], seconds[1]))
    return taken, values


def lines(taken: dict[str, list[tuple[float, float]]], values: dict[str, float]) -> list[str]:
    """The table: medians of seconds, and of the ratios to the first side's in the same round."""
    table = ["| | first, s | ratio | again, s | ratio | FID |", "|---|---|---|---|---|---|"]
    base = next(iter(taken.values()))
    for name, rounds in taken.items():
        cells = []
        for which in (0, 1):
            seconds = statistics.median(pair[which] for pair in rounds)
            ratio = statistics.median(
                pair[which] / own[which] for pair, own in zip(rounds, base, strict=True)
            )
            cells.append(f"{seconds:.2f} | {ratio:.2f}")
        table.append(f"| {name} | {' | '.join(cells)} | {values[name]:.7g} |")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("images", 64), ("size", 32), ("rounds", 3), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", module="torchmetrics|torch_fidelity")
    real, fake = (Pictures(pictures(chosen.images, chosen.size, coarse)) for coarse in (4, 7))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIT_GAN_CACHE"] = folder
        weights = Path(folder) / "weights.pth"
        random_weights(weights)
        taken, values = measured(sides(weights, real, fake, Path(folder) / "fidelity"), chosen.rounds)
    about = f"{chosen.images} reals and as many fakes of {chosen.size} x {chosen.size}; FID, KID, IS, precision and recall"
    how = f"{chosen.rounds} rounds in turn, {chosen.threads} thread(s)"
    print(f"{about}; {how}, {versions('torch', 'torchmetrics', 'torch-fidelity')}, {datetime.date.today()}")
    print("\n".join(lines(taken, values)))


if __name__ == "__main__":
    main()
