"""`lit-gan average`: choose the length of the generator's average after training, from the snapshots of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from lit_gan.callbacks.averages import snapshots
from lit_gan.checkpoints import load, newest_whole
from lit_gan.errors import UserError
from lit_gan.evaluation import evaluate_run
from lit_gan.power_ema import WIDEST, Profile, coefficients, gamma_of
from lit_gan.resume import Plan
from lit_gan.run import replace

NETWORK = "ema.network."  # where a checkpoint has the averaged generator


def average_run(plan: Plan, *, widths: Sequence[float], kimg: float | None, score: bool) -> int:
    """Write a checkpoint for each width, and score it if asked to; returns the exit code."""
    assert plan.run is not None
    stored = snapshots(plan.run)
    if not stored:
        raise UserError(
            f"{plan.run.path} has no snapshots of averages: train with optim.ema_width=0.05 to have them"
        )
    for width in widths:
        if not 0 < width <= WIDEST:
            raise UserError(f"--width {width:g}: a relative width is above 0 and at most {WIDEST}")
    end = max(stored) if kimg is None else round(kimg * 1000)
    if end not in stored:
        near = min(stored, key=lambda images: abs(images - end))
        raise UserError(
            f"--kimg {end / 1000:g}: no snapshot was taken then, the nearest is --kimg {near / 1000:g}"
        )
    used = {images: path for images, path in stored.items() if images <= end}
    template = load(newest_whole(plan.run, plan.checkpoint))
    for width in widths:
        path = plan.run.checkpoints / f"average-{end:012d}-{width:.3f}.ckpt"
        checkpoint = reconstructed(template, combined(used, end, width), end, width)
        replace(path, partial(torch.save, checkpoint))
        print(f"width {width:.3f} at {end / 1000:g} kimg, of {len(used)} snapshots: {path}")
        if score:
            evaluate_run(dataclasses.replace(plan, checkpoint=path))
    return 0


def combined(stored: dict[int, Path], end: int, width: float) -> dict[str, Tensor]:
    """The parameters by name of the average of this width at `end` images, float32."""
    profiles: list[Profile] = []
    parts: list[tuple[Path, str]] = []
    for images, path in stored.items():
        with safe_open(path, framework="pt") as file:
            tracked = float(file.metadata()["width"])
        for which, its in (("narrow", tracked), ("wide", 2 * tracked)):
            profiles.append(Profile(images, gamma_of(its)))
            parts.append((path, which))
    shares = coefficients(profiles, Profile(end, gamma_of(width)))
    total: dict[str, Tensor] = {}
    for (path, which), share in zip(parts, shares, strict=True):
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            for key in (name for name in names if name.startswith(f"{which}.")):
                part = share * file.get_tensor(key).double()
                name = key.removeprefix(f"{which}.")
                total[name] = total[name] + part if name in total else part
    return {name: value.float() for name, value in total.items()}


def reconstructed(
    template: dict[str, Any], parameters: dict[str, Tensor], images_seen: int, width: float
) -> dict[str, Any]:
    """A checkpoint to evaluate and to sample, not to go on from: `template` with this average in place of its own."""
    state = dict(template["state_dict"])
    for name, value in parameters.items():
        if NETWORK + name not in state or state[NETWORK + name].shape != value.shape:
            raise UserError(f"the snapshots are of another generator than the checkpoint: {name} differs")
        state[NETWORK + name] = value.to(state[NETWORK + name].dtype)
    record = {**template["lit_gan"], "images_seen": images_seen, "average_width": width}
    kept = {key: value for key, value in template.items() if key not in ("optimizer_states", "lr_schedulers")}
    return {**kept, "state_dict": state, "lit_gan": record}
