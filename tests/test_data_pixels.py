"""Any image to pixels: modes, alpha, bit depth, orientation, crop."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lit_gan.data.pixels import centre_box, convert, pixels


def to_pixels(image, size, channels, crop="center"):
    return pixels(image, size=size, channels=channels, crop=crop, resample="lanczos")


def saved(image, **settings):
    file = io.BytesIO()
    image.save(file, **settings)
    return Image.open(file)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I;16", "I"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_white_of_every_mode_is_white(mode, channels):
    if mode in ("I;16", "I"):
        image = Image.fromarray(np.full((8, 8), 65535, dtype=np.uint16 if mode == "I;16" else np.int32))
    else:
        image = Image.new("RGB", (8, 8), "white").convert("L" if mode == "LA" else "RGB").convert(mode)
    assert image.mode == mode

    result = to_pixels(image, (8, 8), channels)

    assert result.shape == (8, 8, channels)
    assert result.dtype == np.uint8
    assert (result == 255).all()


def test_16_bit_grey_is_scaled_not_clipped():
    grey = np.array([[0, 257 * 100, 65535, 128, 129, 32768]], dtype=np.uint16)

    result = to_pixels(saved(Image.fromarray(grey), format="PNG"), (1, 6), 1)

    assert result[0, :, 0].tolist() == [0, 100, 255, 0, 1, 128]


@pytest.mark.parametrize("values", [np.float32(0.5), np.int32(70_000), np.int32(-1)])
def test_pixels_of_unknown_range_are_refused(values):
    with pytest.raises(ValueError, match="pixels"):
        convert(Image.fromarray(np.full((4, 4), values)), 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_dropped_alpha_is_composited_on_white(mode):
    if mode == "P":
        image = Image.new("P", (4, 4), 0)
        image.putpalette([0, 0, 0])
        image = saved(image, format="PNG", transparency=0)
    else:
        image = Image.new(mode, (4, 4), (0,) * len(Image.new(mode, (1, 1)).getbands()))

    assert (to_pixels(image, (4, 4), 3) == 255).all()
    assert (to_pixels(image, (4, 4), 1) == 255).all()
    assert (to_pixels(image, (4, 4), 4)[..., 3] == 0).all()


def test_half_transparent_black_becomes_grey():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 128))

    assert (to_pixels(image, (4, 4), 3) == 127).all()


def test_transparent_colours_do_not_bleed_when_shrinking():
    rgba = np.zeros((16, 16, 4), dtype=np.uint8)
    rgba[:, ::2] = (255, 0, 0, 255)
    rgba[:, 1::2] = (0, 255, 0, 0)

    result = to_pixels(Image.fromarray(rgba), (4, 4), 4)

    assert (result[1:3, 1:3, 1] == 0).all()


def test_exif_orientation_is_applied():
    picture = np.zeros((2, 4, 3), dtype=np.uint8)
    picture[:, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise

    result = to_pixels(saved(Image.fromarray(picture), format="PNG", exif=exif), (4, 2), 3, crop="none")

    assert (result[0] == 255).all()
    assert (result[1:] == 0).all()


def test_centre_crop_keeps_the_middle_and_none_squashes():
    picture = np.zeros((4, 12, 1), dtype=np.uint8)
    picture[:, 4:8] = 255

    image = Image.fromarray(picture[..., 0])

    assert (to_pixels(image, (4, 4), 1) == 255).all()
    assert not (to_pixels(image, (4, 4), 1, crop="none") == 255).all()


def test_centre_box_has_the_aspect_ratio_of_the_target():
    left, top, right, bottom = centre_box((178, 218), (64, 64))

    assert (left, top, right, bottom) == (0, 20, 178, 198)
    assert centre_box((100, 100), (96, 64)) == pytest.approx((0, 50 / 3, 100, 250 / 3))


def test_shrinking_is_antialiased():
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))

    result = to_pixels(Image.fromarray(stripes), (8, 8), 1)

    assert np.abs(result.astype(int) - 127).max() <= 16
