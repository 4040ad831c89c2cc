"""Data, module and extractor from a resolved configuration: one place for `train`, `eval` and `sample`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from lit_gan.augment import build_augmenter
from lit_gan.conditions import Conditions
from lit_gan.config import Config
from lit_gan.data import build_data
from lit_gan.data.base import ImageData
from lit_gan.errors import UserError
from lit_gan.metrics import Extractor, PerceptualNetwork, build_extractor, build_lpips
from lit_gan.metrics.checks import metric_class
from lit_gan.metrics.weights import MissingWeightsError
from lit_gan.module import AdversarialModule
from lit_gan.regularise import build_regulariser
from lit_gan.settings import (
    SECTIONS,
    Augment,
    Checkpoint,
    Eval,
    Logger,
    Metrics,
    Optim,
    Regularise,
    Run,
    Samples,
    Trainer,
    Wandb,
)
from lit_gan.variants import VARIANTS


def settings(config: Config, name: str) -> Any:
    """One section as its dataclass."""
    values = dict(config[name])
    if name == "logger":
        values["wandb"] = Wandb(**values["wandb"])
    return SECTIONS[name](**values)


def data_of(config: Config) -> ImageData:
    """The data source of a configuration, prepared: found, decoded, mapped."""
    keywords = {k: v for k, v in config["data"].items() if k not in ("name", "source")}
    data = build_data(config.get("data.source"), **keywords)
    data.prepare()
    return data


def set_border(config: Config, data: ImageData) -> None:
    """Tell `data` what of its images scores of the luminance leave out: `metrics.border`, or its scale."""
    border: int | None = config.get("metrics.border")
    source = data.source_shape
    scale = 1 if source is None else data.image_shape[1] // source[1]
    data.border = border if border is not None else scale if scale > 1 else 0


def variant_of(config: Config) -> type[AdversarialModule]:
    """The class that a configuration trains."""
    where, _, name = VARIANTS[config["variant"]].partition(":")
    kind: type[AdversarialModule] = getattr(import_module(where), name)
    return kind


def module_of(
    config: Config,
    image_shape: tuple[int, int, int],
    num_classes: int,
    conditions: Conditions | None = None,
    *,
    latents: bool = False,
    source_shape: tuple[int, int, int] | None = None,
) -> AdversarialModule:
    """The variant of a configuration, for images, or `latents`, of this shape (C, H, W).

    `conditions` where labels are vectors; `source_shape` of what a translator is given.
    """
    kind = variant_of(config)
    keywords = {**config.values.get("model", {}), "optim": dict(config["optim"])}
    if kind.translates:
        if source_shape is None:
            raise UserError(
                f"{config['arch']} translates images and the data have no sources: use data=paired, unpaired, ..."
            )
        keywords["source_shape"] = source_shape
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element")  # is refused below
            module = kind(image_shape=image_shape, num_classes=num_classes, **keywords)  # type: ignore[call-arg]
        empty = [name for name, parameter in module.named_parameters() if not parameter.numel()]
        if empty:
            raise ValueError(f"{empty[0]} has no elements")
    except (ValueError, RuntimeError, ZeroDivisionError) as error:  # a width of 0, a share above 1, ...
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{config['arch']} for images {image_shape}: {first}; check model.*") from error
    module.conditions = conditions if module.conditional else None
    module.seed = config["seed"]
    chosen: Augment = settings(config, "augment")
    duration = module.optim.decay_images
    module.augment = build_augmenter(chosen, image_shape=image_shape, duration=duration, alpha=not latents)
    wanted: Regularise = settings(config, "regularise")
    module.regularise = build_regulariser(
        wanted, module, image_shape=image_shape, images=config["run"]["images"]
    )
    if (standing := config.get("eval.standing_batches")) is not None:
        module.standing_batches = standing
    return module


@dataclass(frozen=True)
class Judges:
    """Which of `eval.metrics` can be had here, and what they are made with, each None where none of them has it."""

    metrics: list[str]
    extractor: Extractor | None
    lpips: PerceptualNetwork | None
    notes: list[str]  # what was left out, why, and how to get it


def judges_of(config: Config, data: ImageData, device: torch.device | str) -> Judges:
    """The scores of a configuration and their networks, ready on `device`; may train one or fetch weights once.

    Scores that LPIPS measures are left out, with a note, where its weights are neither given nor here nor to be fetched;
    a `UserError` where no others were asked for.
    """
    metrics, notes, lpips = list(config.get("eval.metrics")), [], None
    chosen: Metrics = settings(config, "metrics")
    if of_lpips := [name for name in metrics if metric_class(name).network == "lpips"]:
        try:
            lpips = build_lpips(
                chosen.lpips,
                weights=chosen.lpips_weights,
                weights_sha256=chosen.lpips_weights_sha256,
                device=device,
            )
        except MissingWeightsError as error:
            if of_lpips == metrics:
                raise
            metrics = [name for name in metrics if name not in of_lpips]
            notes.append(
                f"eval.metrics without {', '.join(of_lpips)}: the weights of lpips-{chosen.lpips} are neither here nor to "
                f"be had ({error.reason}); get them by lit-gan weights fetch lpips-{chosen.lpips}, or set "
                "metrics.lpips_weights=PATH"
            )
    reads = any(metric_class(name).network == "extractor" for name in metrics)
    return Judges(metrics, _extractor(chosen, data, device) if reads else None, lpips, notes)


def _extractor(chosen: Metrics, data: ImageData, device: torch.device | str) -> Extractor:
    return build_extractor(
        chosen.extractor,
        data=data,
        weights=chosen.weights,
        weights_sha256=chosen.weights_sha256,
        resize=chosen.resize,
        device=device,
    )


__all__ = [
    "Augment", "Checkpoint", "Eval", "Judges", "Logger", "Metrics", "Optim", "Run", "Samples", "Trainer",
    "data_of", "judges_of", "module_of", "set_border", "settings", "variant_of",
]  # fmt: skip
