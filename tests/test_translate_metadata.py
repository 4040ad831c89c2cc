"""What is said of a picture is handed on where it is still true of the translation."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from lit_gan.data.files import read_image
from lit_gan.translate import translate_files
from translators import negative

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CMYK = SRGB[:16] + b"CMYK" + SRGB[20:]
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]


def through(file: Path, translator, out: Path) -> Path:
    assert translate_files(translator, str(file), str(out)) == 0
    return out / file.name


@pytest.mark.parametrize(
    ("mode", "profile", "channels", "kept"),
    [
        ("RGB", SRGB, 3, True), ("L", GREY, 1, True), ("CMYK", CMYK, 3, False), ("L", GREY, 3, False),
        ("RGB", SRGB, 1, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_a_profile_is_of_its_colour_space(
    tmp_path: Path, mode: str, profile: bytes, channels: int, kept: bool, suffix: str
) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / f"x{suffix}", icc_profile=profile)

    made = through(tmp_path / f"x{suffix}", negative(channels, channels), tmp_path / "out")

    with Image.open(made) as image:
        assert (image.info.get("icc_profile") == profile) is kept


def geotiff(path: Path, *, point: bool) -> None:
    keys = (1, 1, 0, 1, 1025, 0, 1, 2 if point else 1)
    tags = [
        (33550, 12, 3, (0.5, 0.25, 0.0), True),
        (33922, 12, 12, (0.0, 0.0, 0.0, 100.0, 200.0, 0.0, 4.0, 8.0, 0.0, 102.0, 198.0, 0.0), True),
        (34264, 12, 16, (0.5, 0, 0, 100, 0, -0.25, 0, 200, 0, 0, 0, 0, 0, 0, 0, 1), True),
        (34735, 3, 8, keys, True),
    ]
    tifffile.imwrite(path, np.zeros((16, 16, 3), np.uint8), photometric="rgb", extratags=tags, metadata=None,
                     resolution=(300, 300), resolutionunit=2)  # fmt: skip


@pytest.mark.parametrize("point", [False, True])
def test_places_on_the_earth_stay_where_they_are(tmp_path: Path, point: bool) -> None:
    geotiff(tmp_path / "x.tif", point=point)

    made = through(tmp_path / "x.tif", negative(scale=2), tmp_path / "out")

    with tifffile.TiffFile(made) as file:
        tags = {tag.code: tag.value for tag in file.pages.first.tags.values()}
        resolution = file.pages.first.resolution
    assert tags[33550] == (0.25, 0.125, 0.0)
    ties = np.array(tags[33922]).reshape(2, 6)
    # the corner of a pixel i lies at 2 i, its centre, which a point counts from, at 2 i + 0.5
    assert np.allclose(ties[:, :2], np.array([[0, 0], [8, 16]]) + 0.5 * point)
    assert np.array_equal(ties[:, 3:], [[100, 200, 0], [102, 198, 0]])
    matrix = np.array(tags[34264]).reshape(4, 4)
    assert np.allclose(matrix @ [8 + 0.5 * point, 16 + 0.5 * point, 0, 1], [102, 198, 0, 1])
    assert resolution == (600, 600)


def test_nothing_moves_where_the_size_stays(tmp_path: Path) -> None:
    geotiff(tmp_path / "x.tif", point=True)

    made = through(tmp_path / "x.tif", negative(), tmp_path / "out")

    assert read_image(made).metadata == read_image(tmp_path / "x.tif").metadata


def test_pixels_an_inch_grow_with_the_image(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png", dpi=(100, 100))

    made = through(tmp_path / "x.png", negative(scale=2), tmp_path / "out")

    with Image.open(io.BytesIO(made.read_bytes())) as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)


def test_exif_says_what_the_enlarged_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[282] = exif[283] = 300.0
    exif[271] = "maker"
    inner = exif.get_ifd(34665)
    inner[40962] = inner[40963] = 8
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", dpi=(300, 300), exif=exif)

    made = through(tmp_path / "x.jpg", negative(scale=4), tmp_path / "out")

    with Image.open(io.BytesIO(made.read_bytes())) as image:
        found = image.getexif()
        assert image.size == (32, 32)
        assert image.info["dpi"] == pytest.approx((1200, 1200), abs=1)
        assert (float(found[282]), float(found[283]), found[271]) == (1200, 1200, "maker")
        assert [found.get_ifd(34665)[tag] for tag in (40962, 40963)] == [32, 32]
