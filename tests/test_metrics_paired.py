"""Scores of pairs: right by definition, and right about which real belongs to which fake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from lit_gan.cli import main
from lit_gan.data.folder import Folder
from lit_gan.errors import UserError
from lit_gan.metrics import MSSSIM, PSNR, PSNRY, SSIM, SSIMY
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.gallery import PairedGallery
from lit_gan.metrics.paired import SCALES
from lit_gan.metrics.pairs import matched
from lit_gan.metrics.weights import sha256_of
from lit_gan.run import RunFolder
from metrics_helpers import Fake, noise, random_lpips


def pictures(count: int, side: int = 48, seed: int = 0, channels: int = 3) -> Tensor:
    """Smooth uint8 images [N, C, side, side]."""
    coarse = torch.rand(count, channels, 6, 6, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 255).to(torch.uint8)


def noisy(images: Tensor, sigma: float, seed: int = 1) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + sigma * noise).round().clamp(0, 255).to(torch.uint8)


def written_out(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """SSIM and contrast x structure of two planes, window by window."""
    at = np.arange(11) - 5
    line = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    whole, structure = [], []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            structure.append((2 * cov + 58.5225) / (va + vb + 58.5225))
            whole.append(structure[-1] * (2 * ma * mb + 6.5025) / (ma**2 + mb**2 + 6.5025))
    return float(np.mean(whole)), float(np.mean(structure))


def test_psnr_is_the_mean_of_the_images_own():
    real = pictures(4)
    fake = torch.cat([noisy(real[:2], 5), noisy(real[2:], 40)])
    metric = PSNR()
    metric.update(fake[:1], real[:1])
    metric.update(fake[1:], real[1:])
    metric.update(fake[:0], real[:0])
    each = peak_signal_noise_ratio(
        fake.double(), real.double(), data_range=255.0, dim=(1, 2, 3), reduction="none"
    )

    assert float(metric.compute()) == pytest.approx(float(each.mean()), rel=1e-6)
    metric.errors = True
    assert metric.values()["error"] == pytest.approx(float(each.std() / 2), rel=1e-6)
    one = PSNR()
    one.update(real, (real.int() ^ 1).to(torch.uint8))  # every pixel off by one
    assert float(one.compute()) == pytest.approx(20 * np.log10(255))


def test_equal_images_have_the_psnr_of_rounding():
    real = pictures(2)
    metric = PSNR()
    metric.update(real, real)
    almost = real.clone()
    almost[0, 0, 0, 0] ^= 1
    nearly = PSNR()
    nearly.update(almost, real)

    assert float(metric.compute()) == pytest.approx(58.92, abs=0.01)
    assert float(nearly.compute()) == float(metric.compute()), "never above equal images"
    assert "at most 58.9 dB" in metric.described(2)


def test_ssim_is_its_definition_and_torchmetrics_inside_the_border():
    real = pictures(2, 20)
    fake = noisy(real, 30)
    metric = SSIM()
    metric.update(fake, real)
    planes = [
        written_out(fake[i, c].double().numpy(), real[i, c].double().numpy())
        for i in range(2)
        for c in range(3)
    ]
    _, full = structural_similarity_index_measure(
        fake.double(), real.double(), data_range=255.0, return_full_image=True
    )

    assert float(metric.compute()) == pytest.approx(np.mean([whole for whole, _ in planes]), rel=1e-9)
    assert float(metric.compute()) == pytest.approx(float(full[..., 5:-5, 5:-5].mean()), rel=1e-9)
    same = SSIM()
    same.update(real, real)
    assert float(same.compute()) == pytest.approx(1)


def test_ms_ssim_is_the_product_over_its_scales():
    real = pictures(1, 176, channels=1)
    fake = noisy(real, 30)
    metric = MSSSIM()
    metric.update(fake, real)
    x, y = fake[0, 0].double().numpy(), real[0, 0].double().numpy()
    product = 1.0
    for scale, weight in enumerate(SCALES):
        whole, structure = written_out(x, y) if scale > 1 else _fast(x, y)
        product *= (whole if scale == 4 else structure) ** weight
        x, y = (
            plane.reshape(len(plane) // 2, 2, -1, 2).mean((1, 3)) if scale < 4 else plane for plane in (x, y)
        )

    assert float(metric.compute()) == pytest.approx(product, rel=1e-9)
    inverse = MSSSIM()
    inverse.update(255 - real, real)
    assert float(inverse.compute()) == 0, "no power of a negative number"


def test_luminance_scores_are_those_of_bt601_inside_the_border():
    real = pictures(2, 22)
    fake = noisy(real, 20)
    weights = np.array([65.481, 128.553, 24.966]) / 255
    y = [
        16 + np.einsum("bchw,c->bhw", side.double().numpy(), weights)[:, 4:-4, 4:-4] for side in (fake, real)
    ]
    expected = np.mean([10 * np.log10(255**2 / np.mean((a - b) ** 2)) for a, b in zip(*y, strict=True)])

    psnr, ssim = PSNRY(border=4), SSIMY(border=4)
    for metric in (psnr, ssim):
        spoilt = fake.clone()
        spoilt[..., :4, :] = 0
        spoilt[..., :, -4:] = 255
        metric.update(spoilt, real)

    assert float(psnr.compute()) == pytest.approx(expected, rel=1e-9)
    assert float(ssim.compute()) == pytest.approx(
        np.mean([written_out(a, b)[0] for a, b in zip(*y, strict=True)]), rel=1e-9
    )
    assert psnr.described(2).startswith("Y of BT.601, border 4, mean of images")
    white, black = (
        torch.full((1, 3, 4, 4), 255, dtype=torch.uint8),
        torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
    )
    whole = PSNRY()
    whole.update(white, black)
    assert float(whole.compute()) == pytest.approx(20 * np.log10(255 / 219))


def test_luminance_of_grey_images_is_the_image_and_a_border_must_leave_something():
    real = pictures(2, 12, channels=1)
    fake = noisy(real, 20)
    grey, plain = PSNRY(), PSNR()
    for metric in (grey, plain):
        metric.update(fake, real)

    assert float(grey.compute()) == float(plain.compute())
    with pytest.raises(ValueError, match="no 11 pixels are left"):
        SSIMY(border=1).update(fake, real)
    small = noise(4, (3, 16, 16))
    small.border = 3
    with pytest.raises(
        UserError, match=r"'ssim-y' needs images of at least 17 pixels .* have 16: .*border=0"
    ):
        evaluate(PairedGallery(small, np.arange(4)), small, metrics=["ssim-y"], extractor=None, fakes=4)


def _fast(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """As `written_out`, for large planes: moments of all windows at once."""
    at = np.arange(11) - 5
    line = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    a, b = (np.lib.stride_tricks.sliding_window_view(plane, (11, 11)) for plane in (x, y))
    ma, mb = np.einsum("ijkl,kl->ij", a, window), np.einsum("ijkl,kl->ij", b, window)
    va, vb = np.einsum("ijkl,kl->ij", a**2, window) - ma**2, np.einsum("ijkl,kl->ij", b**2, window) - mb**2
    cov = np.einsum("ijkl,kl->ij", a * b, window) - ma * mb
    structure = (2 * cov + 58.5225) / (va + vb + 58.5225)
    return float((structure * (2 * ma * mb + 6.5025) / (ma**2 + mb**2 + 6.5025)).mean()), float(
        structure.mean()
    )


@pytest.mark.parametrize("kind", [PSNR, SSIM, MSSSIM, PSNRY, SSIMY])
def test_floats_in_their_range_are_measured_as_the_grey_levels_that_they_stand_for(kind):
    real = pictures(2, 176)
    fake = noisy(real, 10)
    bytes_, floats = kind(), kind()

    bytes_.update(fake, real)
    floats.update(fake.double() / 127.5 - 1, real.double() / 127.5 - 1)

    assert float(floats.compute()) == pytest.approx(float(bytes_.compute()), rel=1e-12)


@pytest.mark.parametrize("kind", [PSNR, SSIM, MSSSIM])
def test_more_noise_is_worse_and_other_input_is_refused(kind):
    real = pictures(2, 176)
    values = []
    for sigma in (3, 10, 40):
        metric = kind()
        metric.update(noisy(real, sigma), real)
        values.append(float(metric.compute()))

    assert values == sorted(values, reverse=True)
    assert kind.higher_is_better
    with pytest.raises(ValueError, match="must be uint8"):
        kind().update(real.int(), real.int())
    with pytest.raises(ValueError, match="must be uint8"):
        kind().update(real.float() / 127.5 - 1, real)
    with pytest.raises(ValueError, match="alike"):
        kind().update(real, real[:1])
    with (
        pytest.warns(UserWarning, match="before the ``update``"),
        pytest.raises(ValueError, match="needs a sample"),
    ):
        kind().compute()


def write(folder: Path, images: Tensor, names: list[str]) -> Path:
    for image, name in zip(images, names, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return folder


def folder(path: Path, **settings: object) -> Folder:
    data = Folder(path=str(path), image_size=None, **settings)
    data.prepare()
    return data


def test_pairs_are_found_by_name_whatever_the_order_depth_and_ending(tmp_path):
    real = pictures(6)
    names = [f"{letter}{'/x' * (letter > 'c')}.png" for letter in "abcdef"]
    write(tmp_path / "real", real, names)
    write(tmp_path / "fake" / "run 7", real, [name.replace(".png", ".webp") for name in names])
    lossy, targets = folder(tmp_path / "fake"), folder(tmp_path / "real")
    gallery = PairedGallery(lossy, matched(lossy, targets), 4, seed=1)

    shown = gallery.generate({"index": torch.arange(4)}) * 127.5 + 127.5
    theirs = targets.real_batch(gallery.partners([0, 1, 2, 3]))["image"].float()

    assert (
        (shown - theirs).abs().mean((1, 2, 3)).max()
        < 20
        < (shown - theirs.roll(1, 0)).abs().mean((1, 2, 3)).min()
    )
    assert [Path(name).stem for name in lossy.names] == [Path(name).stem for name in targets.names]


def test_images_that_do_not_decode_shift_no_pair(tmp_path):
    real = pictures(8)
    names = [f"{i}.png" for i in range(8)]
    for side in ("real", "fake"):
        write(tmp_path / side, real, names)
        (tmp_path / side / "3.png").write_bytes(b"broken")
    fakes, targets = (folder(tmp_path / side, max_bad_share=0.5) for side in ("fake", "real"))

    assert fakes.names == [name for name in names if name != "3.png"]
    assert matched(fakes, targets).tolist() == list(range(7))
    assert evaluate(
        PairedGallery(fakes, matched(fakes, targets)), targets, metrics=["psnr"], extractor=None, fakes=7
    )["psnr"].value == pytest.approx(58.92, abs=0.01)
    write(tmp_path / "fake", real[3:4], ["3.png"])
    with pytest.raises(
        UserError, match=r"real lacks 3 \(1 images do not decode, such as 3\.png: .*same images"
    ):
        matched(folder(tmp_path / "fake", max_bad_share=0.5), targets)


def test_sets_that_do_not_pair_up_are_told_by_name(tmp_path):
    write(tmp_path / "real", pictures(6), [f"{i}.png" for i in range(6)])
    write(tmp_path / "fake", pictures(3), ["0.png", "7.png", "8.png"])
    write(tmp_path / "twice", pictures(2), ["0.png", "0.jpg"])
    real, fake = folder(tmp_path / "real"), folder(tmp_path / "fake")

    with pytest.raises(UserError, match=r"fake lacks 1, 2, 3, 4, 5; \S*real lacks 7, 8: give both"):
        matched(fake, real)
    with pytest.raises(UserError, match=r"twice has 0 more than once"):
        matched(folder(tmp_path / "twice"), real)
    nameless = noise(6)
    nameless.names, nameless.source_name = None, "noise"
    with pytest.raises(UserError, match="noise has none: use folders"):
        matched(nameless, real)


def test_a_generator_of_noise_has_no_pairs_and_small_images_no_ms_ssim():
    with pytest.raises(
        UserError, match=r"'psnr' compares each fake with the real.*eval FOLDER --against FOLDER"
    ):
        evaluate(Fake(), noise(), metrics=["psnr"], extractor=None, fakes=8)
    small = noise(8, (1, 160, 164))
    with pytest.raises(
        UserError, match="'ms-ssim' needs images of at least 176 pixels a side, the data have 160"
    ):
        evaluate(PairedGallery(small, np.arange(8)), small, metrics=["ms-ssim"], extractor=None, fakes=8)


def test_eval_scores_outputs_against_targets_at_their_own_size(tmp_path, capsys, monkeypatch):
    real = pictures(5, 176)
    fake = noisy(real, 12)
    write(tmp_path / "targets", real, [f"{i}.png" for i in range(5)])
    write(tmp_path / "outputs", fake, [f"{i}.png" for i in range(5)])
    random_lpips(tmp_path / "alex.pth")
    monkeypatch.chdir(tmp_path)
    command = ["eval", "outputs", "--against", "targets", "metrics.extractor=pixels", "metrics.lpips=alex",
               "metrics.lpips_weights=alex.pth", f"metrics.lpips_weights_sha256={sha256_of(Path('alex.pth'))}",
               "eval.batch_size=2"]  # fmt: skip

    assert main([*command, "--metrics", "psnr,ssim,ms-ssim,lpips,fid"]) == 0
    (made,) = RunFolder(tmp_path / "runs" / "eval-outputs-1").read_results()["evaluations"]
    scores = made["scores"]
    for name, kind in (("psnr", PSNR), ("ssim", SSIM), ("ms-ssim", MSSSIM)):
        metric = kind()
        metric.update(fake, real)
        metric.errors = True
        assert scores[name]["value"] == pytest.approx(float(metric.compute()), rel=1e-9)
        assert scores[name]["error"] == pytest.approx(metric.values()["error"], rel=1e-6)
        assert scores[name]["floor"] is None
        assert scores[name]["protocol"]["reference"] == "the real of each fake"
        assert scores[name]["protocol"]["extractor"] == "none"
    assert scores["lpips"]["protocol"]["extractor"] == "lpips-alex"
    assert scores["lpips"]["protocol"]["weights"] == sha256_of(Path("alex.pth"))
    assert scores["fid"]["protocol"]["extractor"] == "pixels"
    assert "ms-ssim" in capsys.readouterr().out

    (tmp_path / "outputs" / "4.png").rename(tmp_path / "outputs" / "5.png")
    assert main([*command, "--metrics", "psnr"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "outputs lacks 4; targets lacks 5" in line


def test_the_border_of_a_folder_is_said_and_in_the_protocol(tmp_path, monkeypatch):
    real = pictures(3, 24)
    write(tmp_path / "a", real, ["0.png", "1.png", "2.png"])
    write(tmp_path / "b", noisy(real, 20), ["0.png", "1.png", "2.png"])
    monkeypatch.chdir(tmp_path)

    assert main(["eval", "b", "--against", "a", "--metrics", "psnr-y,ssim-y", "metrics.border=4"]) == 0

    (made,) = RunFolder(tmp_path / "runs" / "eval-b-1").read_results()["evaluations"]
    metric = PSNRY(border=4)
    metric.update(noisy(real, 20), real)
    assert made["scores"]["psnr-y"]["value"] == pytest.approx(float(metric.compute()), rel=1e-9)
    assert "border 4" in made["scores"]["ssim-y"]["protocol"]["settings"]


def test_scores_without_features_need_no_extractor(tmp_path, monkeypatch):
    write(tmp_path / "a", pictures(3), ["0.png", "1.png", "2.png"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("urllib.request.urlopen", None)

    assert (
        main(["eval", "a", "--against", "a", "--metrics", "psnr,ssim"]) == 0
    )  # inception, were it asked for
