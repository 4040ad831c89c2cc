"""Scores of translators on pictures of other sizes and depths than those trained on, and without LPIPS's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lit_gan
from lit_gan.build import data_of
from lit_gan.cli import main
from lit_gan.data import build_data
from lit_gan.errors import UserError
from lit_gan.metrics.weights import sha256_of
from lit_gan.resume import compose_saved
from lit_gan.run import RunFolder
from lit_gan.sampling import inference
from lit_gan.tiles import pad_to
from metrics_helpers import random_lpips
from tiny import tiny_run


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
        back = module.cycle({"source": pad_to(source, 4)})
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
