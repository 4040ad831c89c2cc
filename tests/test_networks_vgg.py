"""VGG-19's features as a loss: torchvision's network, kept out of the state, and the stated fallback."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from lit_gan.errors import UserError
from lit_gan.metrics.weights import KNOWN, sha256_of
from lit_gan.networks.vgg import PerceptualFeatures, layer_names, pixels_and_gradients


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(wanted: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("lit_gan.metrics.weights.download", refused)


def random_vgg19(path: Path, layers: int = 7) -> nn.Sequential:
    """The first layers of torchvision's VGG-19 with random weights, written to `path` under torchvision's names."""
    torch.manual_seed(0)
    with torch.device("meta"):
        network = torchvision.models.vgg19(weights=None).features[:layers]
    network = network.to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.1)
    torch.save({f"features.{name}": value for name, value in network.state_dict().items()}, path)
    return network


def images(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_layers_are_named_as_in_the_papers_and_lie_where_torchvision_has_them():
    with torch.device("meta"):
        layers = list(torchvision.models.vgg19(weights=None).features)
    kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}

    assert len(layer_names()) == len(layers)
    assert all(isinstance(layer, kinds[name[:4]]) for name, layer in zip(layer_names(), layers, strict=True))
    assert layer_names().index("conv5_4") == 34  # of VGG19's layers as SRGAN's and ESRGAN's codes count them


def test_features_are_torchvisions_of_the_normalised_image(tmp_path):
    theirs = random_vgg19(tmp_path / "w.pth")
    found = PerceptualFeatures(["conv1_2", "relu1_2", "relu2_1"], str(tmp_path / "w.pth"))
    image = images(1, 2, 3, 20, 28)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    features = found(image)

    seen = ((image + 1) / 2 - mean) / std
    assert torch.allclose(features["conv1_2"], theirs[:3](seen), atol=1e-5)
    assert (features["conv1_2"] < 0).any()  # not overwritten by the layer after it
    assert torch.allclose(features["relu1_2"], theirs[:4](seen), atol=1e-5)
    assert torch.allclose(features["relu2_1"], theirs[:7](seen), atol=1e-5)
    assert f"weights {sha256_of(tmp_path / 'w.pth')}" in found.about


def test_distance_is_weighted_by_layer_and_moves_the_fake_alone(tmp_path):
    random_vgg19(tmp_path / "w.pth")
    found = PerceptualFeatures(["relu1_1", "relu2_1"], str(tmp_path / "w.pth"))
    fake, real = images(1, 2, 3, 16, 16).requires_grad_(), images(2, 2, 3, 16, 16).requires_grad_()

    distance = found.distance(fake, real, [0.25, 2.0], "l2")
    distance.backward()

    a, b = found(fake), found(real)
    by_hand = sum(
        share * (a[name] - b[name]).square().mean() for name, share in (("relu1_1", 0.25), ("relu2_1", 2.0))
    )
    assert torch.allclose(distance, by_hand)
    assert fake.grad is not None
    assert real.grad is None
    assert found.distance(real, real) == 0


def test_its_holder_has_no_part_of_it_in_its_state(tmp_path):
    random_vgg19(tmp_path / "w.pth")
    holder = nn.Module()
    holder.perceptual = PerceptualFeatures(["relu1_1"], str(tmp_path / "w.pth"))
    network = holder.perceptual.network

    holder.train()

    assert not holder.state_dict()
    assert not list(holder.parameters())
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(part.training for part in network.modules())


def test_grey_is_repeated_and_alpha_lays_over_black(tmp_path):
    random_vgg19(tmp_path / "w.pth")
    found = PerceptualFeatures(["relu1_1"], str(tmp_path / "w.pth"))
    grey, colour = images(1, 1, 1, 8, 8), images(2, 1, 3, 8, 8)
    opaque, clear = (torch.cat([colour, torch.full((1, 1, 8, 8), a)], 1) for a in (1.0, -1.0))

    def features(image: Tensor) -> Tensor:
        return found(image)["relu1_1"]

    assert torch.equal(features(grey), features(grey.repeat(1, 3, 1, 1)))
    assert torch.allclose(features(opaque), features(colour), atol=1e-5)
    assert torch.allclose(features(clear), features(torch.full_like(colour, -1)), atol=1e-5)


def test_where_there_are_no_weights_pixels_and_gradients_are_compared_and_it_says_so(offline, capsys):
    found = PerceptualFeatures(["relu1_1"])
    fake, real = images(1, 2, 3, 5, 7).double(), images(2, 2, 3, 5, 7).double()

    distance = found.distance(fake, real)

    error = fake - real
    rows, columns = error[:, :, 1:] - error[:, :, :-1], error[:, :, :, 1:] - error[:, :, :, :-1]
    by_hand = error.abs().mean() + rows.abs().mean() + columns.abs().mean()
    assert distance.item() == pytest.approx(by_hand.item(), rel=1e-5)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "L1 of pixels and of their gradients" in said
    assert "L1 of pixels and of their gradients" in found.about
    with pytest.raises(ValueError, match="no features without VGG-19"):
        found(fake)


def test_none_and_other_channels_do_without(tmp_path, capsys):
    random_vgg19(tmp_path / "w.pth")

    assert PerceptualFeatures(["relu1_1"], "none").network is None
    assert not capsys.readouterr().err  # asked for
    five = PerceptualFeatures(["relu1_1"], str(tmp_path / "w.pth"), channels=5)
    assert five.network is None
    assert "the images have 5" in five.about


def test_nothing_is_read_before_it_is_needed(monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("lit_gan.metrics.weights.find_weights", never)

    PerceptualFeatures(["relu5_1"])


def test_wrong_files_layers_and_sizes_are_answered_in_a_line(tmp_path, offline):
    random_vgg19(tmp_path / "w.pth", 5)
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")

    with pytest.raises(UserError, match="no layer conv1_3: it has conv1_1"):
        PerceptualFeatures(["conv1_3"])
    with pytest.raises(UserError, match=r"model\.vgg=nowhere: no such file"):
        _ = PerceptualFeatures(["relu1_1"], "nowhere").network
    with pytest.raises(UserError, match=r"other\.pth does not fit torchvision's VGG-19"):
        _ = PerceptualFeatures(["relu1_1"], str(tmp_path / "other.pth")).network
    with pytest.raises(UserError, match="pool1 of VGG-19 needs images of at least 2 pixels"):
        PerceptualFeatures(["pool1"], str(tmp_path / "w.pth"))(torch.zeros(1, 3, 1, 9))
    own = KNOWN["vgg19"].own
    own.parent.mkdir(parents=True)
    own.write_bytes((tmp_path / "w.pth").read_bytes())
    with pytest.raises(UserError, match="is not the standard"):
        _ = PerceptualFeatures(["relu1_1"]).network


def test_a_shift_of_all_pixels_has_no_gradient():
    image = images(1, 1, 2, 4, 4)

    assert pixels_and_gradients(image, image) == 0
    assert pixels_and_gradients(image + 0.5, image).item() == pytest.approx(0.5)
