"""One image file: every format and depth there and back, bit by bit."""

from __future__ import annotations

from io import BytesIO

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from lit_gan.data.conform import resized, with_channels
from lit_gan.data.files import Picture, decoded, read_image, upright, write_image


def noise(dtype, *shape, seed=0):
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.normal(size=shape).astype(dtype)
    bounds = np.iinfo(dtype)
    return generator.integers(bounds.min, bounds.max, size=shape, endpoint=True, dtype=dtype)


KEPT = [
    (suffix, dtype, channels, alpha)
    for suffix, dtypes, counts, alphas in [
        (".png", ("uint8", "uint16"), (1, 3), (False, True)),
        (".webp", ("uint8",), (3,), (False, True)),
        (".bmp", ("uint8",), (1, 3), (False,)),
        (".tif", ("uint8", "uint16"), (1, 3), (False, True)),
        (".tif", ("uint8", "uint16", "float32"), (1, 2, 3, 5), (False,)),
        (".npy", ("uint8", "uint16", "float32"), (1, 2, 4, 5), (False,)),
    ]
    for dtype in dtypes
    for channels in counts
    for alpha in alphas
]


@pytest.mark.parametrize(("suffix", "dtype", "channels", "alpha"), KEPT)
def test_what_is_written_is_read_bit_by_bit(tmp_path, suffix, dtype, channels, alpha):
    pixels = noise(dtype, 7, 9, channels)
    picture = Picture(pixels, noise(dtype, 7, 9, seed=1) if alpha else None)

    write_image(tmp_path / f"a{suffix}", picture)
    read = read_image(tmp_path / f"a{suffix}")

    assert read.pixels.dtype == pixels.dtype
    assert np.array_equal(read.pixels, pixels)
    assert (read.alpha is None) == (picture.alpha is None)
    assert not alpha or np.array_equal(read.alpha, picture.alpha)
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]


def test_jpeg_is_near(tmp_path):
    ramp = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8)[..., None].repeat(3, axis=2)

    write_image(tmp_path / "a.jpg", Picture(ramp))

    assert np.abs(read_image(tmp_path / "a.jpg").pixels.astype(int) - ramp).max() <= 2


def test_16_bit_colour_png_of_another_program_keeps_its_16_bits(tmp_path):
    pixels = noise("uint16", 5, 6, 3)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))

    assert np.array_equal(read_image(tmp_path / "a.png").pixels, pixels)
    with Image.open(tmp_path / "a.png") as image:
        assert np.asarray(image).dtype == np.uint8  # why imagecodecs is here


@pytest.mark.parametrize(
    ("dtype", "suffix"), [("int16", ".npy"), ("int16", ".tif"), ("float64", ".npy"), ("uint32", ".tif")]
)
def test_other_number_types_are_read_as_floats_and_written_as_they_were(tmp_path, dtype, suffix):
    values = noise("int16", 6, 5).astype(dtype) % 1000
    write = np.save if suffix == ".npy" else tifffile.imwrite
    write(tmp_path / f"a{suffix}", values)

    picture = read_image(tmp_path / f"a{suffix}")
    write_image(tmp_path / f"b{suffix}", picture)

    assert picture.pixels.dtype == np.float32
    assert picture.stored == dtype
    assert np.array_equal(picture.pixels[..., 0], values)
    again = np.load(tmp_path / "b.npy") if suffix == ".npy" else tifffile.imread(tmp_path / "b.tif")
    assert again.dtype == values.dtype
    assert np.array_equal(again, values)


def test_floats_that_a_number_type_cannot_hold_are_not_clipped(tmp_path):
    with pytest.raises(ValueError, match="do not fit into int16"):
        write_image(tmp_path / "a.npy", Picture(np.full((2, 2, 1), 4e4, np.float32), stored="int16"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_as_pillow_turns(orientation):
    image = Image.fromarray(noise("uint8", 4, 6, 3))
    image.getexif()[274] = orientation

    turned = ImageOps.exif_transpose(image)

    assert np.array_equal(upright(np.asarray(image), orientation), np.asarray(turned))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_keeps_profile_exif_resolution_and_text_and_is_upright(tmp_path, dtype, channels):
    exif = Image.Exif()
    exif[0x010E] = "a slide"
    exif[274] = 6
    metadata = {
        "icc": b"profile" * 20,
        "exif": exif.tobytes(),
        "dpi": (300.0, 300.0),
        "text": {"Title": "Über"},
    }
    stored = noise(dtype, 4, 6, channels)

    write_image(tmp_path / "a.png", Picture(stored, None, metadata))
    read = read_image(tmp_path / "a.png")

    assert np.array_equal(read.pixels, upright(stored, 6))
    assert read.metadata["icc"] == metadata["icc"]
    assert read.metadata["text"] == metadata["text"]
    assert read.metadata["dpi"] == pytest.approx((300, 300), abs=0.02)
    found = Image.Exif()
    found.load(read.metadata["exif"])
    assert found[0x010E] == "a slide"
    assert 274 not in found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_png_that_was_turned_is_not_turned_again(tmp_path, dtype, channels, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    stored = noise(dtype, 4, 6, channels)
    write_image(tmp_path / "a.png", Picture(stored, None, {"exif": exif.tobytes()}))

    write_image(tmp_path / "b.png", read_image(tmp_path / "a.png"))

    assert np.array_equal(read_image(tmp_path / "b.png").pixels, upright(stored, orientation))


@pytest.mark.parametrize("words", ['tiff:Orientation="6"', "<tiff:Orientation>6</tiff:Orientation>"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_orientation_in_the_xmp_of_a_png_is_obeyed_once(tmp_path, dtype, words):
    stored = noise(dtype, 4, 6, 3)
    text = {"XML:com.adobe.xmp": f"<x:xmpmeta {words} kept/>"}
    write_image(tmp_path / "a.png", Picture(stored, None, {"text": text}))

    first = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png", first)
    second = read_image(tmp_path / "b.png")

    for read in (first, second):
        assert np.array_equal(read.pixels, upright(stored, 6))
        assert "Orientation" not in read.metadata["text"]["XML:com.adobe.xmp"]
        assert "kept" in read.metadata["text"]["XML:com.adobe.xmp"]


def test_tiff_keeps_where_on_the_earth_it_lies(tmp_path):
    scale = (33550, 12, 3, (0.5, 0.5, 0.0), True)
    pixels = noise("uint16", 6, 8, 4)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig",
                     extratags=[scale], resolution=(300, 300), resolutionunit=2, description="field 7", metadata=None,
                     compression="deflate")  # fmt: skip

    write_image(tmp_path / "b.tif", read_image(tmp_path / "a.tif"))

    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages.first
        assert np.array_equal(page.asarray(), pixels)
        assert page.tags[33550].value == (0.5, 0.5, 0.0)
        assert page.description == "field 7"
        assert page.resolution == (300, 300)
        assert page.compression in (8, 32946)  # deflate


def test_tiff_of_several_pages_is_refused_in_words(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise("uint16", 3, 16, 16), photometric="minisblack")

    with pytest.raises(ValueError, match="3 pages"):
        read_image(tmp_path / "a.tif")


def test_palettes_and_cmyk_become_colour():
    colours = Image.fromarray(noise("uint8", 8, 8, 3)).quantize(16)
    for image, kind in ((colours, "PNG"), (Image.new("CMYK", (4, 4), (0, 255, 0, 0)), "TIFF")):
        buffer = BytesIO()
        image.save(buffer, kind)
        assert np.array_equal(decoded(buffer.getvalue()).pixels, np.asarray(image.convert("RGB")))


def test_formats_say_what_they_cannot_hold(tmp_path):
    for name, picture, message in [
        ("a.png", Picture(noise("float32", 2, 2, 1)), r"\.png cannot hold 1 channels of float32"),
        ("a.jpg", Picture(noise("uint8", 2, 2, 3), noise("uint8", 2, 2)), "transparency"),
        ("a.gif", Picture(noise("uint8", 2, 2, 3)), "no format to write"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_image(tmp_path / name, picture)


def test_non_finite_values_and_odd_arrays_are_refused(tmp_path):
    np.save(tmp_path / "nan.npy", np.array([[np.nan]], np.float32))
    np.save(tmp_path / "line.npy", np.zeros(3))

    with pytest.raises(ValueError, match="not finite"):
        read_image(tmp_path / "nan.npy")
    with pytest.raises(ValueError, match=r"\[H, W, C\]"):
        read_image(tmp_path / "line.npy")


def test_channels_are_repeated_weighed_and_joined_with_alpha():
    grey, colour, alpha = (
        noise("uint8", 4, 4, 1),
        noise("uint8", 4, 4, 3, seed=1),
        noise("uint8", 4, 4, seed=2),
    )

    assert np.array_equal(with_channels(Picture(grey), 3), grey.repeat(3, axis=2))
    pillow = np.asarray(Image.fromarray(colour).convert("L")).astype(int)
    assert np.abs(with_channels(Picture(colour), 1)[..., 0].astype(int) - pillow).max() <= 1
    assert np.array_equal(with_channels(Picture(colour, alpha), 4), np.dstack([colour, alpha]))
    assert (with_channels(Picture(colour), 4)[..., 3] == 255).all()
    assert (with_channels(Picture(colour, np.zeros_like(alpha)), 3) == 255).all()
    with pytest.raises(ValueError, match="has 5 channels"):
        with_channels(Picture(noise("uint8", 4, 4, 5)), 3)


def test_resizing_is_pillows_bicubic_and_keeps_the_depth():
    pixels = noise("uint8", 16, 20, 3)
    pillow = np.asarray(Image.fromarray(pixels).resize((10, 8), Image.Resampling.BICUBIC)).astype(int)

    assert np.abs(resized(pixels, (8, 10)).astype(int) - pillow).max() <= 1
    assert resized(noise("uint16", 8, 8, 5), (4, 4)).dtype == np.uint16
