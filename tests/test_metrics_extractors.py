"""Extractors: frozen, exact, found and refused with one line that says what to do."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_gan.errors import UserError
from lit_gan.metrics import build_extractor
from lit_gan.metrics.classifier import Classifier, shares
from lit_gan.metrics.extractors import exact_float32
from lit_gan.metrics.weights import KNOWN, find_weights
from metrics_helpers import Images, digits, noise

FILE = KNOWN["inception"].file


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Images, Classifier, Path]:
    folder = tmp_path_factory.mktemp("classifier")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIT_GAN_CACHE", str(folder))
        data = digits()
        extractor = build_extractor("classifier", data=data)
        assert isinstance(extractor, Classifier)
        return data, extractor, folder


def test_an_unknown_extractor_is_told_the_nearest():
    with pytest.raises(UserError, match="did you mean pixels"):
        build_extractor("pixel", data=noise())


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((1, 8, 8), 64), ((3, 32, 32), 768), ((1, 28, 28), 196), ((4, 20, 12), 480), ((2, 1, 1), 2)],
)
def test_pixels_are_pooled_to_at_most_sixteen_a_side(shape: tuple[int, int, int], dim: int):
    extractor = build_extractor("pixels", data=noise(5, shape))

    features, logits = extractor(torch.full((2, *shape), 255, dtype=torch.uint8))

    assert (extractor.dim, tuple(features.shape), logits) == (dim, (2, dim), None)
    assert torch.equal(features, torch.ones(2, dim))


def test_pixels_are_exact_averages():
    images = noise(5, (1, 32, 32)).real_batch([0])["image"]

    features, _ = build_extractor("pixels", data=noise(5, (1, 32, 32)))(images)

    block = images[0, 0, :2, :2].float().mean() / 127.5 - 1
    assert float(features[0, 0]) == pytest.approx(float(block), abs=1e-6)


def test_an_extractor_stays_frozen_in_eval_mode_and_float32(learnt: tuple[Images, Classifier, Path]):
    data, extractor, _ = learnt
    images = data.real_batch([0, 1])["image"]
    expected = extractor(images)[0]

    extractor.train()
    with torch.autocast("cpu", torch.bfloat16), torch.enable_grad():
        features = extractor(images)[0]

    assert torch.equal(features, expected)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert not any(part.training for part in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_exact_float32_restores_tf32():
    torch.backends.cudnn.allow_tf32 = True
    with exact_float32(torch.device("cpu")):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_the_classifier_knows_digits_it_has_not_seen(learnt: tuple[Images, Classifier, Path]):
    data, extractor, _ = learnt
    unseen = extractor.reference

    features, logits = extractor(data.real_batch(unseen.tolist())["image"])

    accuracy = (logits.argmax(1).numpy() == data.labels[unseen]).mean()
    assert accuracy == pytest.approx(extractor.accuracy, abs=1e-3)
    assert accuracy >= 0.95
    assert float(features.double().var(0).mean()) == pytest.approx(1, rel=1e-3)
    assert float(features.min()) >= 0


def test_the_classifier_learns_from_what_the_reference_lacks():
    for size, expected in ((1797, 599), (20_000, 6666), (60_000, 10_000)):
        learnt_from, reference = shares(size)

        assert len(learnt_from) == expected
        assert len(np.union1d(learnt_from, reference)) == size == len(learnt_from) + len(reference)


def test_the_classifier_is_cached_and_learns_the_same_again(
    learnt: tuple[Images, Classifier, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    data, extractor, folder = learnt
    stream, threads = torch.get_rng_state(), torch.get_num_threads()

    again = build_extractor("classifier", data=data)
    assert again.weights_hash == extractor.weights_hash
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.get_num_threads() == threads

    monkeypatch.setattr("lit_gan.metrics.classifier._learn", lambda data: pytest.fail("learns again"))
    monkeypatch.setenv("LIT_GAN_CACHE", str(folder))
    assert build_extractor("classifier", data=data).weights_hash == extractor.weights_hash
    (file,) = folder.glob("extractors/*.npz")
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "elsewhere"))
    assert build_extractor("classifier", data=data, weights=str(file)).weights_hash == extractor.weights_hash
    with pytest.raises(UserError, match=r"metrics.weights_sha256 says 00"):
        build_extractor("classifier", data=data, weights=str(file), weights_sha256="00")


def test_a_classifier_of_other_data_is_refused(learnt: tuple[Images, Classifier, Path]):
    (file,) = learnt[2].glob("extractors/*.npz")

    with pytest.raises(UserError, match="no classifier for these data"):
        build_extractor("classifier", data=noise(), weights=str(file))


@pytest.mark.parametrize("shape", [(3, 20, 12), (4, 8, 8), (1, 64, 48)])
def test_a_classifier_that_learns_little_says_so(
    shape: tuple[int, int, int], caplog: pytest.LogCaptureFixture
):
    data = noise(60, shape)

    extractor = build_extractor("classifier", data=data)

    assert extractor(data.real_batch([0, 1])["image"])[0].shape == (2, 64)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "right on 40 unseen ones; metrics.extractor=inception" in record.getMessage()


@pytest.mark.parametrize(
    "data",
    [
        Images(noise().images, None, 0, "unlabelled"),
        Images(noise(6).images, noise(6).labels, 3, "few"),
        Images(np.zeros((50, 1, 1, 2), np.float32), np.zeros(50, np.int64), 8, "toy"),
    ],
    ids=lambda data: data.fingerprint,
)
def test_the_classifier_refuses_data_that_it_cannot_learn(data: Images):
    with pytest.raises(
        UserError, match=r"use metrics.extractor=inception or metrics.extractor=pixels"
    ) as error:
        build_extractor("classifier", data=data)

    assert "\n" not in str(error.value)


def test_missing_inception_weights_name_the_folder_and_the_remedies(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)

    with pytest.raises(UserError) as error:
        build_extractor("inception", data=noise())

    for part in (
        str(cache / "weights"),
        FILE,
        "metrics.weights=PATH",
        "metrics.extractor=classifier",
        "no network",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert not list((cache / "weights").glob("*.tmp"))


def test_inception_weights_are_looked_for_where_the_docs_say(cache: Path, tmp_path: Path):
    own, hub = cache / "weights" / FILE, tmp_path / "torch" / "hub" / "checkpoints" / FILE
    for path in (own, hub):
        path.parent.mkdir(parents=True)
        path.touch()
        assert find_weights("inception", None) == path
    with pytest.raises(UserError, match=r"metrics.weights=nowhere.pth: no such file"):
        find_weights("inception", "nowhere.pth")


def test_a_download_of_something_else_is_thrown_away(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = tmp_path / "login.html"
    page.write_text("please log in")
    monkeypatch.setitem(KNOWN, "inception", replace(KNOWN["inception"], url=page.as_uri()))

    with pytest.raises(UserError, match="sent something else"):
        find_weights("inception", None)

    assert [path.name for path in (cache / "weights").iterdir() if path.suffix != ".lock"] == []


def test_other_weights_need_their_hash_to_be_named(tmp_path: Path):
    path = tmp_path / "weights.pth"
    torch.save({"fc.bias": torch.zeros(1008)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    with pytest.raises(UserError, match=f"set metrics.weights_sha256={digest}"):
        build_extractor("inception", data=noise(), weights=str(path))
    with pytest.raises(UserError, match="has the sha256"):
        build_extractor("inception", data=noise(), weights=str(path), weights_sha256="6726825d")
    with pytest.raises(UserError, match="does not fit the Inception graph") as error:
        build_extractor("inception", data=noise(), weights=str(path), weights_sha256=digest)
    assert "\n" not in str(error.value)


def test_weights_that_would_run_code_are_refused(tmp_path: Path):
    path = tmp_path / "weights.pth"
    torch.save({"harmless": Path("/")}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    with pytest.raises(UserError, match="is not a file of tensors"):
        build_extractor("inception", data=noise(), weights=str(path), weights_sha256=digest)


def test_inception_refuses_two_channels():
    with pytest.raises(UserError, match="1, 3 or 4 channels"):
        build_extractor("inception", data=noise(5, (2, 8, 8)))


@pytest.mark.slow
def test_inception_equals_torch_fidelitys_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path / "weights.pth"
    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: {}
    )
    with monkeypatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        theirs = FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"])
    torch.save(theirs.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    colour, grey, alpha = (noise(5, (channels, 32, 32)) for channels in (3, 1, 4))
    stream = torch.get_rng_state()

    ours = build_extractor("inception", data=colour, weights=str(path), weights_sha256=digest)

    assert torch.equal(torch.get_rng_state(), stream)
    assert (ours.weights_hash, ours.dim, ours.num_logits) == (digest, 2048, 1008)
    images = colour.real_batch([0, 1])["image"]
    for mine, their in zip(ours(images), theirs(images), strict=True):
        assert torch.equal(mine, their)
    grey_images = grey.real_batch([0, 1])["image"]
    assert torch.equal(ours(grey_images)[0], ours(grey_images.repeat(1, 3, 1, 1))[0])
    clear = alpha.real_batch([0, 1])["image"]
    clear[:, 3] = 255
    assert torch.equal(ours(clear)[0], ours(clear[:, :3])[0])
