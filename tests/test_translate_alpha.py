"""Alpha: a channel of the network's own, a mask, or handed on; never two of them, and never in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lit_gan
from lit_gan.build import data_of
from lit_gan.cli import main
from lit_gan.config import compose
from lit_gan.data.files import Picture, read_image, write_image
from lit_gan.errors import UserError
from lit_gan.resume import compose_run
from lit_gan.train import train
from lit_gan.translate import translate_files, translate_image
from tiny import COMMON, TINY, pictures, state
from translators import negative


def drawn(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_network_that_makes_alpha_writes_its_own(
    tmp_path: Path, suffix: str, alpha: bool, channels: int
) -> None:
    file = tmp_path / f"x{suffix}"
    write_image(file, Picture(drawn((8, 9, 3)), drawn((8, 9)) if alpha else None))

    assert translate_files(negative(channels, 4), str(file), str(tmp_path / "out")) == 0

    made = read_image(tmp_path / "out" / file.name)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [file.name]
    assert made.pixels.shape == (8, 9, 3)
    assert made.alpha is not None
    if channels == 4:
        assert np.array_equal(made.alpha, 255 - (drawn((8, 9)) if alpha else np.full((8, 9), 255)))


def test_alpha_that_the_network_read_is_not_handed_on() -> None:
    made = translate_image(negative(4, 3), Image.fromarray(drawn((8, 9, 4))))

    assert made.mode == "RGB"


def test_four_channels_that_end_in_no_alpha_stay_channels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", drawn((8, 9, 4)))
    translator = negative(4, 4, source_alpha=False, image_alpha=False)

    assert translate_files(translator, str(tmp_path / "x.npy"), str(tmp_path / "out"), suffix=".tif") == 0

    assert read_image(tmp_path / "out" / "x.tif").pixels.shape == (8, 9, 4)


def test_arrays_keep_alpha_as_a_channel() -> None:
    values = drawn((8, 9, 4))

    assert np.array_equal(translate_image(negative(4, 4), values), 255 - values)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_run_knows_which_channels_are_alpha_and_mask(tmp_path: Path, channels: int) -> None:
    for i in range(3):
        Image.fromarray(drawn((20, 20, 3), i)).save(tmp_path / f"{i}.png")
    setting = ["arch=pix2pix", "data=inpainting", f"data.path={tmp_path}", f"data.channels={channels}"]
    data = data_of(compose([*setting, "data.crop_size=16"]))
    data.prepare()

    sides = data.state_dict()

    assert sides["source"]["mask"] is True
    assert sides["image"]["mask"] is False
    assert sides["image"]["alpha"] is (channels == 4)


def test_channels_of_arrays_are_no_alpha(tmp_path: Path) -> None:
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", drawn((20, 20, 4), i))
    setting = ["arch=pix2pix", "data=paired", f"data.path={tmp_path}", f"data.sources={tmp_path}"]
    data = data_of(compose([*setting, "data.crop_size=16"]))
    data.prepare()

    assert data.state_dict()["image"]["alpha"] is False


def masked(**more: object):
    return negative(4, 3, source_mask=True, source_alpha=False, **more)


def test_the_hole_is_where_an_image_is_transparent() -> None:
    values, alpha = drawn((8, 9, 3)), np.full((8, 9), 255, np.uint8)
    alpha[2:5, 3:7] = 0
    image = np.concatenate([values, alpha[..., None]], axis=2)
    for given in (Image.fromarray(image), image):
        translator = masked()

        made = translate_image(translator, given)

        source = translator.module.seen[-1][0]
        assert np.asarray(made).shape == (8, 9, 3), "the mask is no alpha of the result"
        assert torch.equal(source[3], torch.from_numpy(np.where(alpha == 0, 1.0, -1.0)).float())
        assert (source[:3, 2:5, 3:7] == 0).all()
        assert np.allclose(source[:3, 0], values[0].T / 127.5 - 1, atol=1e-6)


def test_a_mask_file_is_light_in_the_hole_and_alpha_then_stays(tmp_path: Path) -> None:
    mask = np.zeros((8, 9), np.uint8)
    mask[1, 2] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    translator = masked(mask=tmp_path / "mask.png")

    made = translate_image(translator, Image.fromarray(drawn((8, 9, 4))))

    assert made.mode == "RGBA"
    assert int((translator.module.seen[-1][0, 3] == 1).sum()) == 1
    assert translator.module.seen[-1][0, 3, 1, 2] == 1
    with pytest.raises(ValueError, match=r"has 5 x 5 pixels and the mask 8 x 9"):
        translate_image(translator, drawn((5, 5, 3)))


@pytest.mark.parametrize("image", [drawn((8, 9, 3)), np.full((8, 9, 4), 255, np.uint8)])
def test_images_without_a_hole_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="alpha below half"):
        translate_image(masked(), image)


def test_whole_numbers_with_a_sign_have_no_alpha(tmp_path: Path) -> None:
    """Between 0 and 1 as of floats it would be stored as 0 or 1, and read as a second channel."""
    translator = negative(
        1, 1, dtypes=("uint8", "float32"), image_range=[-1000.0, 1000.0], image_stored="int16"
    )
    Image.fromarray(drawn((8, 9, 2))).save(tmp_path / "x.png")

    assert translate_files(translator, str(tmp_path / "x.png"), str(tmp_path / "out")) == 0

    (made,) = (tmp_path / "out").iterdir()
    picture = read_image(made)
    assert (picture.stored, picture.pixels.shape, picture.alpha) == ("int16", (8, 9, 1), None)


def test_a_mask_for_a_run_without_is_one_line() -> None:
    with pytest.raises(UserError, match="trained on no masks"):
        negative(mask=drawn((8, 9)))


def test_an_inpainting_run_fills_what_is_erased(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = ["data=inpainting", f"data.path={pictures()}/b", "data.crop_size=16", "data.channels=1"]
    to = [f"run.dir={tmp_path}", "run.name=run", "run.images=8"]
    assert train(compose_run(["arch=pix2pix", *TINY["pix2pix"], *setting, *COMMON, *to])) == 0
    run = tmp_path / "run"
    inputs = tmp_path / "in"
    inputs.mkdir()
    erased = drawn((20, 24, 2))
    erased[..., 1] = 255
    erased[5:10, 5:10, 1] = 0
    Image.fromarray(erased).save(inputs / "erased.png")
    Image.fromarray(erased[..., 0]).save(inputs / "plain.png")
    mask = tmp_path / "mask.png"
    Image.fromarray(255 - erased[..., 1]).save(mask)

    assert main(["translate", str(run), str(inputs), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    out = str(tmp_path / "by-mask.png")
    assert main(["translate", str(run), str(inputs / "plain.png"), out, "--mask", str(mask)]) == 0

    assert state(run)["lit_gan"]["data"]["source"]["mask"] is True
    old = lit_gan.load(run)
    del (
        old._record["data"]["source"]["mask"],
        old._record["data"]["source"]["alpha"],
    )  # as runs were recorded once
    assert np.array_equal(
        old.translate(inputs / "erased.png"), lit_gan.load(run).translate(inputs / "erased.png")
    )
    assert "plain.png: has no mask" in said
    made = np.asarray(Image.open(tmp_path / "out" / "erased.png"))
    assert made.shape == (20, 24)
    assert np.array_equal(made, np.asarray(Image.open(out)))
    by_python = lit_gan.load(run).translate(erased[..., 0], mask=Image.open(mask))
    assert np.abs(by_python.astype(int) - made).max() <= 1
