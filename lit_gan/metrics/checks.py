"""What can be asked of a generator and its data: metrics by name, and one clear line where a score cannot be had."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import torch

from lit_gan.errors import UserError, nearest
from lit_gan.metrics import METRICS
from lit_gan.metrics.collectives import all_reduce_sum, broadcast_floats
from lit_gan.metrics.extractors import Extractor, Network, Source
from lit_gan.metrics.pairs import paired
from lit_gan.metrics.reference import Reference
from lit_gan.metrics.sums import EvaluationMetric
from lit_gan.sampling import Sampleable

if TYPE_CHECKING:
    from lit_gan.metrics.lpips import PerceptualNetwork

NOTHING = Network()  # what a metric is made with that needs no network


def metric_class(name: str) -> type[EvaluationMetric]:
    """The class that METRICS has under this name."""
    if name not in METRICS:
        raise UserError(f"eval.metrics: no metric is called '{name}'; {nearest(name, METRICS)}")
    where, _, what = METRICS[name].partition(":")
    kind: type[EvaluationMetric] = getattr(import_module(where), what)
    return kind


def check_metrics(
    metrics: Sequence[str],
    extractor: Extractor | None,
    *,
    fakes: int,
    lpips: PerceptualNetwork | None = None,
    reals: int | None = None,
    data: Source | None = None,
    module: Sampleable | None = None,
) -> None:
    """Raises the UserError that `evaluate` would, before training starts.

    Without `data` and `module` it is silent about what a metric needs of them.
    """
    for name in metrics:
        kind = metric_class(name)
        network = network_of(kind, extractor, lpips)
        if kind.needs_classes and not network.data_classes:
            raise UserError(
                f"eval.metrics: '{name}' needs an extractor that knows the data's own classes, "
                f"'{network.name}' does not; use metrics.extractor=classifier or leave '{name}' out"
            )
        if kind.needs_logits and not network.has_logits:
            raise UserError(
                f"eval.metrics: '{name}' needs an extractor that classifies, '{network.name}' does not; "
                f"use metrics.extractor=classifier or inception, or leave '{name}' out"
            )
        if kind.needs_labels:
            _check_labels(name, data, module)
        if module is not None:
            _check_generator(name, kind, module)
        lacking = kind.lacks(data, network, fakes) if data is not None else ""
        if lacking:
            raise UserError(f"eval.metrics: '{name}' {lacking}, or leave '{name}' out")
    fewest = max((metric_class(name).smallest for name in metrics), default=1)
    if fakes < fewest:
        raise UserError(
            f"eval.images={fakes}: a score needs at least {fewest} fakes, and some thousand to mean much"
        )
    if reals is not None and reals < fewest:
        raise UserError(f"metrics.real_images={reals}: a score needs at least {fewest} real images")


def _check_generator(name: str, kind: type[EvaluationMetric], module: Sampleable) -> None:
    if kind.takes == "pairs" and not paired(module):
        raise UserError(
            f"eval.metrics: '{name}' compares each fake with the real that it should be, and this generator's belong to "
            f"none; score a folder by `lit-gan eval FOLDER --against FOLDER`, or leave '{name}' out"
        )
    if kind.needs == "cycle" and not hasattr(module, "cycle"):
        raise UserError(
            f"eval.metrics: '{name}' translates there and back, which cyclegan alone can: leave '{name}' out"
        )
    if kind.takes == "generator" and kind.needs == "latents" and not module.latent_dim:
        raise UserError(
            f"eval.metrics: '{name}' walks through the latents of a generator, and there are none; "
            f"score a run, or leave '{name}' out"
        )


def network_of(
    kind: type[EvaluationMetric], extractor: Extractor | None, lpips: PerceptualNetwork | None
) -> Network:
    """What metrics of this kind are made with."""
    network = {"extractor": extractor, "lpips": lpips, "none": NOTHING}[kind.network]
    if network is None:
        what = "lpips=build_lpips()" if kind.network == "lpips" else "extractor=build_extractor(...)"
        raise ValueError(f"{kind.__name__} needs {what}, got None")
    return network


def _check_labels(name: str, data: Source | None, module: Sampleable | None) -> None:
    if data is not None and (data.labels is None or not data.num_classes):
        raise UserError(
            f"eval.metrics: '{name}' compares within classes, and the data have no labels; "
            f"use labelled data, or leave '{name}' out"
        )
    vectors = data is not None and data.labels is not None and data.labels.ndim != 1
    if vectors or getattr(module, "conditions", None) is not None:
        raise UserError(
            f"eval.metrics: '{name}' compares within classes, and the conditions are vectors: leave '{name}' out"
        )
    # a module that is no AdversarialModule and does not say whether it reads labels is believed
    if module is not None and not getattr(module, "conditional", True):
        raise UserError(
            f"eval.metrics: '{name}' compares within classes, and the generator reads no label; "
            f"use a variant with model.conditional=true, or leave '{name}' out"
        )


def _differs(text: str) -> bool:
    """Whether any rank has another text than the first; all ranks get the same answer."""
    mine = float(int(hashlib.sha256(text.encode()).hexdigest()[:12], 16))
    differs = torch.tensor(float(mine != broadcast_floats([mine])[0]), dtype=torch.float64)
    return bool(all_reduce_sum(differs) > 0)


def check_same(metrics: Sequence[str]) -> None:
    """Every rank must make the same scores: nodes with caches of their own may not all have the weights of LPIPS."""
    if _differs(",".join(metrics)):
        raise UserError(
            "eval.metrics: some of the ranks have the weights of LPIPS and others have not; share one LIT_GAN_CACHE or set "
            "metrics.lpips_weights=PATH to one file"
        )


def check_ranks(network: Network) -> None:
    """Every rank must have the same weights: nodes with caches of their own may have trained unequal ones."""
    if _differs(network.weights_hash):
        raise UserError(
            f"{network.name}: the ranks have different weights; share one LIT_GAN_CACHE or set "
            f"{'metrics.weights' if isinstance(network, Extractor) else 'metrics.lpips_weights'}=PATH to one file"
        )


def check_reference(kinds: dict[str, type[EvaluationMetric]], reference: Reference) -> None:
    fewest = max((kind.smallest for kind in kinds.values()), default=1)
    if len(reference) < fewest:
        raise UserError(
            f"the data leave {len(reference)} real images to compare with, a score needs {fewest}"
        )
