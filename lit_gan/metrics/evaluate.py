"""Scores of a generator against real data: one function for training, the command line and everything
else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from lit_gan.errors import NonFiniteError, UserError
from lit_gan.metrics.checks import (
    check_metrics,
    check_ranks,
    check_reference,
    check_same,
    metric_class,
    network_of,
)
from lit_gan.metrics.collectives import all_reduce_sum
from lit_gan.metrics.extractors import Extractor, Source
from lit_gan.metrics.pairs import reals_of
from lit_gan.metrics.protocol import Finding, Protocol, Score, Scores
from lit_gan.metrics.real_images import ImageReference
from lit_gan.metrics.reference import Features, Floor, Pass, Reference, add_to, broadcast_parts
from lit_gan.metrics.sums import EvaluationMetric, float64_device
from lit_gan.sampling import Sampleable, inference, render, sampling_batch, to_uint8

if TYPE_CHECKING:
    from lit_gan.metrics.lpips import PerceptualNetwork
    from lit_gan.sources import Sources

REFERENCES: dict[str, type[Reference]] = {"features": Reference, "images": ImageReference}


def evaluate(
    module: Sampleable,
    data: Source,
    *,
    metrics: Sequence[str],
    extractor: Extractor | None,
    fakes: int,
    lpips: PerceptualNetwork | None = None,
    seed: int = 0,
    batch_size: int = 256,
    truncation: float | None = None,
    reals: int | None = None,
    rank: int = 0,
    world: int = 1,
    device: torch.device | None = None,
    errors: bool = True,
    should_stop: Callable[[], None] | None = None,
) -> Scores:
    """Scores of `fakes` images from `module.generate`, by names of METRICS; the same numbers on every rank.

    Findings, single fakes that are worth a look, are on rank 0 alone.

    Fake i is a function of (seed, i), and rank r makes i = r, r + world, ...: neither the batch size nor the
    number of ranks moves a score by more than rounding. The generator runs in eval mode and float32, every
    part's mode is restored, and no global random stream is touched. `reals` limits the reference to so many.
    `extractor` may be None where no metric reads features; `lpips` is for those that LPIPS measures.
    With `errors` metrics that have a standard error give it; at 2048 dimensions that takes ten times as long as the
    distance itself. With `world` > 1 every rank must call it with the same arguments. `should_stop` is called before
    every batch and may raise, then on every rank.
    """
    if world > 1:
        check_same(metrics)
    kinds = {name: metric_class(name) for name in metrics}
    check_metrics(metrics, extractor, lpips=lpips, fakes=fakes, reals=reals, data=data, module=module)
    how = Pass(device or module.device, batch_size, rank, world, should_stop)
    networks = {name: network_of(kind, extractor, lpips).to(how.device) for name, kind in kinds.items()}
    if world > 1:
        for network in dict.fromkeys(networks.values()):
            check_ranks(network)
    meters = {
        name: kind.build_for(data, networks[name], fakes).to(float64_device(how.device))
        for name, kind in kinds.items()
    }
    for meter in meters.values():
        meter.errors = errors
    references: dict[str, Reference] = {}
    floors: dict[str, Floor] = {name: {} for name in kinds}
    for takes, kind_of_reference in REFERENCES.items():
        compared = {name: meter for name, meter in meters.items() if meter.takes == takes}
        if compared:
            network = cast("Extractor", networks[next(iter(compared))])  # of one `takes` all have the same
            reference = kind_of_reference(data, network, reals=reals, fakes=fakes, real_key=module.real_key)
            check_reference({name: kinds[name] for name in compared}, reference)
            references[takes] = reference
            floors |= reference.prepare(compared, how)

    started = time.perf_counter()
    _take_fakes(meters, module, data, extractor, how, fakes=fakes, seed=seed, truncation=truncation)
    results = {name: _result(meter, how) for name, meter in meters.items()}
    seconds = time.perf_counter() - started
    for name, (values, _) in results.items():
        if "value" not in values:
            against = references.get(kinds[name].takes)
            also = f" and {len(against)} reals" if against is not None else ""
            raise UserError(
                f"eval.metrics: '{name}' has too few samples to give a number with eval.images={fakes}{also}; "
                f"use more, or leave '{name}' out"
            )

    def protocol(name: str) -> Protocol:
        takes, network = kinds[name].takes, networks[name]
        reference = references.get(takes)
        own = (_of_pairs(module, kinds.values()), fakes) if takes == "pairs" else ("none", 0)
        description, compared = own if reference is None else (reference.description, len(reference))
        return Protocol(
            metric=name,
            settings=meters[name].described(fakes),
            extractor=network.name,
            weights=network.weights_hash,
            resize=network.resize,
            quantisation=_quantisation(data, takes),
            data=data.fingerprint,
            reference=description,
            reals=compared,
            fakes=fakes,
            seed=seed if getattr(module, "seeded", True) else None,
            ema=getattr(module, "ema", None) is not None,
            truncation=truncation,
            standing=getattr(module, "standing_batches", 0) or None,
        )

    scores = Scores(
        {
            name: _score(*results[name], floors[name], references.get(kind.takes), protocol(name))
            for name, kind in kinds.items()
        }
    )
    scores.seconds = seconds
    return scores


def _of_pairs(module: Sampleable, kinds: Iterable[type[EvaluationMetric]]) -> str:
    """Which reals the fakes of pairs are compared with, for the protocol."""
    sources = getattr(module, "sources", None)
    if sources is None or not sources.uneven:
        return "the real of each fake"
    whole = all(kind.takes in ("pairs", "generator") for kind in kinds)
    return f"the real of each fake, {'whole' if whole else 'centre crops'}"


def _take_fakes(
    meters: dict[str, EvaluationMetric],
    module: Sampleable,
    data: Source,
    extractor: Extractor | None,
    how: Pass,
    *,
    fakes: int,
    seed: int,
    truncation: float | None,
) -> None:
    broken = torch.zeros((), dtype=torch.int64, device=how.device)
    shown = [meter for meter in meters.values() if meter.takes != "generator"]
    walking = [meter for meter in meters.values() if meter.takes == "generator"]
    sources = getattr(module, "sources", None)
    if shown and sources is not None and sources.uneven and all(meter.takes == "pairs" for meter in shown):
        broken += _add_whole(shown, module, data, how, fakes=fakes, seed=seed)
    elif shown:
        broken += _add_fakes(
            shown, module, data, extractor, how, fakes=fakes, seed=seed, truncation=truncation
        )
    for meter in walking:
        broken += meter.fill(module, data, how, seed=seed, truncation=truncation)
    if how.world > 1:
        broken = all_reduce_sum(broken)
    if count := int(broken):
        made = fakes * (bool(shown) + 2 * len(walking))
        raise NonFiniteError(
            f"the generator made {count} of {made} images with NaN or infinite pixels: no score"
        )


def _add_fakes(
    meters: Sequence[EvaluationMetric],
    module: Sampleable,
    data: Source,
    extractor: Extractor | None,
    how: Pass,
    *,
    fakes: int,
    seed: int,
    truncation: float | None,
) -> Tensor:
    """Gives the meters this rank's share of the fakes; returns how many were not finite, int64."""
    shape = tuple(data.image_shape)
    by_features, by_images, by_pairs = (
        [meter for meter in meters if meter.takes == takes] for takes in ("features", "images", "pairs")
    )
    broken = torch.zeros((), dtype=torch.int64, device=how.device)
    with inference(module, truncation=truncation):
        for indices in how.share(fakes, together=2 if by_images else 1):
            batch = sampling_batch(
                module, seed, indices, data.num_classes, data.class_weights, truncation=truncation
            )
            images = render(module, batch).float()  # [B, C, H, W] in [-1, 1]
            if tuple(images.shape) != (len(indices), *shape):
                raise ValueError(
                    f"generate() must return {(len(indices), *shape)}, got {tuple(images.shape)}"
                )
            broken += (~images.flatten(1).isfinite().all(1)).sum()
            images = images.nan_to_num()  # goes on to the end, so that all ranks raise together
            images = _stored(images, data).to(how.device)
            numbers = torch.tensor(indices)
            if by_features:
                assert extractor is not None
                features, logits = extractor(images)
                taken = Features(features, logits, batch.get("label"))
                for meter in by_features:
                    add_to(meter, taken, numbers, real=False)
            for meter in by_images:
                meter.add_images(images, numbers)
            if by_pairs:
                real = reals_of(module, data, indices).to(how.device)
                for meter in by_pairs:
                    meter.add_pairs(images, real)
    return broken


def _add_whole(
    meters: Sequence[EvaluationMetric], module: Sampleable, data: Source, how: Pass, *, fakes: int, seed: int
) -> Tensor:
    """As `_add_fakes`, of pairs that differ in size: each alone and whole, as super-resolution is measured."""
    sources: Sources = module.sources  # type: ignore[attr-defined]
    broken = torch.zeros((), dtype=torch.int64, device=how.device)
    with inference(module):
        for numbers in how.share(fakes):
            for number in numbers:
                batch = sampling_batch(module, seed, [number])
                pair = sources.whole(number)
                images = render(module, batch | {"source": pair["source"].to(module.device)}).float()
                broken += (~images.flatten(1).isfinite().all(1)).sum()
                images = images.nan_to_num()
                images = _stored(images, data).to(how.device)
                for meter in meters:
                    meter.add_pairs(images, pair["image"].to(how.device))
    return broken


def _result(meter: EvaluationMetric, how: Pass) -> tuple[dict[str, float], list[Finding]]:
    if how.world == 1:
        return meter.result()
    meter.sync()
    values, findings = meter.result() if how.rank == 0 else ({}, [])
    return broadcast_parts(meter, values), findings


def _score(
    values: dict[str, float],
    findings: list[Finding],
    floor: Floor,
    reference: Reference | None,
    protocol: Protocol,
) -> Score:
    known = {"value", "std", "error"}
    errors = {name.removesuffix("/error"): error for name, error in values.items() if name.endswith("/error")}
    known |= {f"{part}/error" for part in errors}
    return Score(
        value=values["value"],
        protocol=protocol,
        floor=floor.get("value"),
        floor_images=reference.half if floor and reference is not None else 0,
        std=values.get("std"),
        error=values.get("error"),
        parts={part: value for part, value in values.items() if part not in known},
        floor_parts={part: value for part, value in floor.items() if part not in known},
        part_errors=errors,
        findings=[_of_data(found, reference) for found in findings],
    )


def _of_data(found: Finding, reference: Reference | None) -> Finding:
    """A finding whose reals are numbered as the data are, not as the reference."""
    assert reference is not None  # only what compares with reals finds any
    return {**found, "reals": reference.indices[found["reals"]].tolist()}


def _stored(images: Tensor, data: Source) -> Tensor:
    """Fakes [B, C, H, W] in [-1, 1] as reals of `data` come: uint8, else in [-1, 1], of 16 bits at their whole levels."""
    if data.images.dtype == np.uint8:
        return to_uint8(images)
    levels: Callable[[Tensor], Tensor] | None = getattr(data, "levels", None)
    return images if levels is None else levels(images)


def _quantisation(data: Source, takes: str) -> str:
    """What becomes of fakes before they are looked at, for the protocol."""
    whole = data.images.dtype.kind == "u" and takes != "generator"
    return f"{data.images.dtype}, rounded" if whole else "none"
