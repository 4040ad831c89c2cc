"""Translating files: names, depths, alpha and sizes kept, tiles without seams, failures named; and one image in Python."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lit_gan
from lit_gan.build import data_of
from lit_gan.cli import main
from lit_gan.data.files import Picture, read_image, write_image
from lit_gan.errors import UserError
from lit_gan.resume import compose_saved
from lit_gan.run import RunFolder
from lit_gan.sample import load_module
from lit_gan.sampling import inference
from tiny import pictures, tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A tiny U-Net of grey to grey, stride 4, trained for two steps, whose scores are of pairs."""
    folder = tmp_path_factory.mktemp("pix2pix")
    return tiny_run(
        "pix2pix", folder, "run.images=16", "eval.metrics=[psnr,ssim]", "data.holdout=4", "samples.rows=1"
    )


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A tiny SRResNet, convolutional, four times."""
    return tiny_run("srgan", tmp_path_factory.mktemp("srgan"), "run.images=16")


def values(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def test_folder_keeps_names_depth_alpha_and_size(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = tmp_path / "in"
    (inputs / "deep").mkdir(parents=True)
    Image.fromarray(values((17, 22))).save(inputs / "grey.png")
    Image.fromarray(values((9, 40, 3))).save(inputs / "colour.jpg")
    Image.fromarray(values((20, 20, 4))).save(inputs / "alpha.png")
    write_image(inputs / "deep" / "sixteen.png", Picture(values((21, 19, 1), "uint16")))

    assert main(["translate", str(run), str(inputs), str(tmp_path / "out")]) == 0

    out = tmp_path / "out"
    assert "4 of 4 images translated" in capsys.readouterr().out
    grey, alpha = read_image(out / "grey.png"), read_image(out / "alpha.png")
    sixteen = read_image(out / "deep" / "sixteen.png")
    assert grey.size == (17, 22)
    assert grey.pixels.dtype == np.uint8
    assert read_image(out / "colour.jpg").size == (9, 40)
    assert alpha.alpha is not None
    assert np.array_equal(alpha.alpha, read_image(inputs / "alpha.png").alpha)
    assert sixteen.pixels.dtype == np.uint16
    assert sixteen.size == (21, 19)
    assert len(np.unique(sixteen.pixels // 257 * 257 - sixteen.pixels)) > 1, "more than 256 levels"


def test_failures_are_named_and_told_by_the_exit_code(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    Image.fromarray(values((16, 16))).save(inputs / "good.png")
    (inputs / "torn.png").write_bytes((inputs / "good.png").read_bytes()[:60])
    np.save(inputs / "five.npy", values((16, 16, 5)))

    assert main(["translate", str(run), str(inputs), str(tmp_path / "out")]) == 1

    said = capsys.readouterr().out
    assert "1 of 3 images translated" in said
    assert "torn.png" in said
    assert "five.npy" in said
    assert "5 channels" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]


def test_one_file_and_a_list_on_standard_input(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sorted((pictures() / "a").iterdir())[:2]

    assert main(["translate", str(run), str(first), str(tmp_path / "one.png")]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{first}\n{second}\n"))
    assert main(["translate", str(run), "-", str(tmp_path / "out")]) == 0

    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "out" / first.name).read_bytes()
    assert (tmp_path / "out" / second.name).exists()


@pytest.mark.parametrize(
    ("inputs", "out", "words"),
    [
        ("nowhere", "out", "does not exist"),
        (".", "out", "holds no images"),
        ("a.png", "a.png", "the image itself"),
    ],
)
def test_wrong_places_are_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    inputs: str, out: str, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if inputs == "a.png":
        Image.fromarray(values((16, 16))).save("a.png")

    assert main(["translate", str(run), inputs, out]) == 2

    assert words in capsys.readouterr().err


def test_tiles_are_the_whole_image_where_the_network_is_convolutional(larger: Path) -> None:
    sampler = lit_gan.load(larger)
    image = values((90, 130))

    whole = sampler.translate(image, tile="none")
    tiled = sampler.translate(image, tile=48)

    assert whole.shape == (360, 520)
    assert whole.std() > 0
    assert np.abs(whole.astype(int) - tiled.astype(int)).max() <= 1


def test_a_network_runs_in_the_layout_it_was_trained_in(larger: Path) -> None:
    """On a CPU `srgan` takes half the time in channels_last; and convolutions round as they did in training."""
    for wanted in (True, False):
        plan = compose_saved(str(larger), (f"trainer.channels_last={str(wanted).lower()}",))

        module, _ = load_module(plan)

        weights = [p for p in module.parameters() if p.ndim == 4 and min(p.shape[1], p.shape[2]) > 1]
        assert weights
        assert all(p.is_contiguous(memory_format=torch.channels_last) is wanted for p in weights)


def test_memory_is_measured_once_for_a_size(larger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("lit_gan.translator.tile_for", lambda _, image, __: asked.append(image.shape))
    sampler = lit_gan.load(larger)

    for sides in ((20, 30), (20, 30), (30, 20), (20, 30)):
        sampler.translate(values(sides))

    assert [tuple(shape[2:]) for shape in asked] == [(20, 30), (30, 20)]


def test_dropout_rests_where_there_are_tiles(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "in.npy", values((200, 200)))

    assert (
        main(["translate", str(run), str(tmp_path / "in.npy"), str(tmp_path / "out.npy"), "--tile", "96"])
        == 0
    )

    said = capsys.readouterr().out
    assert "tiles of at most 96 pixels" in said
    assert "without dropout" in said
    assert np.load(tmp_path / "out.npy").shape == (200, 200)


def test_one_image_becomes_one_of_its_kind(run: Path) -> None:
    sampler = lit_gan.load(run)
    array = values((18, 23))

    of_array = sampler.translate(array)
    of_image = sampler.translate(Image.fromarray(array))
    of_sixteen = sampler.translate(array.astype(np.uint16) * 257)
    of_tensor = sampler.translate(torch.from_numpy(array / 127.5 - 1).float()[None])

    assert of_array.dtype == np.uint8
    assert isinstance(of_image, Image.Image)
    assert np.array_equal(np.asarray(of_image), of_array)
    assert of_sixteen.dtype == np.uint16
    assert np.abs(of_sixteen / 257 - of_array).max() <= 0.51
    assert of_tensor.shape == (1, 18, 23)
    assert np.abs((of_tensor[0].numpy() + 1) * 127.5 - of_array).max() <= 0.51
    with pytest.raises(ValueError, match="uint8, uint16 or float32"):
        sampler.translate(array.astype(np.int32))


def test_seed_is_the_noise(run: Path) -> None:
    sampler = lit_gan.load(run)
    array = values((32, 32))

    first, again, other = (sampler.translate(array, seed=seed) for seed in (0, 0, 1))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_translators_are_scored_by_pairs_and_shown_beside_them(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run), "--metrics", "psnr", "data.holdout=4"]) == 0

    said = capsys.readouterr().out
    grids = sorted((run / "samples").glob("kimg*.png"))
    with Image.open(grids[-1]) as sheet:
        width, height = sheet.size
    assert "psnr" in said
    assert "4 fakes" in said, "each source once"
    assert (width - 2) % (3 * 26 + 2) == 0, "input, output and target, 24 pixels wide each"
    assert height == 24


def test_scores_of_pairs_alone_are_taken_on_the_way_too(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["eval.metrics=[psnr]", "eval.every_images=16", "eval.at_start=false", "data.holdout=4"]
    run = tiny_run("pix2pix", tmp_path, "run.images=48", *settings, "samples.rows=1")

    made = RunFolder(run).read_results()["evaluations"]
    assert [entry["images_seen"] for entry in made] == [16, 32, 48]
    said = capsys.readouterr().out
    assert re.search(r"^Best PSNR [\d.]+ at [\d.]+ kimg\.$", said, re.MULTILINE), "by nothing"
    assert f"lit-gan translate {run} IN OUT" in said
    assert "lit-gan sample" not in said


def test_peak_memory_is_said_and_has_seen_what_was_held(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _peak(run, tmp_path, capsys)
    held = np.ones(int((before + 0.2) * 2**30) // 8)
    assert held[-1] == 1
    del held

    assert _peak(run, tmp_path, capsys) >= before + 0.1


def _peak(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> float:
    """GiB that `lit-gan translate` says the process has held at most."""
    assert main(["translate", str(run), str(next((pictures() / "a").iterdir())), str(folder / "out")]) == 0
    found = re.search(
        r"1 of 1 images .* s each; peak memory ([\d.]+) GiB of the process", capsys.readouterr().out
    )
    assert found is not None
    return float(found[1])


def test_sample_says_what_to_use(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(run)]) == 2
    assert "lit-gan translate" in capsys.readouterr().err
    with pytest.raises(UserError, match="translate"):
        lit_gan.load(run).sample(1)


def test_pairs_of_unequal_sizes_are_scored_whole(
    larger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "test"
    folder.mkdir()
    for i, shape in enumerate([(40, 56), (64, 48), (33, 70)]):  # the last is no multiple of 4
        Image.fromarray(values(shape, seed=i)).save(folder / f"{i}.png")
    against = f"data.test={folder}"

    assert main(["eval", str(larger), "--metrics", "psnr,psnr-y", against]) == 0
    said = capsys.readouterr().out

    data = compose_saved(str(larger), [against]).config
    held = data_of(data).held_out
    sampler = lit_gan.load(larger)
    expected = []
    for i in range(3):
        pair = held.whole(i)
        made = ((sampler.translate(pair["source"][0]) + 1) * 127.5).round().clamp(0, 255)
        error = (made - pair["image"][0].float()).square().mean()
        expected.append(10 * torch.log10(255**2 / error))
    shown = float(next(line for line in said.splitlines() if line.startswith("psnr ")).split()[1])
    assert shown == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4)
    assert "3 fakes" in said


def test_cycle_error_is_the_distance_there_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tiny_run("cyclegan", tmp_path, "run.images=8")

    assert main(["eval", str(made), "--metrics", "cycle"]) == 0
    shown = float(
        next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cycle ")).split()[1]
    )

    module = lit_gan.load(made).module
    held = data_of(compose_saved(str(made), []).config).held_out
    source = held.sources_at(range(held.source_size))
    with inference(module):
        back = module.cycle({"source": source})
    assert shown == pytest.approx(float((back - source).abs().mean() * 127.5), rel=1e-4)
    assert main(["eval", str(made), "--metrics", "psnr"]) == 2
    assert "belong to none" in capsys.readouterr().err


def test_cycle_error_needs_a_way_back(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--metrics", "cycle", "data.holdout=4"]) == 2
    assert "cyclegan alone" in capsys.readouterr().err
