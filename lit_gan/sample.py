"""Samples of a trained run: the command, and `lit_gan.load(run).sample(n)` for Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_gan.autoencoder import Decoder
from lit_gan.build import module_of, settings
from lit_gan.checkpoints import best_or_last, check_fits
from lit_gan.checkpoints import load as load_checkpoint
from lit_gan.conditions import Conditions
from lit_gan.errors import UserError
from lit_gan.hardware import inference_device
from lit_gan.module import AdversarialModule
from lit_gan.pictures import grid, grid_batch, is_points, picture
from lit_gan.resume import Plan, compose_saved
from lit_gan.sampling import inference, render, sampling_batch

if TYPE_CHECKING:
    from lit_gan.translator import Direction, Tile

TOGETHER = 16  # images go through the generator so many at a time: in another shape they round otherwise


class Sampler:
    """A trained variant, ready to draw from; sample i is a function of (seed, i), bit for bit, however many are drawn.

    `batch_size` images stay on the device at a time.
    """

    def __init__(
        self,
        module: AdversarialModule,
        num_classes: int,
        images_seen: int,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self.module = module
        self.num_classes = num_classes
        self.images_seen = images_seen
        self._record = record or {}
        self._tiles: dict[tuple[Direction, int, int], int | None] = {}  # found once for all images of a size

    def translate(
        self,
        image: Any,
        *,
        tile: Tile = "auto",
        seed: int = 0,
        style: Any = None,
        direction: Direction = "forward",
        mask: Any = None,
    ) -> Any:
        """The translation of one image, as the same kind: a path, a PIL image, an array [H, W, C], a tensor [C, H, W].

        Any size; `tile` is the side of overlapping tiles in pixels, "none", or "auto": as the free memory asks for. `style`
        is an image of any of these kinds, for a variant that takes on the style of one. With `direction` "back" a variant
        that learns both ways makes a source of an image. `mask`, an image too, is light where a run on data=inpainting is
        to fill a hole; without it the image's alpha tells, below half.
        """
        from lit_gan.translate import translate_image
        from lit_gan.translator import Translator

        translator = Translator(
            self.module, self.sides(), tile, seed, style, direction, mask, known=self._tiles
        )
        return translate_image(translator, image)

    def sides(self) -> Mapping[str, Any]:
        """What the checkpoint says of the files on both sides of a translator."""
        if not self.module.translates:
            raise UserError(f"{type(self.module).__name__} makes images of noise: use sample")
        sides: Mapping[str, Any] = self._record["data"]
        if self._record["config"]["data"].get("name") == "inpainting" and "mask" not in sides["source"]:
            return {**sides, "source": {**sides["source"], "mask": True}}  # of a run before that was recorded
        return sides

    def sample(
        self,
        number: int,
        *,
        seed: int = 0,
        label: int | Sequence[float] | None = None,
        truncation: float | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Images [N, C, H, W] in [-1, 1]; without `label`, a conditional variant shows its classes in turn.

        `label` is a class, or K numbers in the data's own units; where conditions are vectors, those of the training data
        are drawn without it.
        """
        if self.module.translates:
            raise UserError(
                f"{type(self.module).__name__} makes images of images: use `lit-gan translate RUN IN OUT`, or translate()"
            )
        parts = []
        step = max(batch_size // TOGETHER, 1) * TOGETHER
        with inference(self.module, truncation=truncation):
            for start in range(0, number, step):
                firsts = range(start, min(start + step, number), TOGETHER)
                made = [self._generate(range(i, i + TOGETHER), seed, label, truncation) for i in firsts]
                parts.append(torch.cat(made).float().cpu())
        return torch.cat(parts)[:number]

    def _generate(
        self, indices: range, seed: int, label: int | Sequence[float] | None, truncation: float | None
    ) -> Tensor:
        batch = sampling_batch(
            self.module, seed, indices, self.num_classes, label=label, truncation=truncation
        )
        if self.num_classes and label is None and self.module.conditions is None:
            batch["label"] = torch.tensor([i % self.num_classes for i in indices], device=self.module.device)
        return render(self.module, batch)


def load(run: str | Path, *, device: str = "cpu", decoder: str | Path | None = None) -> Sampler:
    """The best checkpoint of a run's folder, or a checkpoint file in one, as a `Sampler` on `device`.

    `decoder` is where the autoencoder lies now, if the run is on latents and it moved.
    """
    moved = () if decoder is None else (f"data.autoencoder={decoder}",)
    return _load(compose_saved(str(run), moved), device)


def load_module(plan: Plan) -> tuple[AdversarialModule, Path]:
    """The module of a saved run with the weights of its best checkpoint, and the file they came from."""
    assert plan.run is not None
    path = best_or_last(plan.run, plan.checkpoint)
    record = load_checkpoint(path)["lit_gan"]
    module = module_of(
        plan.config,
        tuple(record["image_shape"]),
        record["num_classes"],
        Conditions.restored(record.get("conditions")),
        source_shape=tuple(source) if (source := record.get("source_shape")) else None,
    )
    checkpoint = check_fits(path, module)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    if (latents := record.get("latents")) is not None:
        module.decoder = Decoder(latents, plan.config["data"].get("autoencoder", ""))
        module.decoder.load()
    # as it was trained: convolutions are faster, and round alike
    if settings(plan.config, "trainer").channels_last:
        module.to(memory_format=torch.channels_last)
    return module.eval(), path


def _load(plan: Plan, device: str) -> Sampler:
    module, path = load_module(plan)
    record = load_checkpoint(path)["lit_gan"]
    classes = record["num_classes"] if "label" in module.needs else 0
    return Sampler(module.to(device), classes, module.images_seen, record)


def translate_run(
    plan: Plan,
    inputs: str,
    out: str,
    *,
    tile: Tile,
    seed: int,
    style: str | None,
    direction: Direction,
    mask: str | None,
    suffix: str | None,
) -> int:
    """Translate image files by the best checkpoint of a run; 0, or 1 where some failed."""
    from lit_gan.translate import translate_files
    from lit_gan.translator import Translator

    sampler = _load(plan, str(inference_device(settings(plan.config, "trainer"))))
    translator = Translator(sampler.module, sampler.sides(), tile, seed, style, direction, mask)
    return translate_files(translator, inputs, out, suffix=suffix)


def sample_run(
    plan: Plan,
    *,
    number: int,
    seed: int,
    label: int | Sequence[float] | None,
    truncation: float | None,
    batch_size: int,
    out: str | None,
) -> int:
    """Write `number` PNGs and `grid.png`; points are written as one picture and a CSV."""
    assert plan.run is not None
    sampler = _load(plan, str(inference_device(settings(plan.config, "trainer"))))
    folder = Path(out) if out is not None else plan.run.samples / f"seed{seed}"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file; give a folder")
    images = sampler.sample(number, seed=seed, label=label, truncation=truncation, batch_size=batch_size)
    folder.mkdir(parents=True, exist_ok=True)
    columns = max(1, round(number**0.5))
    grid(images, columns).save(folder / "grid.png")
    if is_points(tuple(images.shape[1:])):
        rows = (",".join(f"{value:.6f}" for value in point) for point in images.flatten(1).tolist())
        (folder / "points.csv").write_text("x,y\n" + "\n".join(rows) + "\n", encoding="utf-8")
    else:
        for i, image in enumerate(images):
            picture(image).save(folder / f"{i:06d}.png")
    print(f"{number} samples of {plan.run.path} at {sampler.images_seen / 1000:g} kimg: {folder}/grid.png")
    return 0


__all__ = ["Sampler", "grid_batch", "load", "load_module", "sample_run", "translate_run"]
