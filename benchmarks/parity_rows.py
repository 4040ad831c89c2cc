"""The rows of the parity table that torch-fidelity and torchmetrics fill; those of clean-fid are in `clean_rows.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchmetrics
from torch import Tensor, nn
from torch_fidelity import calculate_metrics
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore as TheirInceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from common import BATCH, Once, Output, Pictures, torchmetrics_once
from lit_gan.metrics import FrechetDistance, Inception, InceptionScore, KernelDistance, PrecisionRecall
from lit_gan.metrics.sums import EvaluationMetric

TOLERANCE = 1e-6
TAPS = {
    64: "MaxPool_1",
    192: "MaxPool_2",
}  # by dimensions: the layers whose averages the libraries offer as well
SINGULAR = "no: singular covariances"
SINGLE = "no: float32"


@dataclass(frozen=True)
class Row:
    """lit-gan's value beside another's; without a reason in `differs` they must be equal to TOLERANCE."""

    what: str
    whom: str
    ours: float
    theirs: float
    differs: str = ""  # how the other's preprocessing or precision is another
    difference: float | None = None  # relative, where it is not that of the two values

    @property
    def relative(self) -> float:
        if self.difference is not None:
            return self.difference
        return abs(self.ours - self.theirs) / abs(self.theirs) if self.ours != self.theirs else 0.0

    @property
    def failed(self) -> bool:
        return not self.differs and not self.relative <= TOLERANCE  # NaN fails

    def __str__(self) -> str:
        verdict = self.differs or ("**fail**" if self.failed else "pass")
        return f"| {self.what} | {self.whom} | {self.ours:.10g} | {self.theirs:.10g} | {self.relative:.1e} | {verdict} |"


class ReachedError(Exception):
    """The layer is reached: the rest of the network would be computed for nothing."""


def taps(graph: nn.Module, network: Callable[[Tensor], Any], images: Tensor) -> tuple[Tensor, ...]:
    """The spatial averages [B, D] of the TAPS of `graph`, in float32, when `network` runs over the images."""
    found: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        found.append(nn.functional.adaptive_avg_pool2d(output, 1).flatten(1))
        if len(found) == len(TAPS):
            raise ReachedError

    hooks = [graph.get_submodule(layer).register_forward_hook(keep) for layer in TAPS.values()]
    with torch.no_grad(), suppress(ReachedError):
        network(images)
    for hook in hooks:
        hook.remove()
    return tuple(found)


def over(images: Tensor, network: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The network's outputs for all images, batch by batch."""
    parts = [network(part) for part in images.split(BATCH)]
    return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))


def ours_of(kind: type[EvaluationMetric], real: Tensor, fake: Tensor) -> EvaluationMetric:
    """lit-gan's metric of these features [N, D]."""
    metric = kind(real.shape[1])
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric


def theirs_of(metric: torchmetrics.Metric, real: Tensor, fake: Tensor) -> float:
    """torchmetrics' metric of these images, or the first of its values."""
    for images, is_real in ((real, True), (fake, False)):
        for part in images.split(BATCH):
            metric.update(part, real=is_real)
    value = metric.compute()
    return float(value[0] if isinstance(value, tuple) else value)


def tap_rows(weights: Path, ours: Inception, real: Tensor, fake: Tensor) -> Iterator[Row]:
    """FID of the early layers, where a few hundred images are more than dimensions."""
    mine = [over(side, lambda part: taps(ours.graph, ours, part)) for side in (real, fake)]
    for index, dim in enumerate(TAPS):
        what, differs = f"FID, {dim} dimensions", "" if len(real) > dim else SINGULAR
        value = float(ours_of(FrechetDistance, *(side[index] for side in mine)).compute())
        fidelity = calculate_metrics(
            input1=Pictures(fake), input2=Pictures(real), fid=True, feature_layer_fid=str(dim), cuda=False, cache=False,
            batch_size=BATCH, verbose=False, feature_extractor_weights_path=str(weights), save_cpu_ram=True,
        )  # fmt: skip
        yield Row(what, "torch-fidelity", value, fidelity["frechet_inception_distance"], differs)
        for antialias in (False, True):
            metric = FrechetInceptionDistance(
                dim, feature_extractor_weights_path=str(weights), antialias=antialias
            )
            whom = f"torchmetrics, antialias={antialias}{' (its default)' if antialias else ''}"
            reason = "no: another resize" if antialias else differs
            yield Row(what, whom, value, theirs_of(metric, real, fake), reason)


def score_rows(weights: Path, ours: Inception, real: Tensor, fake: Tensor, folder: Path) -> Iterator[Row]:
    """FID, KID, precision, recall and IS of the whole network; torch-fidelity keeps its features in `folder`."""
    number = len(real)
    (real_features, _), (fake_features, logits) = (over(side, ours) for side in (real, fake))
    sides = real_features, fake_features
    kept = {"cache_root": str(folder), "input1_cache_name": "fake", "input2_cache_name": "real"}
    # `prc` would have VGG's features if none were named
    fidelity = calculate_metrics(
        input1=Pictures(fake), input2=Pictures(real), fid=True, kid=True, isc=True, prc=True, cuda=False, **kept,
        feature_extractor="inception-v3-compat", kid_subsets=1, kid_subset_size=number, samples_shuffle=False,
        batch_size=BATCH, verbose=False, feature_extractor_weights_path=str(weights), save_cpu_ram=True,
    )  # fmt: skip
    for what, mine, side, layer in (
        ("features of the reals", real_features, "real", "2048"),
        ("features of the fakes", fake_features, "fake", "2048"),
        ("logits of the fakes", logits, "fake", "logits_unbiased"),
    ):
        theirs = torch.load(folder / f"{side}-inception-v3-compat-features-{layer}.pt")
        difference = float((mine - theirs).abs().max() / theirs.abs().max())
        yield Row(
            f"{what}: mean, largest difference",
            "torch-fidelity",
            mine.mean().item(),
            theirs.mean().item(),
            "",
            difference,
        )
    once = torchmetrics_once(weights)
    yield from _fid_rows(sides, fidelity, once, real, fake)
    yield from _kid_rows(sides, fidelity, once, real, fake)
    yield from _prc_rows(sides, fidelity)
    yield from _is_rows(logits, fidelity, once, fake)


def _fid_rows(
    sides: tuple[Tensor, Tensor], fidelity: dict[str, float], once: Once, real: Tensor, fake: Tensor
) -> Iterator[Row]:
    dim = sides[0].shape[1]
    differs = "" if len(real) > dim else SINGULAR
    value = float(ours_of(FrechetDistance, *sides).compute())
    yield Row("FID", "torch-fidelity", value, fidelity["frechet_inception_distance"], differs)
    statistics = [fid_features_to_statistics(side.double()) for side in sides]
    theirs = fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    yield Row("FID", "torch-fidelity's formula on float64 features", value, theirs, differs)
    metric = FrechetInceptionDistance(Output(once, 0, dim))
    yield Row("FID", "torchmetrics, antialias=False", value, theirs_of(metric, real, fake), differs)
    yield Row("FID", "Gram matrix, float64", value, gram_fid(*sides))


def _kid_rows(
    sides: tuple[Tensor, Tensor], fidelity: dict[str, float], once: Once, real: Tensor, fake: Tensor
) -> Iterator[Row]:
    value, number = float(ours_of(KernelDistance, *sides).compute()), len(real)
    yield Row("KID", "written out, float64", value, direct_kid(*sides))
    yield Row(
        "KID", "torch-fidelity, one subset of all", value, fidelity["kernel_inception_distance_mean"], SINGLE
    )
    fake_features, real_features = (side.double() for side in reversed(sides))
    theirs = kid_features_to_metric(
        fake_features, real_features, kid_subsets=1, kid_subset_size=number, verbose=False
    )["kernel_inception_distance_mean"]
    yield Row("KID", "torch-fidelity's formula on float64 features", value, theirs)
    for dtype, differs in ((torch.float32, SINGLE), (torch.float64, "")):
        net = Output(once, 0, sides[0].shape[1], dtype)
        metric = KernelInceptionDistance(net, subsets=1, subset_size=number)
        whom = f"torchmetrics, one subset of all{'' if differs else ', float64 features'}"
        yield Row("KID", whom, value, theirs_of(metric, real, fake), differs)


def _prc_rows(sides: tuple[Tensor, Tensor], fidelity: dict[str, float]) -> Iterator[Row]:
    """Shares of samples: they are equal, or apart by whole samples."""
    values = ours_of(PrecisionRecall, *sides).values()
    theirs = calculate_precision_recall_full(sides[1].double(), sides[0].double())
    for what, exact in zip(("precision", "recall"), theirs, strict=True):
        yield Row(what, "torch-fidelity", values[what], fidelity[what], SINGLE)
        yield Row(what, "torch-fidelity's formula on float64 features", values[what], exact)
    yield Row("their harmonic mean", "torch-fidelity", values["value"], fidelity["f_score"], SINGLE)


def _is_rows(logits: Tensor, fidelity: dict[str, float], once: Once, fake: Tensor) -> Iterator[Row]:
    def value(splits: int) -> float:
        metric = InceptionScore(logits.shape[1], len(logits), splits)
        metric.update(logits, torch.arange(len(logits)))
        return float(metric.compute()[0])

    yield Row("IS, 10 splits", "torch-fidelity", value(10), fidelity["inception_score_mean"])
    theirs = TheirInceptionScore(
        Output(once, 1, logits.shape[1]), splits=1
    )  # it shuffles: one split alone compares
    for part in fake.split(BATCH):
        theirs.update(part)
    yield Row("IS, 1 split", "torchmetrics", value(1), float(theirs.compute()[0]))


def direct_kid(real: Tensor, fake: Tensor) -> float:
    """The unbiased squared MMD, written out in float64."""
    real, fake = real.double(), fake.double()
    n, m, d = len(real), len(fake), real.shape[1]
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((real, real), (fake, fake), (real, fake)))
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def gram_fid(real: Tensor, fake: Tensor) -> float:
    """FID without any D x D matrix: singular values of the centred cross Gram matrix."""
    real, fake = real.double(), fake.double()
    x, y = ((f - f.mean(0)) / math.sqrt(len(f) - 1) for f in (real, fake))
    spread = x.square().sum() + y.square().sum() - 2 * torch.linalg.svdvals(x @ y.T).sum()
    return float((real.mean(0) - fake.mean(0)).square().sum() + spread)
