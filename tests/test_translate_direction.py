"""The way back of a translator that has one, on the command line and in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lit_gan
from lit_gan.cli import main
from lit_gan.errors import UserError
from lit_gan.sampling import inference
from lit_gan.translate import translate_image
from lit_gan.translator import Translator
from tiny import pictures, tiny_module, tiny_run
from translators import negative


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return tiny_run("cyclegan", tmp_path_factory.mktemp("cyclegan"), "run.images=8")


def test_the_command_and_python_go_the_way_back(run: Path, tmp_path: Path) -> None:
    path = next((pictures() / "b").iterdir())
    for direction in ("forward", "back"):
        out = str(tmp_path / f"{direction}.png")
        assert main(["translate", str(run), str(path), out, "--direction", direction]) == 0
    forward, back = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("forward", "back"))
    sampler = lit_gan.load(run)
    image = np.asarray(Image.open(path))

    assert np.abs(sampler.translate(image, direction="back").astype(int) - back).max() <= 1
    assert np.abs(sampler.translate(image).astype(int) - forward).max() <= 1
    tensor = torch.from_numpy(image / 127.5 - 1).float()[None]
    with inference(sampler.module):
        expected = sampler.module.generate_source({"image": tensor[None]})[0]
    assert torch.allclose(sampler.translate(tensor, direction="back"), expected, atol=1e-6)
    assert not torch.allclose(sampler.translate(tensor), expected, atol=1e-6)


def test_the_way_back_exchanges_channels_ranges_and_depths() -> None:
    module = tiny_module("cyclegan").eval()
    sides = {
        "source": {"shape": [1, 16, 16], "dtype": "float32", "stored": "int16", "range": [-1000.0, 3000.0]},
        "image": {"shape": [1, 16, 16], "dtype": "uint8", "stored": "", "range": [0.0, 255.0]},
    }
    image = np.full((16, 16), 200, np.uint8)

    made = translate_image(Translator(module, sides, direction="back"), image)

    assert made.dtype == np.float32
    with inference(module):
        signed = module.generate_source({"image": torch.full((1, 1, 16, 16), 200 / 127.5 - 1)})
    assert np.allclose(made, signed[0, 0] * 2000 + 1000, atol=0.1)


def test_one_way_translators_say_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Negative translates one way"):
        negative(direction="back")
    with pytest.raises(UserError, match="direction='sideways' is neither forward nor back"):
        negative(direction="sideways")
