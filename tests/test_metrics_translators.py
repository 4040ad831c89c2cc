"""Scores of translators on pictures of other sizes and depths than those trained on, and without LPIPS's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchmetrics.functional.image import structural_similarity_index_measure

import lit_gan
from lit_gan.build import data_of
from lit_gan.cli import main
from lit_gan.config import compose
from lit_gan.data import build_data
from lit_gan.data.files import Picture, write_image
from lit_gan.errors import UserError
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.weights import sha256_of
from lit_gan.resume import compose_saved
from lit_gan.run import RunFolder
from lit_gan.sampling import inference
from lit_gan.sources import Sources
from lit_gan.tiles import pad_to
from lit_gan.train import assemble
from metrics_helpers import SquaredDistance, random_lpips
from tiny import arguments, tiny_run


def fill(folder: Path, size: tuple[int, int], count: int = 4, seed: int = 0) -> str:
    """Grey pictures of noise."""
    folder.mkdir(parents=True)
    for i, pixels in enumerate(np.random.default_rng(seed).integers(0, 256, (count, *size), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return str(folder)


def shown(said: str, name: str) -> float:
    """The value of a score in the table that `lit-gan eval` prints."""
    return float(next(line for line in said.splitlines() if line.startswith(f"{name} ")).split()[1])


def test_domains_of_two_sizes_are_scored_by_their_centres(tmp_path: Path) -> None:
    a, b = fill(tmp_path / "a", (40, 40)), fill(tmp_path / "b", (48, 48), seed=1)

    run = tiny_run(
        "cyclegan", tmp_path, "run.images=8", f"data.sources={a}", f"data.path={b}", "data.crop_size=32",
        "eval.metrics=[fid,cycle]", "eval.at_start=true", "metrics.extractor=pixels", "samples.rows=1",
    )  # fmt: skip

    made = RunFolder(run).read_results()["evaluations"]
    assert [entry["images_seen"] for entry in made] == [0, 8]
    assert all(set(entry["scores"]) == {"fid", "cycle"} for entry in made)


@pytest.mark.parametrize(("sizes", "seen"), [(((40, 40), (48, 48)), 32), (((40, 40), (40, 40)), 40)])
def test_domains_are_shown_whole_where_both_have_one_size(
    tmp_path: Path, sizes: tuple[tuple[int, int], ...], seen: int
) -> None:
    a, b = (fill(tmp_path / name, size) for name, size in zip("ab", sizes, strict=True))
    data = build_data("unpaired", sources=a, path=b, crop_size=32)
    data.prepare()
    held = data.held_out

    assert held.image_shape[1:] == held.source_shape[1:] == (seen, seen)
    assert held.sources_at([0]).shape == held.real_batch([0])["source"].shape == (1, 1, seen, seen)
    assert held.real_batch([0])["image"].shape == (1, 1, seen, seen)


def test_domains_of_two_sizes_need_a_crop(tmp_path: Path) -> None:
    a, b = fill(tmp_path / "a", (40, 40)), fill(tmp_path / "b", (48, 48))
    data = build_data("unpaired", sources=a, path=b)

    with pytest.raises(UserError, match=r"40 x 40.*48 x 48.*data\.crop_size"):
        data.prepare()


def test_cycle_error_of_sides_that_the_networks_cannot_halve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = fill(tmp_path / "a", (30, 30)), fill(tmp_path / "b", (30, 30), seed=1)
    run = tiny_run("cyclegan", tmp_path, "run.images=8", f"data.sources={a}", f"data.path={b}")
    capsys.readouterr()

    assert main(["eval", str(run), "--metrics", "cycle"]) == 0

    found = shown(capsys.readouterr().out, "cycle")
    module = lit_gan.load(run).module
    source = data_of(compose_saved(str(run), []).config).held_out.sources_at(range(4))
    with inference(module):
        there = module.generate({"source": pad_to(source, 4)})
        back = module.generate_source({"image": there})
    assert back.shape[2:] == (32, 32)
    assert found == pytest.approx(float((back[..., :30, :30] - source).abs().mean() * 127.5), rel=1e-4)
    assert torch.isfinite(back).all()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights in any of the known places, and no network to fetch them by."""
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def test_without_its_weights_lpips_is_left_out_and_the_run_says_so(
    offline: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run("pix2pix", tmp_path, "run.images=8", "eval.metrics=[lpips,psnr,lpips-diversity]")
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "lpips" in line]
    assert main(["eval", str(run), "--metrics", "ssim,lpips"]) == 0
    (again,) = [line for line in capsys.readouterr().err.splitlines() if "lpips" in line]

    assert said == (
        "eval.metrics without lpips, lpips-diversity: the weights of lpips-vgg are neither here nor to be had "
        "(no network); get them by lit-gan weights fetch lpips-vgg, or set metrics.lpips_weights=PATH"
    )
    results = RunFolder(run).read_results()
    trained, scored = sorted(results["evaluations"], key=lambda entry: entry["source"], reverse=True)
    assert results["notes"] == [said]
    assert list(trained["scores"]) == ["psnr"]
    assert list(scored["scores"]) == ["ssim"]
    assert scored["notes"] == [again]


def test_run_that_goes_on_with_lpips_no_longer_says_that_it_is_left_out(
    offline: None, tmp_path: Path
) -> None:
    big = ["data.crop_size=null", "data.load_size=32", "metrics.lpips=alex"]
    run = tiny_run("pix2pix", tmp_path, "run.images=8", "eval.metrics=[psnr,lpips]", *big)
    assert RunFolder(run).read_results()["notes"]
    weights = tmp_path / "cache" / "weights" / "alexnet-owt-7be5be79.pth"
    weights.parent.mkdir(parents=True, exist_ok=True)
    random_lpips(weights)

    more = [f"metrics.lpips_weights_sha256={sha256_of(weights)}", "run.images=16"]
    assert main(["train", f"resume={run}", *more]) == 0

    results = RunFolder(run).read_results()
    assert results["notes"] == []
    assert list(results["evaluations"][-1]["scores"]) == ["psnr", "lpips"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["eval.metrics=[lpips]"], "the weights of lpips-vgg are neither here nor to be had"),
        (["metrics.lpips_weights=nowhere.pth"], "metrics.lpips_weights=nowhere.pth: no such file"),
        (["metrics.lpips_weights={broken}"], "is not the standard vgg16"),
        (
            ["metrics.lpips_weights={broken}", "metrics.lpips_weights_sha256={hash}"],
            "is not a file of tensors",
        ),
    ],
)
def test_weights_that_are_given_and_wrong_stop_a_run_as_lpips_alone_does(
    offline: None, tmp_path: Path, settings: list[str], words: str
) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no tensors")
    chosen = [setting.format(broken=broken, hash=sha256_of(broken)) for setting in settings]

    with pytest.raises(UserError) as error:
        tiny_run("pix2pix", tmp_path, "run.images=8", "eval.metrics=[psnr,lpips]", *chosen)

    assert words in str(error.value)
    assert "\n" not in str(error.value)


class Shift(nn.Module):
    """A translator that hands its source back, `shift` further in [-1, 1]."""

    real_key = "image"
    latent_dim = 0

    def __init__(self, held: Any, shift: float) -> None:
        super().__init__()
        self.sources, self.shift = Sources(held), shift
        self.register_buffer("place", torch.zeros(()))

    @property
    def device(self) -> torch.device:
        return self.get_buffer("place").device

    def generate(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["source"] + self.shift


def deep(folder: Path, dtype: str, channels: int = 1, size: tuple[int, int] = (24, 30)) -> str:
    """Three pictures of noise: 16 bits from 1000 to 3000, or floats from -500 to 1500."""
    folder.mkdir()
    drawn = np.random.default_rng(0).uniform(0, 2000, (3, *size, channels))
    for i, values in enumerate(drawn):
        pixels = (np.rint(values) + 1000 if dtype == "uint16" else values - 500).astype(dtype)
        write_image(folder / f"{i}{'.png' if dtype == 'uint16' else '.tif'}", Picture(pixels))
    return str(folder)


def held_of(path: str, **settings: Any) -> Any:
    data = build_data("paired", sources=path, path=path, **settings)
    data.prepare()
    return data.held_out


# an error of `error` units everywhere, of a range of `width` units: 20 log10(width / error) dB
@pytest.mark.parametrize(
    ("dtype", "limits", "width", "error"),
    [
        ("uint16", None, 65535, 100),
        ("uint16", (0, 4095), 4095, 100),
        ("float32", (-1000, 3000), 4000, 40),
        ("float32", (0, 1000), 1000, 40),  # values lie outside, and are not cut
    ],
)
def test_constant_error_has_its_decibels_in_the_range_of_the_data(
    tmp_path: Path, dtype: str, limits: tuple[float, float] | None, width: float, error: float
) -> None:
    ranges = {} if limits is None else {"range": limits, "source_range": limits}
    held = held_of(deep(tmp_path / "a", dtype), **ranges)

    score = evaluate(
        Shift(held, 2 * error / width), held, metrics=["psnr", "psnr-y"], extractor=None, fakes=3
    )

    low, high = limits or (0, 65535)
    for name in ("psnr", "psnr-y"):
        assert score[name].value == pytest.approx(20 * np.log10(width / error), abs=1e-3)
        assert score[name].protocol.settings.endswith(f" dB, of {low:g} to {high:g}")
        assert score[name].protocol.quantisation == ("uint16, rounded" if dtype == "uint16" else "none")


@pytest.mark.parametrize(
    ("dtype", "limits", "most"),
    [
        ("uint16", None, 20 * np.log10(65535) + 10 * np.log10(12)),
        ("uint16", (0, 4095), 20 * np.log10(4095) + 10 * np.log10(12)),
        ("float32", (-1000, 3000), 20 * np.log10(2**24) + 10 * np.log10(12)),
    ],
)
def test_equal_deep_images_have_the_psnr_of_their_rounding(
    tmp_path: Path, dtype: str, limits: tuple[float, float] | None, most: float
) -> None:
    ranges = {} if limits is None else {"range": limits, "source_range": limits}
    held = held_of(deep(tmp_path / "a", dtype), **ranges)

    score = evaluate(Shift(held, 0.0), held, metrics=["psnr", "ssim"], extractor=None, fakes=3)

    assert score["psnr"].value == pytest.approx(most)
    assert score["psnr"].protocol.settings.startswith(f"mean of images, at most {most:.1f} dB")
    assert score["ssim"].value == pytest.approx(1)


def test_fakes_of_16_bits_are_measured_as_they_would_be_written(tmp_path: Path) -> None:
    held = held_of(deep(tmp_path / "a", "uint16"))

    score = evaluate(Shift(held, 0.8 / 65535), held, metrics=["psnr"], extractor=None, fakes=3)

    assert score["psnr"].value == pytest.approx(107.1, abs=0.1), "less than half a level is none"


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_ssim_of_deep_images_is_torchmetrics_in_their_range(tmp_path: Path, dtype: str) -> None:
    limits = (0.0, 4095.0) if dtype == "uint16" else (-1000.0, 3000.0)
    held = held_of(deep(tmp_path / "a", dtype, 3), range=limits, source_range=limits)
    shift = 0.25

    score = evaluate(Shift(held, shift), held, metrics=["ssim"], extractor=None, fakes=3)

    real = held.real_batch([0, 1, 2])["image"].double() + 1
    width = limits[1] - limits[0]
    fake = (real + shift) * width / 2
    fake = fake.round() if dtype == "uint16" else fake
    inner = structural_similarity_index_measure(
        fake, real * width / 2, data_range=width, return_full_image=True
    )[1][..., 5:-5, 5:-5]
    assert score["ssim"].value == pytest.approx(float(inner.mean()), abs=1e-6)


def test_lpips_of_deep_images_is_of_their_range(tmp_path: Path) -> None:
    limits = (-1000.0, 3000.0)
    held = held_of(deep(tmp_path / "a", "float32", 3, (32, 32)), range=limits, source_range=limits)

    score = evaluate(
        Shift(held, 0.5), held, metrics=["lpips"], extractor=None, lpips=SquaredDistance(), fakes=3
    )

    assert score["lpips"].value == pytest.approx(0.25 * 3 * 32 * 32, rel=1e-5)
    assert score["lpips"].protocol.settings == "of -1000 to 3000"


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_run_between_two_depths_is_scored(tmp_path: Path, dtype: str) -> None:
    a, b = deep(tmp_path / "a", "float32"), deep(tmp_path / "b", dtype)

    run = tiny_run(
        "pix2pix", tmp_path, "run.images=8", f"data.sources={a}", f"data.path={b}", "data.crop_size=16",
        "data.range=[0,4000]", "data.source_range=[-1000,3000]", "eval.metrics=[psnr,ssim,psnr-y,ssim-y]",
    )  # fmt: skip

    (scored,) = RunFolder(run).read_results()["evaluations"]
    assert set(scored["scores"]) == {"psnr", "ssim", "psnr-y", "ssim-y"}
    assert all(
        score["protocol"]["settings"].endswith(", of 0 to 4000") for score in scored["scores"].values()
    )


def test_run_on_floats_is_not_cut_in_training_nor_afterwards(tmp_path: Path) -> None:
    path = deep(tmp_path / "a", "float32")
    settings = [f"data.path={path}", "data.crop_size=16", "data.channels=null", "data.range=[0,1000]"]

    trained = assemble(compose(arguments("srgan", *settings)))[1]
    loaded = lit_gan.load(tiny_run("srgan", tmp_path, "run.images=8", *settings)).module

    assert not trained.clips
    assert not loaded.clips
    assert assemble(compose(arguments("srgan")))[1].clips
