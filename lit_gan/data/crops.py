"""How batches are cut from pictures of both sides: jointly where they are pairs, by random words of (seed, position) alone.

So ranks, workers and resumed runs agree on every crop, flip and turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lit_gan.data.base import Batch
from lit_gan.data.files import Pixels
from lit_gan.data.masks import Kind, hole
from lit_gan.data.order import Integers, Order, derived, shares, words
from lit_gan.data.ragged import Pictures

Size = tuple[int, int]  # height, width
Mirror = Literal["reflect", "symmetric"]  # numpy's names
Range = tuple[float, float]  # the values that become -1 and 1
_GEOMETRY, _SOURCES, _SOURCE_GEOMETRY, _WORDS, _HELD = range(5)  # numbers of derived seeds


@dataclass(frozen=True, eq=False)
class Part:
    """Decoded pictures of both sides; `source` is None where it is made of the image.

    If `paired`, number i of one side belongs to number i of the other, and an image is `scale` times its source.
    """

    source: Pictures | None
    image: Pictures
    paired: bool
    scale: int

    @property
    def grids(self) -> Integers:
        """Heights and widths [N, 2] of the images in pixels of the source; what does not fill one is left out."""
        return self.image.sizes // self.scale

    @property
    def mirror(self) -> Mirror:
        """About the edge of the outermost pixel where two scales have to stay aligned, else about its centre."""
        return "reflect" if self.scale == 1 else "symmetric"

    @property
    def even(self) -> bool:
        """Whether all pictures have one size, which two domains need not share, in pixels of the source."""
        sides = [self.grids] + ([self.source.sizes] if self.source is not None else [])
        return all((side == self.grids[0]).all() for side in sides)

    @property
    def fingerprint(self) -> list[str | None]:
        return [None if self.source is None else self.source.fingerprint, self.image.fingerprint]


def window(
    pixels: Pixels, size: Size | None, share: tuple[float, float], scale: int = 1, mirror: Mirror = "reflect"
) -> Pixels:
    """The part [h * scale, w * scale, C] of a picture that begins at `share` in [0, 1) of the places it may begin at.

    `size` and places count in blocks of `scale` pixels; None is the whole. What a small picture lacks is mirrored.
    """
    grid = (pixels.shape[0] // scale, pixels.shape[1] // scale)
    cuts, pads = [], []
    for have, want, at in zip(grid, size or grid, share, strict=True):
        first = int(at * (max(have - want, 0) + 1))
        cuts.append(slice(first * scale, (first + min(have, want)) * scale))
        lacking = max(want - have, 0)
        pads.append((lacking // 2 * scale, (lacking - lacking // 2) * scale))
    part = pixels[cuts[0], cuts[1]]
    if not any(map(any, pads)):
        return part
    return np.pad(part, (*pads, (0, 0)), mode=mirror)


class PairGather(Dataset[Batch]):
    """Whole batches by stream position: the numbers as stored, cropped, flipped and turned; `word` is a draw per image."""

    def __init__(
        self, part: Part, crop: Size | None, seed: int, *, flip: bool, turn: bool, mask: Kind | None
    ) -> None:
        self.part, self.crop, self.seed = part, crop, seed
        self.flip, self.turn, self.mask = flip, turn, mask
        self.order = Order(len(part.image), seed)
        self.source_order = self.order
        if part.source is not None and not part.paired:
            self.source_order = Order(len(part.source), derived(seed, _SOURCES))

    def __len__(self) -> int:
        return len(self.part.image)

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__(np.array([position], dtype=np.int64))

    def __getitems__(self, positions: Integers) -> Batch:
        part = self.part
        image = self._side(part.image, self.order, _GEOMETRY, positions, part.scale)
        drawn = words(derived(self.seed, _WORDS), 0, positions)
        batch = {"image": image, "word": torch.from_numpy(drawn.view(np.int64))}
        if part.source is not None:
            geometry = _GEOMETRY if part.paired else _SOURCE_GEOMETRY
            batch["source"] = self._side(part.source, self.source_order, geometry, positions, 1)
        if self.mask is not None:
            batch["mask"] = holes(drawn, (image.shape[2], image.shape[3]), self.mask)
        return batch

    def _side(self, side: Pictures, order: Order, geometry: int, positions: Integers, scale: int) -> Tensor:
        numbers, flips = order(positions)
        seed = derived(self.seed, geometry)
        tops, lefts = (shares(words(seed, axis, positions)) for axis in (0, 1))
        quarters = (words(seed, 2, positions) >> np.uint64(62)).astype(np.int64)
        results = []
        for number, flip, top, left, turns in zip(numbers, flips, tops, lefts, quarters, strict=True):
            piece = window(side[number], self.crop, (top, left), scale, self.part.mirror)
            if self.flip and flip:
                piece = piece[:, ::-1]
            if self.turn:
                piece = np.rot90(piece, turns if piece.shape[0] == piece.shape[1] else turns // 2 * 2)
            results.append(piece)
        return torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2)


def held_words(numbers: Integers) -> NDArray[np.uint64]:
    """A draw for each held-out image, the same in every run whatever its seed."""
    return words(derived(0, _HELD), 0, numbers)


def holes(drawn: NDArray[np.uint64], size: Size, kind: Kind) -> Tensor:
    """Masks [B, 1, H, W] uint8 of these words."""
    return torch.from_numpy(np.stack([hole(int(word), size, kind) for word in drawn])[:, None])


def scaled(values: Tensor, limits: Range) -> Tensor:
    """Stored numbers to float32, the limits to -1 and 1; nothing is cut off beyond them."""
    low, high = limits
    result = values.to(torch.float32)
    if low:
        result = result - low
    return result.div((high - low) / 2).sub_(1.0)
