"""The handwritten digits that scikit-learn brings along: data for a first run without a network."""

from __future__ import annotations

from functools import partial

import numpy as np
from PIL import Image

from lit_gan.data.base import ImageData
from lit_gan.data.decoded import Encoded, Images, Source, decode, decoding


class Digits(ImageData):
    """scikit-learn's 1,797 handwritten digits, 8x8, enlarged; 10 classes. Natural size: 8x8."""

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 32,  # pixels, or [height, width]; null: 8
        channels: int = 1,  # 3 and 4 repeat the grey
        flip: bool = False,  # mirror half of the images; mirrored digits are no digits
        batch_size: int = 64,  # images per discriminator update, over all processes
        workers: int = 0,
    ) -> None:
        super().__init__(source_name="digits", batch_size=batch_size, flip=flip, workers=workers)
        # bicubic: enlarging 4 times, Lanczos would draw halos around the strokes
        self.decoding = decoding(8 if image_size is None else image_size, channels, "none", "bicubic")

    def _load(self) -> Images:
        return decode(self.source_name, {"source": "digits"}, _source, self.decoding)


def _source() -> Source:
    from sklearn.datasets import load_digits  # takes a second

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8], from 0..16
    return Source(
        size=len(grey),
        read=lambda start, stop: [
            Encoded(f"digit {i}", partial(Image.fromarray, grey[i])) for i in range(start, stop)
        ],
        labels=np.asarray(digits.target, dtype=np.int64),
        class_names=tuple(str(name) for name in digits.target_names),
    )
