"""Images of any size through every translator: whole, in tiles and in grids, also those below what training admits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_gan.data.files import Picture
from lit_gan.sampling import inference, render
from lit_gan.translator import Translator
from tiny import SCALES, tiny_module
from translators import RANGES

MORE = {"pix2pixhd": ("model.downs=3",), "cut": ("model.taps=[input,block1]",)}
SIZES = [(1, 1), (3, 50), (4, 4), (8, 40), (9, 9)]


@pytest.mark.parametrize("arch", ["pix2pix", "pix2pixhd", "cyclegan", "cut", "adain", "srgan", "realesrgan"])
def test_small_images_are_translated(arch: str) -> None:
    module = tiny_module(arch, *MORE.get(arch, ()), image_shape=(1, 32, 32)).eval()
    scale = SCALES.get(arch, 1)
    side = {"shape": [1, 32, 32], "dtype": "uint8", "stored": "", "range": RANGES["uint8"]}
    style = {"style": torch.zeros(1, 20, 20)} if module.takes_style else {}

    for size in SIZES:
        pixels = np.arange(size[0] * size[1], dtype=np.uint8).reshape(*size, 1)
        for tile in ("none", 8):
            made = Translator(module, {"source": side, "image": side}, tile=tile, **style)(Picture(pixels))
            assert made.size == (size[0] * scale, size[1] * scale)
        batch = {"source": torch.zeros(2, 1, *size), "z": torch.zeros(2, module.latent_dim)}
        with inference(module):
            shown = render(module, batch | {"style": torch.zeros(2, 1, 20, 20)})
        assert shown.shape == (2, 1, size[0] * scale, size[1] * scale)


@pytest.mark.parametrize("size", [(3, 50), (30, 30)])
def test_there_and_back_keeps_the_size(size: tuple[int, int]) -> None:
    module = tiny_module("cyclegan")

    with inference(module):
        assert module.cycle({"source": torch.zeros(1, 1, *size)}).shape == (1, 1, *size)
