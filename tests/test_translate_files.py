"""What `lit-gan translate` does to a disk: no file is replaced that was read or just made; a bad file stops nothing."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_gan.data.files import Picture, read_image, write_image
from lit_gan.errors import UserError
from lit_gan.translate import translate_files
from translators import negative


def picture(channels: int = 3, seed: int = 0, size: tuple[int, int] = (8, 9)) -> Picture:
    drawn = np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)
    return Picture(drawn)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_list_into_the_folder_of_its_images_replaces_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x.png", "y.png"):
        write_image(tmp_path / name, picture())
    before = (tmp_path / "x.png").read_bytes()
    (tmp_path / "link.png").symlink_to(tmp_path / "y.png")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{tmp_path}/x.png\n{tmp_path}/link.png\n"))
    said: list[str] = []
    translator = negative()

    assert translate_files(translator, "-", str(tmp_path), say=said.append) == 1

    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes() == before
    assert (tmp_path / "link.png").is_symlink()
    assert said[0].startswith("0 of 2 images")
    assert "would replace" in said[1]
    assert "an image to translate" in said[1]
    assert not translator.module.seen, "told before the work is done"


def test_two_sources_never_share_a_result(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("x.jpg", "x.png"):
        write_image(source / name, picture())
    said: list[str] = []

    assert (
        translate_files(negative(), str(source), str(tmp_path / "out"), suffix=".png", say=said.append) == 1
    )

    assert names(tmp_path / "out") == ["x.png"]
    assert said[0].startswith("1 of 2 images")
    assert "the translation of" in said[1]
    assert "x.jpg" in said[1]


def test_an_ending_that_had_to_change_replaces_no_other_result(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_image(source / "x.png", picture(seed=0))
    write_image(source / "x.tif", picture(seed=1))
    said: list[str] = []

    floats = negative(dtypes=("uint8", "float32"))
    assert translate_files(floats, str(source), str(tmp_path / "out"), say=said.append) == 1

    made = read_image(tmp_path / "out" / "x.tif").pixels
    assert np.allclose(made, 1 - picture(seed=0).pixels / 255, atol=1e-6)
    assert "x.tif" in said[-1]


def test_a_format_does_not_lead_back_to_the_source(tmp_path: Path) -> None:
    write_image(tmp_path / "s.png", picture())
    before = (tmp_path / "s.png").read_bytes()

    assert translate_files(negative(), str(tmp_path / "s.png"), str(tmp_path / "s.tif"), suffix=".png") == 1

    assert (tmp_path / "s.png").read_bytes() == before


def test_results_inside_the_folder_of_images_are_not_translated_again(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    (tmp_path / "deep").mkdir()
    write_image(tmp_path / "deep" / "b.png", picture())

    for _ in range(2):
        assert translate_files(negative(), str(tmp_path), str(tmp_path / "out")) == 0

    assert names(tmp_path) == ["a.png", "deep/b.png", "out/a.png", "out/deep/b.png"]


def test_images_below_the_folder_of_results_are_translated(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    write_image(tmp_path / "new" / "a.png", picture())

    assert translate_files(negative(), str(tmp_path / "new"), str(tmp_path)) == 0

    assert names(tmp_path) == ["a.png", "new/a.png"]


def test_whatever_a_bad_file_raises_is_listed_and_the_others_are_made(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.tif").write_bytes(b"II*\0")  # struct.error
    (source / "b.png").write_bytes(b"no image at all")
    write_image(source / "c.png", picture())
    said: list[str] = []

    assert translate_files(negative(), str(source), str(tmp_path / "out"), say=said.append) == 1

    assert names(tmp_path / "out") == ["c.png"]
    assert said[0].startswith("1 of 3 images")
    assert "a.tif" in said[1]
    assert "b.png: not an image that can be read" in said[2]


def test_a_torn_file_is_an_error_of_values_whatever_its_decoder_raises(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0")

    with pytest.raises(ValueError, match="cannot be read"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "--tile 512"),
        (torch.OutOfMemoryError("CUDA out of memory"), "--tile 512"),
        (MemoryError(), "--tile 512"),
        (RuntimeError("an odd layer"), "an odd layer"),
        (KeyError(), "KeyError"),
    ],
)
def test_what_the_network_raises_is_a_failure_of_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, words: str
) -> None:
    write_image(tmp_path / "a.png", picture())
    translator = negative()
    monkeypatch.setattr(translator.module, "generate", lambda batch: (_ for _ in ()).throw(raised))
    said: list[str] = []

    assert translate_files(translator, str(tmp_path), str(tmp_path / "out"), say=said.append) == 1

    assert words in said[-1]


def test_errors_of_the_user_stop_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", picture())
    translator = negative()
    wrong = UserError("of no file alone")
    monkeypatch.setattr(translator.module, "generate", lambda batch: (_ for _ in ()).throw(wrong))

    with pytest.raises(UserError, match="of no file"):
        translate_files(translator, str(tmp_path), str(tmp_path / "out"))


def test_images_of_any_size_are_read(tmp_path: Path) -> None:
    Image.new("1", (20_000, 9_000)).save(tmp_path / "a.png")  # beyond what Pillow takes for a bomb

    assert read_image(tmp_path / "a.png").size == (9_000, 20_000)


@pytest.mark.parametrize("module", ["files", "pixels"])  # all sources of data decode by one of the two
def test_each_reader_of_data_lifts_the_limit(module: str) -> None:
    program = f"import lit_gan.data.{module}; from PIL import Image; print(Image.MAX_IMAGE_PIXELS)"

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "None"
