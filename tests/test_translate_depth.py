"""Number types: floats stay floats, no range is guessed, and PIL's odd modes are read as their files are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lit_gan.data.files import read_image
from lit_gan.translate import translate_files, translate_image
from translators import negative


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("target", ["uint8", "uint16"])
def test_floats_come_back_as_floats(tmp_path: Path, dtype: str, target: str) -> None:
    values = np.random.default_rng(0).random((8, 9)).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    tifffile.imwrite(tmp_path / "x.tif", values)
    for name in ("x.npy", "x.tif"):
        out = tmp_path / "out"

        assert translate_files(negative(1, 1, dtypes=(target, target)), str(tmp_path / name), str(out)) == 0

        made = np.load(out / name) if name.endswith("npy") else tifffile.imread(out / name)
        assert made.dtype == values.dtype
        assert np.allclose(made, 1 - values, atol=1e-3)


def test_an_array_of_floats_becomes_one() -> None:
    values = np.random.default_rng(0).random((8, 9, 3)).astype(np.float32)

    made = translate_image(negative(), values)

    assert made.dtype == np.float32
    assert np.allclose(made, 1 - values, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int16", "int8", "int32", "uint32"])
def test_integers_without_a_known_range_are_refused(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "ct.npy", np.arange(72).reshape(8, 9).astype(dtype))
    said: list[str] = []

    assert (
        translate_files(negative(1, 1), str(tmp_path / "ct.npy"), str(tmp_path / "out"), say=said.append) == 1
    )

    assert f"holds {dtype}" in said[-1]
    assert "uint16" in said[-1]


def test_integers_of_a_run_on_them_keep_their_type(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-1000, 3000, (8, 9)).astype(np.int16)
    np.save(tmp_path / "ct.npy", values)
    ct = {"range": [-1000.0, 3000.0], "stored": "int16"}
    more = {f"{side}_{key}": value for side in ("source", "image") for key, value in ct.items()}
    translator = negative(1, 1, dtypes=("float32", "float32"), **more)

    assert translate_files(translator, str(tmp_path / "ct.npy"), str(tmp_path / "out")) == 0

    made = np.load(tmp_path / "out" / "ct.npy")
    assert made.dtype == np.int16
    assert np.abs(made - (2000 - values)).max() <= 1


def test_grey_of_16_bits_in_pil_keeps_its_depth() -> None:
    values = np.array([[0, 300, 40_000, 65_535]], dtype=np.uint16)
    for image in (Image.fromarray(values), Image.fromarray(values.astype(np.int32))):
        made = translate_image(negative(1, 1), image)

        assert made.mode == "I;16"
        assert np.array_equal(np.asarray(made), 65_535 - values)


def test_floats_in_pil_stay_floats() -> None:
    values = np.array([[0.0, 0.25, 1.0]], dtype=np.float32)

    made = translate_image(negative(1, 1), Image.fromarray(values))

    assert made.mode == "F"
    assert np.allclose(np.asarray(made), 1 - values)
    with pytest.raises(ValueError, match="holds int32"):
        translate_image(negative(1, 1), Image.fromarray(np.array([[-5, 70_000]], dtype=np.int32)))


def test_palettes_in_pil_keep_their_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    image.info["transparency"] = 0
    image.save(tmp_path / "x.png")

    made = translate_image(negative(), image)

    assert made.mode == "RGBA"
    assert np.array_equal(np.asarray(made)[..., 3], read_image(tmp_path / "x.png").alpha)
    assert tuple(np.asarray(made)[1, 1, :3]) == (245, 235, 225)


def test_a_pil_image_is_turned_upright_as_its_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6)).save(tmp_path / "x.png", exif=exif)

    with Image.open(tmp_path / "x.png") as image:
        made = translate_image(negative(1, 1), image)

    assert np.array_equal(np.asarray(made), np.asarray(translate_image(negative(1, 1), tmp_path / "x.png")))
