"""A trained translator at work on one picture of any size, depth and number of channels.

The result has the depth of the file, or is float in the run's range where the targets were; alpha and metadata are handed
on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lit_gan.data.conform import resized
from lit_gan.data.files import Form, Picture, from_pil, read_image
from lit_gan.data.metadata import handed_on
from lit_gan.errors import UserError
from lit_gan.module import AdversarialModule, Batch
from lit_gan.sampling import inference, latents
from lit_gan.sides import Hole, Side, hole_of
from lit_gan.tiles import Tiling, through, tile_for

Tile = int | Literal["auto", "none"]
Direction = Literal["forward", "back"]  # from sources to images, or from images to sources


class TwoWay(Protocol):
    """A module that knows the way back."""

    def generate_source(self, batch: Batch) -> Tensor: ...  # of batch["image"]


@dataclass
class Translator:
    """A trained translator, ready for pictures; `sides` is what its checkpoint says of "source" and "image" files, which
    change places where `direction` is "back": a `UserError` where the module knows no way back.

    `style` is an image as `translate_image` takes one, where the module takes on the style of one, and only there: else a
    `UserError`. So is `mask`, light where a run that fills holes is to fill one; without it the alpha of each image tells.
    """

    module: AdversarialModule
    sides: Mapping[str, Mapping[str, Any]]
    tile: Tile = "auto"
    seed: int = 0
    style: Any = None
    direction: Direction = "forward"
    mask: Any = None
    # the tiles that "auto" came to, by direction and sides; translators of one module may share them
    known: dict[tuple[Direction, int, int], int | None] = field(default_factory=dict)
    outside: int = 0  # values met beyond the range that was trained on
    tiled: list[str] = field(default_factory=list)  # in words, how the last picture was taken
    source: Side = field(init=False)
    image: Side = field(init=False)
    _hole: Hole | None = field(default=None, init=False)
    _given: dict[str, Tensor] = field(
        default_factory=dict
    )  # of every batch: "style" [1, C, H, W], or nothing

    def __post_init__(self) -> None:
        name = type(self.module).__name__
        if self.direction not in ("forward", "back"):
            raise UserError(f"direction={self.direction!r} is neither forward nor back")
        if self.direction == "back" and not hasattr(self.module, "generate_source"):
            raise UserError(
                f"{name} translates one way, from sources to images: leave --direction out, or take arch=cyclegan"
            )
        names = ("source", "image") if self.direction == "forward" else ("image", "source")
        self.source, self.image = (Side.restored(self.sides[side]) for side in names)
        if self.mask is not None:
            if not self.source.mask:
                raise UserError(f"this run of {name} was trained on no masks: leave --mask out")
            self._hole = hole_of(self._given_image(self.mask, "mask"))
        if self.style is None:
            if self.module.takes_style:
                raise UserError(f"{name} takes on the style of an image: give one, --style FILE or style=")
            return
        if not self.module.takes_style:
            raise UserError(f"{name} takes on no image's style: leave --style out")
        self._given["style"] = self._style().to(self.module.device)

    def __call__(self, picture: Picture) -> Picture:
        """The translation, upright. Raises `ValueError` where the picture has channels that the run cannot take."""
        source = self._tensor(picture)
        with inference(self.module):
            made = self._made(source)
        return self._picture(made[0], picture)

    def _made(self, source: Tensor) -> Tensor:
        """[1, C, H, W] of a source [1, Cs, Hs, Ws], both in [-1, 1]."""
        module = self.module
        z = latents(self.seed, [0], module.latent_dim).to(module.device)

        def network(image: Tensor) -> Tensor:
            if self.direction == "back":
                return cast("TwoWay", module).generate_source({"image": image.to(module.device)})
            batch = {"source": image.to(module.device), "z": z, "index": torch.zeros(1)}
            return module.generate(batch | self._given)

        tiling = Tiling(module.stride, module.scale, module.reach, least_side=module.least_side)
        size = (self.direction, source.shape[2], source.shape[3])
        side: int | None
        if self.tile == "auto":
            if size not in self.known:
                self.known[size] = tile_for(network, source.to(module.device), tiling)
            side = self.known[size]
        else:
            side = None if self.tile == "none" else self.tile
        padded = tiling.padded(source)
        tiles = side is not None and (side < padded.shape[2] or side < padded.shape[3])
        self.tiled = []
        if tiles:
            self.tiled.append(f"tiles of at most {max(side or 0, tiling.least)} pixels")
            if module.reach is None:
                self.tiled.append(
                    "faded into each other: this network looks at the whole image, and tiles differ a little"
                )
        # masks of dropout have the places of a tile, and would show where tiles meet
        drops = module.sample_dropout
        if tiles and drops:
            module.sample_dropout = False
            self.tiled.append("without dropout, which would differ from tile to tile")
        try:
            return through(network, source, replace(tiling, tile=side))
        finally:
            module.sample_dropout = drops

    def _tensor(self, picture: Picture) -> Tensor:
        """The picture as a source [1, Cs, H, W] in [-1, 1]."""
        signed = self.source.signed(picture, self._hole)
        self.outside += int((signed.abs() > 1).sum())
        return signed

    def _style(self) -> Tensor:
        if isinstance(self.style, Tensor):
            return self.style[None].float()
        try:
            return self.image.signed(self._given_image(self.style, "style"))
        except ValueError as error:
            raise UserError(f"the style image cannot be used: {error}") from error

    def _given_image(self, image: Any, what: str) -> Picture:
        try:
            return picture_of(image)
        except (OSError, ValueError) as error:
            raise UserError(f"the {what} image cannot be used: {' '.join(str(error).split())}") from error

    def form(self, picture: Picture) -> Form:
        """Of the translation of that picture, without making it."""
        dtype = self._dtype(picture).name
        if self.image.ends_in_alpha:
            return Form(dtype, self.image.channels - 1, True)
        # alpha that the network has read, as a channel or as a mask, is no longer the file's
        read = self.source.ends_in_alpha or (self.source.mask and self._hole is None)
        # nor do whole numbers that were floats in between, as of a CT, say what of them would be opaque
        graded = self.image.dtype.kind != "f" or np.dtype(self.image.stored or "float32").kind == "f"
        return Form(dtype, self.image.channels, picture.alpha is not None and graded and not read)

    def _dtype(self, picture: Picture) -> np.dtype[Any]:
        target, source = self.image.dtype, picture.pixels.dtype
        return target if target.kind == "f" else source

    def _picture(self, made: Tensor, original: Picture) -> Picture:
        """[C, H, W] in [-1, 1] as a picture of the original's depth."""
        form, source = self.form(original), original.pixels.dtype
        dtype = np.dtype(form.dtype)
        low, high = self.image.range_of(dtype)
        values: NDArray[Any] = (made.permute(1, 2, 0).double().cpu().numpy() + 1) * ((high - low) / 2) + low
        if dtype.kind == "u":
            values = np.rint(values).clip(0, np.iinfo(dtype).max)
        pixels, alpha = values.astype(dtype), None
        if self.image.ends_in_alpha:
            pixels, alpha = pixels[..., :-1], np.ascontiguousarray(pixels[..., -1])
        elif form.alpha and original.alpha is not None:
            alpha = resized(original.alpha[..., None], pixels.shape[:2])[..., 0].astype(dtype)
            if dtype != source:
                alpha = (alpha / np.iinfo(source).max).astype(dtype)
        stored = self.image.stored if self.image.dtype.kind == "f" else original.stored
        said = handed_on(original.metadata, colours=form.channels, scale=self.module.scale)
        return Picture(np.ascontiguousarray(pixels), alpha, said, stored)


def picture_of(image: Any) -> Picture:
    """The picture that a path, a PIL image or an array is; `ValueError` where it is none."""
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        return from_pil(image)
    array = np.asarray(image)
    if array.dtype not in (np.uint8, np.uint16, np.float32) or array.ndim not in (2, 3):
        raise ValueError(
            f"an array must be uint8, uint16 or float32, [H, W] or [H, W, C]; got {array.dtype} {list(array.shape)}"
        )
    return Picture(array if array.ndim == 3 else array[..., None])
