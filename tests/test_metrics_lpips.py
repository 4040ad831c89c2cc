"""LPIPS: torchmetrics' numbers for the same weights, found where the docs say, and how much fakes differ by it."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchmetrics.functional.image import lpips as theirs

from lit_gan.cli import main
from lit_gan.errors import UserError
from lit_gan.metrics import LPIPS, LPIPSDiversity, PerceptualNetwork, build_lpips
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.weights import KNOWN, sha256_of
from lit_gan.run import RunFolder
from metrics_helpers import Fake, Images, SquaredDistance, noise, random_lpips
from tiny import state, tiny_run


@pytest.fixture
def alex(tmp_path: Path) -> PerceptualNetwork:
    path = tmp_path / "alex.pth"
    random_lpips(path)
    return build_lpips("alex", weights=str(path), weights_sha256=sha256_of(path))


def bytes_of(count: int, side: int = 32, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.from_numpy(noise(count, (channels, side, side), seed).images).permute(0, 3, 1, 2)


@pytest.mark.parametrize("backbone", ["alex", "vgg"])
def test_lpips_is_that_of_torchmetrics_for_the_same_weights(tmp_path, backbone):
    state = random_lpips(tmp_path / "w.pth", backbone)
    network = build_lpips(
        backbone, weights=str(tmp_path / "w.pth"), weights_sha256=sha256_of(tmp_path / "w.pth")
    )
    first, second = bytes_of(3), bytes_of(3, seed=1)
    kind = {"alex": torchvision.models.alexnet, "vgg": torchvision.models.vgg16}[backbone]
    with torch.device("meta"):
        features: nn.Module = kind().features
    features.load_state_dict({k.removeprefix("features."): v for k, v in state.items()}, assign=True)

    with patch.object(theirs, "_get_tv_model_features", lambda *_: features):
        expected = theirs.learned_perceptual_image_patch_similarity(
            first / 127.5 - 1, second / 127.5 - 1, net_type=backbone, reduction="none"
        )

    found = network(first, second)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert found.min() > 0
    assert len(found.unique()) == 3
    assert network(first, first).abs().max() == 0


def test_grey_is_repeated_rgba_lies_over_black_and_floats_are_as_bytes(alex):
    grey, other = bytes_of(2, channels=1), bytes_of(2, channels=1, seed=1)
    rgb = bytes_of(2)
    opaque = torch.cat([rgb, torch.full_like(grey, 255)], 1)
    clear = torch.cat([rgb, torch.zeros_like(grey)], 1)

    torch.testing.assert_close(
        alex(grey, other), alex(grey.expand(-1, 3, -1, -1), other.expand(-1, 3, -1, -1))
    )
    torch.testing.assert_close(alex(opaque, grey), alex(rgb, grey))
    torch.testing.assert_close(alex(clear, grey), alex(torch.zeros_like(rgb), grey))
    for images in (grey, rgb, opaque, clear):
        torch.testing.assert_close(alex(images / 127.5 - 1, grey), alex(images, grey), rtol=1e-5, atol=1e-7)


def test_the_network_stays_frozen_exact_and_in_eval_mode(alex):
    first, second = bytes_of(1), bytes_of(1, seed=1)
    before = alex(first, second)

    alex.train()
    with torch.autocast("cpu", torch.bfloat16):
        found = alex(first, second)

    assert torch.equal(found, before)
    assert found.dtype == torch.float32
    assert not any(module.training for module in alex.modules())
    assert not any(parameter.requires_grad for parameter in alex.parameters())


def test_building_draws_from_no_global_stream(alex, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    build_lpips("alex", weights=str(tmp_path / "alex.pth"), weights_sha256=alex.weights_hash)

    assert torch.equal(torch.rand(1), expected)


def test_metrics_hold_the_network_outside_their_state(alex):
    for metric in (LPIPS(alex), LPIPSDiversity(alex)):
        metric.update(bytes_of(2), bytes_of(2, seed=1))
        assert not list(metric.parameters())
        assert not metric.state_dict()
        assert float(metric.compute()) == pytest.approx(float(alex(bytes_of(2), bytes_of(2, seed=1)).mean()))


def test_weights_are_looked_for_where_the_others_are_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    path = KNOWN["lpips-alex"].own
    path.parent.mkdir(parents=True)
    random_lpips(path)

    with pytest.raises(
        UserError, match=r"not the standard alexnet.*metrics\.lpips_weights_sha256=[0-9a-f]{64}$"
    ):
        build_lpips("alex")
    assert build_lpips("alex", weights_sha256=sha256_of(path)).weights_hash == sha256_of(path)
    with pytest.raises(UserError, match=r"metrics\.lpips_weights=nowhere\.pth: no such file"):
        build_lpips("alex", weights="nowhere.pth")
    random_lpips(tmp_path / "vgg.pth", "vgg")
    with pytest.raises(UserError, match=r"vgg\.pth does not fit the alex of LPIPS: ") as error:
        build_lpips("alex", weights=str(tmp_path / "vgg.pth"), weights_sha256=sha256_of(tmp_path / "vgg.pth"))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="one of vgg, alex, got 'squeeze'"):
        build_lpips("squeeze")


def test_without_weights_and_network_one_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    code = main(
        [
            "train",
            "data=digits",
            "eval.metrics=[lpips-diversity]",
            "eval.images=8",
            f"run.dir={tmp_path}",
            "trainer.accelerator=cpu",
        ]
    )

    assert code == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("lit-gan")]
    for part in (
        "lpips-vgg",
        "no network",
        "vgg16-397923af.pth",
        "metrics.lpips_weights=PATH",
        str(tmp_path / "weights"),
    ):
        assert part in line


def test_images_that_lpips_cannot_read_are_refused(alex):
    points = Images(np.zeros((9, 1, 1, 2), np.float32), None, 0, "points")
    small, many = noise(9, (3, 16, 16)), noise(9, (5, 32, 32))

    def refused(data: Images) -> str:
        with pytest.raises(UserError) as error:
            evaluate(
                Fake(data.image_shape), data, metrics=["lpips-diversity"], extractor=None, lpips=alex, fakes=8
            )
        return str(error.value)

    assert "'lpips-diversity' compares images in grey levels, the data are of type float32" in refused(points)
    assert "needs images of at least 31 pixels a side, the data have 16" in refused(small)
    assert "reads images of 1, 3 or 4 channels, the data have 5" in refused(many)
    with pytest.raises(ValueError, match=r"LPIPSDiversity needs lpips=build_lpips\(\), got None"):
        evaluate(Fake(), noise(), metrics=["lpips-diversity"], extractor=None, fakes=8)


def test_diversity_is_the_mean_distance_of_neighbouring_fakes_and_its_floor_that_of_reals(alex):
    data, module = noise(30, (1, 32, 32)), Fake((1, 32, 32))
    seen = []
    distance = alex.forward

    def recorded(first: Tensor, second: Tensor) -> Tensor:
        seen.append((first, second))
        return distance(first, second)

    with patch.object(alex, "forward", recorded):
        score = evaluate(
            module, data, metrics=["lpips-diversity"], extractor=None, lpips=alex, fakes=9, batch_size=5
        )["lpips-diversity"]

    reals, fakes = seen[:2], seen[2:]  # the reals in pairs by 4 images, then the fakes
    assert [len(first) for first, _ in reals + fakes] == [2, 2, 2, 2]
    values = torch.cat([distance(*pair) for pair in fakes]).double()
    assert score.value == pytest.approx(float(values.mean()), rel=1e-6)
    assert score.error == pytest.approx(float(values.std() / 2), rel=1e-5)
    assert score.floor == pytest.approx(
        float(torch.cat([distance(*pair) for pair in reals]).mean()), rel=1e-6
    )
    shown = {bytes(image.numpy().tobytes()) for pair in reals for side in pair for image in side}
    assert len(shown) == 8, "no real stands in two pairs"
    assert shown <= {image.tobytes() for image in data.images}
    assert score.floor_images == 9
    protocol = score.protocol
    assert (protocol.extractor, protocol.weights) == ("lpips-alex", alex.weights_hash)
    assert (protocol.settings, protocol.reals, protocol.fakes) == ("4 random pairs", 30, 9)


def test_a_generator_that_varies_less_has_less_diversity():
    data = noise(60, (1, 8, 8))
    wide, narrow = Fake(), Fake()
    narrow.weight.data /= 8
    how = {"metrics": ["lpips-diversity"], "extractor": None, "lpips": SquaredDistance(), "fakes": 40}

    values = [evaluate(module, data, **how)["lpips-diversity"].value for module in (wide, narrow)]

    assert values[1] < values[0] / 4
    assert LPIPSDiversity.higher_is_better


def test_a_run_is_scored_in_training_and_afterwards_and_its_checkpoints_hold_no_network(tmp_path):
    random_lpips(tmp_path / "alex.pth")
    run = tiny_run(
        "stylegan-lite", tmp_path, "run.images=16", "data.image_size=32", "eval.metrics=[ppl,lpips-diversity]",
        "eval.images=6", "metrics.lpips=alex", f"metrics.lpips_weights={tmp_path / 'alex.pth'}",
        f"metrics.lpips_weights_sha256={sha256_of(tmp_path / 'alex.pth')}",
    )  # fmt: skip

    assert main(["eval", str(run), "trainer.accelerator=cpu"]) == 0

    trained, again = RunFolder(run).read_results()["evaluations"]
    for name in ("ppl", "lpips-diversity"):
        assert trained["scores"][name]["protocol"] == again["scores"][name]["protocol"]
        assert trained["scores"][name]["protocol"]["extractor"] == "lpips-alex"
        assert trained["scores"][name]["value"] == pytest.approx(again["scores"][name]["value"], rel=1e-2)
        assert trained["scores"][name]["error"] > 0
    assert trained["scores"]["ppl"]["protocol"]["settings"].startswith("path in w, ")
    assert not [key for key in state(run)["state_dict"] if "lpips" in key or "slice" in key]


def test_the_floor_of_diversity_is_cached(alex, monkeypatch):
    data = noise(20, (1, 32, 32), seed=8)
    how = {"metrics": ["lpips-diversity"], "extractor": None, "lpips": alex, "fakes": 6}
    first = evaluate(Fake((1, 32, 32)), data, **how)["lpips-diversity"]

    monkeypatch.setattr(data, "real_batch", None)

    assert evaluate(Fake((1, 32, 32)), data, **how)["lpips-diversity"].floor == first.floor
