"""Three grey images at random as the colours of one, to count modes (Metz et al. 2017, arXiv:1611.02163).

Of MNIST it is Stacked MNIST, the 1000 modes of Srivastava et al. 2017 (VEEGAN, arXiv:1705.07761) and Lin et
al. 2018 (PacGAN, arXiv:1712.04086). The papers draw the stacks each in their own way; here they are a function
of the base's size and `stacks_seed`, the same on every machine.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
from PIL import Image

from lit_gan.data import build_data
from lit_gan.data.base import ImageData
from lit_gan.data.decoded import Encoded, Images, Source, decode, decoding
from lit_gan.data.order import Integers, words
from lit_gan.errors import UserError

CHANNELS = 3
MOST_CLASSES = 20  # of the base: 8,000 stacked ones, of which nobody draws enough
_STACKS = 0  # the stream of the draws


class Stacked(ImageData):
    """Stacks of three images of `base`, in grey; the label is 100 a + 10 b + c for ten classes a, b, c of its channels.

    `parts` [N, 3] says which of the images of `base` a stack is made of, and the extractor `classifier` reads both: it
    learns the base's own classes, and looks at each channel alone. Natural size: the base's.
    """

    def __init__(
        self,
        *,
        base: Literal["digits", "hub"] = "digits",  # the source of the grey images, with labels
        path: str = "",  # of base=hub: an id such as ylecun/mnist, a .parquet file, or a folder of them
        split: str = "train",  # of base=hub
        image_size: int | tuple[int, int] | None = 32,  # pixels, or [height, width]; null: as the base
        count: int = 100_000,  # stacks; at 32x32 they take 307 MB in the cache
        stacks_seed: int = 0,  # of the stacks themselves, apart from the run's seed
        batch_size: int = 64,  # images per discriminator update, over all processes
        workers: int = 0,
    ) -> None:
        name = f"stacked {path or base}"
        super().__init__(source_name=name, batch_size=batch_size, flip=False, workers=workers)
        if count < 1:
            raise UserError(f"data.count={count} is not a number of stacks; use at least 1")
        if base == "digits" and path:
            raise UserError(f"data.path={path}: the bundled digits have none; use data.base=hub")
        keywords = {"path": path, "split": split} if base == "hub" else {}
        self.base = build_data(base, image_size=image_size, channels=1, **keywords)
        self.count = count
        self.stacks_seed = stacks_seed

    @property
    def parts(self) -> Integers:
        """Which images of `base` the stacks are made of, [N, 3]: drawn evenly, with replacement."""
        drawn = words(self.stacks_seed, _STACKS, np.arange(self.count * CHANNELS, dtype=np.int64))
        parts: Integers = (drawn % np.uint64(self.base.size)).astype(np.int64)
        return parts.reshape(self.count, CHANNELS)

    def _load(self) -> Images:
        self.base.prepare()
        if self.base.conditions is not None or not 2 <= self.base.num_classes <= MOST_CLASSES:
            raise UserError(
                f"{self.source_name}: stacks need labelled images of 2 to {MOST_CLASSES} classes, these have "
                f"{self.base.num_classes}; use data.path=ylecun/mnist, or the like as parquet"
            )
        _, height, width = self.base.image_shape
        origin = {
            "source": "stacked",
            "base": self.base.fingerprint,
            "count": self.count,
            "stacks_seed": self.stacks_seed,
        }
        how = decoding((height, width), CHANNELS, "none")
        return decode(self.source_name, origin, partial(_source, self.base, self.parts), how)


def _source(base: ImageData, parts: Integers) -> Source:
    grey = base.images[..., 0]  # [M, H, W]

    def read(start: int, stop: int) -> list[Encoded]:
        stacks = np.ascontiguousarray(np.moveaxis(grey[parts[start:stop]], 1, -1))  # [B, H, W, 3]
        return [
            Encoded(f"stack {start + i}", partial(Image.fromarray, stack)) for i, stack in enumerate(stacks)
        ]

    assert base.labels is not None  # _load refused unlabelled data
    classes = base.num_classes
    labels = base.labels[parts] @ classes ** np.arange(CHANNELS - 1, -1, -1)  # the first channel counts most
    names, between = base.class_names, "" if all(len(name) == 1 for name in base.class_names) else "-"
    return Source(
        len(parts),
        read,
        labels.astype(np.int64),
        tuple(between.join((a, b, c)) for a in names for b in names for c in names),
    )
