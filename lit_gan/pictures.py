"""Grids of samples as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lit_gan.metrics.protocol import Score
from lit_gan.run import replace
from lit_gan.sampling import Batch, Sampleable, inference, render, sampling_batch, to_uint8

if TYPE_CHECKING:
    from lit_gan.metrics.extractors import Source

CHANNELS = (1, 3, 4)  # of pictures: L, RGB, RGBA
POINTS_SIDE = 256  # pixels of a picture of 2-D points


def grid_batch(module: Sampleable, seed: int, rows: int, columns: int, num_classes: int) -> Batch:
    """The latents of a grid; with labels, one class a row, in turn, or one of the training data's conditions a row."""
    count = rows * columns
    batch = sampling_batch(module, seed, range(count), num_classes)
    if (conditions := getattr(module, "conditions", None)) is not None:
        label = conditions.drawn(seed, range(rows)).repeat_interleave(columns, dim=0)  # [rows * columns, K]
        batch["label"] = label.to(module.device)
    elif num_classes:
        batch["label"] = (torch.arange(count, device=module.device) // columns) % num_classes
    return batch


def draw(module: Sampleable, batch: Batch) -> Tensor:
    """Fakes of `batch` on the CPU, in chunks that fit where training fits."""
    size = len(batch["z"])
    with inference(module):
        parts = [
            render(module, {k: v[i : i + 64] if v.ndim else v for k, v in batch.items()}).float().cpu()
            for i in range(0, size, 64)
        ]
    return torch.cat(parts)


def is_points(shape: tuple[int, ...]) -> bool:
    """Whether [C, H, W] are 2-D points, the toy data, and not images."""
    return tuple(shape) == (2, 1, 1)


def picture(images: Tensor) -> Image.Image:
    """One image [C, H, W] in [-1, 1] as a PIL image; of more than 4 channels or of 2, the first."""
    pixels = to_uint8(images).permute(1, 2, 0).numpy()
    if pixels.shape[2] not in CHANNELS:
        pixels = pixels[:, :, :1]
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def grid(images: Tensor, columns: int, *, gap: int = 2) -> Image.Image:
    """Images [N, C, H, W] in [-1, 1] side by side, row by row; 2-D points as one scatter plot."""
    if is_points(tuple(images.shape[1:])):
        return scatter(images.flatten(1))
    tiles = [picture(image) for image in images]
    width, height = tiles[0].size
    rows = -(-len(tiles) // columns)
    sheet = Image.new(tiles[0].mode, (columns * (width + gap) + gap, rows * (height + gap) + gap), 0)
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (gap + (i % columns) * (width + gap), gap + (i // columns) * (height + gap)))
    return sheet


def side_by_side(parts: Sequence[Tensor], columns: int, *, gap: int = 2) -> Image.Image:
    """Samples as rows of `parts` [N, C, H, W] each, in [-1, 1]: input, output, target; `columns` samples a row.

    Parts may differ in channels and size: grey is shown as colour, and the smaller one enlarged in whole pixels.
    """
    height, width = (max(part.shape[side] for part in parts) for side in (2, 3))
    rows = -(-len(parts[0]) // columns)
    step = len(parts) * (width + gap) + gap  # a wider gap between samples than within one
    sheet = Image.new("RGB", (columns * step + gap, rows * (height + gap) + gap), 0)
    for i in range(len(parts[0])):
        for j, part in enumerate(parts):
            tile = picture(part[i]).convert("RGB").resize((width, height), Image.Resampling.NEAREST)
            place = (gap + (i % columns) * step + j * (width + gap), gap + (i // columns) * (height + gap))
            sheet.paste(tile, place)
    return sheet


def scatter(points: Tensor) -> Image.Image:
    """Points [N, 2] in [-1, 1] as dots on white, darker where many fall together."""
    side, points = POINTS_SIDE, points.nan_to_num()
    columns = ((points[:, 0].clamp(-1, 1) + 1) / 2 * (side - 1)).round().long()
    rows = ((1 - points[:, 1].clamp(-1, 1)) / 2 * (side - 1)).round().long()
    counts = torch.zeros(side, side).index_put_((rows, columns), torch.ones(len(points)), accumulate=True)
    dots = torch.nn.functional.max_pool2d(counts[None], 3, 1, 1)[0]
    ink = (255 * torch.exp(-dots)).numpy().astype(np.uint8)
    return Image.fromarray(ink)


def suspects(module: Sampleable, data: Source, scores: Mapping[str, Score], seed: int) -> Image.Image | None:
    """The fakes that a score found, a row each, followed by their nearest reals in `data`; None if there is nothing to see.

    `seed` is that of the evaluation: the fakes are made again from their numbers.
    """
    score = next((score for score in scores.values() if score.findings), None)
    if score is None or is_points(tuple(data.image_shape)):
        return None
    numbers = [found["fake"] for found in score.findings]
    truncation = score.protocol.truncation
    batch = sampling_batch(module, seed, numbers, data.num_classes, data.class_weights, truncation=truncation)
    fakes = draw(module, batch)  # [F, C, H, W]
    places = [place for found in score.findings for place in found["reals"]]
    reals = data.real_batch(places)[module.real_key]
    reals = signed(reals)
    beside = reals.reshape(len(fakes), -1, *reals.shape[1:])  # [F, R, C, H, W]
    rows = torch.cat([fakes[:, None], beside], 1)
    return grid(rows.flatten(0, 1), rows.shape[1])


def signed(images: Tensor) -> Tensor:
    """Images as they are stored, uint8 or in [-1, 1] already, in [-1, 1]."""
    return images / 127.5 - 1 if images.dtype == torch.uint8 else images


def save(sheet: Image.Image, path: Path) -> None:
    """Write a PNG at once, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, lambda partial: sheet.save(partial, format="PNG"))
