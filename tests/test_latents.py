"""Training on latents: encoding, batches, decoding, and that the scores stay those of the images."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lit_gan
from lit_gan import encode as encoding
from lit_gan.augment.ada import ADA
from lit_gan.augment.diffaugment import DiffAugment
from lit_gan.autoencoder import Autoencoder, Decoder, Scaling
from lit_gan.cli import main
from lit_gan.config import compose
from lit_gan.data import build_data
from lit_gan.data.latents import BOUNDED_SCALE
from lit_gan.encode import encode_data
from lit_gan.errors import UserError
from lit_gan.metrics import build_extractor
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.gallery import Gallery
from lit_gan.metrics.path_length import walk
from lit_gan.sampling import inference, sampling_batch
from lit_gan.train import assemble
from tiny import TRAINED, largest_difference, state

SIDE, COUNT = 64, 24
COMMON = [
    "data=latents", "data.batch_size=8", "logger=csv", "trainer.accelerator=cpu", "trainer.precision=32",
    "trainer.progress=false", "logger.every=3", "checkpoint.every_minutes=null", "metrics.extractor=pixels",
    "samples.rows=2", "samples.columns=2",
]  # fmt: skip
RUN = [
    "arch=gat", "model.width=16", "model.heads=2", "model.depth=4", "model.patch=4", "model.label_dim=8",
    "model.conditional=true", *COMMON,
]  # fmt: skip


def make_autoencoder(folder: Path, seed: int) -> Path:
    """A random AutoencoderKL: 4 channels, eight times down."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(seed)
    diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        latent_channels=4,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def world(cache, tmp_path_factory) -> Path:
    """`images/` of two classes, the autoencoders `ae` and `other`, and `latents/` with mirrored ones and deviations."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("latents")
    make_autoencoder(root / "ae", 0)
    make_autoencoder(root / "other", 1)
    noise = np.random.default_rng(0)
    for i in range(COUNT):
        place = root / "images" / "ab"[i % 2] / f"{i:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(noise.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(place)
    encoded(root, "latents", "data.flip=true", posterior=True)
    return root


def section(root: Path, *more: str) -> list[str]:
    return [
        "data=folder", f"data.path={root / 'images'}", f"data.image_size={SIDE}", "trainer.accelerator=cpu", *more
    ]  # fmt: skip


def encoded(root: Path, name: str, *more: str, ae: str = "ae", **options) -> list[str]:
    return list(encode_data(compose(section(root, *more)), str(root / ae), out=str(root / name), **options))


def record(folder: Path) -> dict:
    return json.loads((folder / "latents.json").read_text())


def source(folder: Path, **keywords):
    data = build_data("latents", path=str(folder), batch_size=8, **keywords)
    data.configure(seed=3)
    return data


def images(root: Path) -> torch.Tensor:
    """All images [N, 3, H, W] in [-1, 1]."""
    data = build_data("folder", path=str(root / "images"), image_size=SIDE)
    data.prepare()
    return data.real_batch(range(COUNT))["image"].float() / 127.5 - 1


def run(root: Path, out: Path, *more: str) -> Path:
    given = [*RUN, f"data.path={root / 'latents'}", f"run.dir={out}", "run.name=run", "data.flip=true", *more]
    assert main(["train", *given]) == 0
    return out / "run"


def test_scaling_is_inverted_exactly_and_has_the_moments_that_it_says():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(64, 2, 8, 8, generator=generator) * 3 + torch.tensor([5.0, -1.0]).view(1, 2, 1, 1)
    rows = latents.permute(0, 2, 3, 1).half().numpy()

    found = encoding.statistics(rows, None)
    scaling = Scaling(found["mean"], found["deviation"], 4.0)

    exact = torch.from_numpy(rows).double().flatten(0, 2)
    assert torch.allclose(torch.tensor(found["mean"]).double(), exact.mean(0), atol=1e-6)
    assert torch.allclose(torch.tensor(found["deviation"]).double(), exact.std(0, correction=0), rtol=1e-6)
    scaled = scaling.scaled(torch.from_numpy(rows).permute(0, 3, 1, 2))
    assert scaled.mean((0, 2, 3)).abs().max() < 1e-5
    assert torch.allclose(scaled.std((0, 2, 3), correction=0), torch.tensor(0.25), rtol=1e-4)
    assert torch.allclose(
        scaling.restored(scaled).permute(0, 2, 3, 1), torch.from_numpy(rows).float(), atol=1e-5
    )
    assert found["largest"] == pytest.approx(float(scaled.abs().max()) * 4, rel=1e-4)
    assert found["beyond"]["3"] == pytest.approx(float((scaled.abs() > 0.75).float().mean()), abs=1e-4)


def test_variances_of_the_posterior_add_to_those_of_its_means():
    means, deviations = np.zeros((4, 2, 2, 1), np.float16), np.full((4, 2, 2, 1), 3, np.float16)
    means[:2] = 4
    means[2:] = -4

    assert encoding.statistics(means, deviations)["deviation"] == [5.0]
    assert encoding.statistics(means, None)["deviation"] == [4.0]


def test_constant_channel_keeps_its_scale():
    assert encoding.statistics(np.ones((4, 2, 2, 1), np.float16), None)["deviation"] == [1.0]


def test_latents_are_the_encoders_and_mirrored_ones_those_of_mirrored_images(world):
    mean, deviation = Autoencoder(str(world / "ae")).encode(images(world))
    mirrored, _ = Autoencoder(str(world / "ae")).encode(images(world).flip(-1))
    stored = torch.from_numpy(np.load(world / "latents" / "latents.npy").astype(np.float32))
    spread = torch.from_numpy(np.load(world / "latents" / "deviations.npy").astype(np.float32))

    expected = torch.cat([mean, mirrored]).permute(0, 2, 3, 1)
    assert stored.shape == (2 * COUNT, 8, 8, 4)
    assert torch.allclose(stored, expected, rtol=2**-10, atol=1e-5)
    assert torch.allclose(spread[:COUNT], deviation.permute(0, 2, 3, 1), rtol=2**-10, atol=1e-5)
    assert (mirrored - mean.flip(-1)).abs().max() > 0.01, (
        "a mirrored latent is no latent of the mirrored image"
    )


def test_record_names_the_autoencoder_the_images_and_what_there_is(world):
    found = record(world / "latents")

    assert found["autoencoder"] == str((world / "ae").resolve())
    assert found["sha256"] == Autoencoder(str(world / "ae")).sha256
    assert found["sha256"] != Autoencoder(str(world / "other")).sha256
    assert (found["kind"], found["count"], found["flip"], found["posterior"]) == (
        "AutoencoderKL",
        COUNT,
        True,
        True,
    )
    assert (found["latent_shape"], found["image_shape"]) == ([4, 8, 8], [3, SIDE, SIDE])
    assert found["data"]["path"] == str((world / "images").resolve())
    assert not list(world.glob("latents.*")), "neither a partial folder nor a lock stays"


def test_two_encodings_have_one_key_and_others_another(world):
    encoded(world, "again", "data.flip=true", "data.batch_size=4", posterior=True)
    encoded(world, "plain")

    assert record(world / "again")["key"] == record(world / "latents")["key"]
    assert (world / "again/latents.npy").read_bytes() == (world / "latents/latents.npy").read_bytes()
    assert record(world / "plain")["key"] != record(world / "latents")["key"]
    assert "already" in encoded(world, "plain")[0]
    for name, ae in (("plain", "other"), ("images", "ae")):
        with pytest.raises(UserError, match="holds something else"):
            encoded(world, name, ae=ae)
    (world / "empty").mkdir()
    encoded(world, "empty")
    assert record(world / "empty")["key"] == record(world / "plain")["key"]


def test_killed_encoding_is_not_there_and_goes_on_where_it_was(world, monkeypatch):
    encode, seen = Autoencoder.encode, []

    def dies(self, batch):
        seen.append(len(batch))
        if sum(seen[1:]) > 12:  # the first call finds the shape
            raise KeyboardInterrupt
        return encode(self, batch)

    monkeypatch.setattr(encoding, "FLUSH_SECONDS", 0)
    monkeypatch.setattr(Autoencoder, "encode", dies)
    with pytest.raises(KeyboardInterrupt):
        encoded(world, "killed", batch_size=4)
    assert not (world / "killed").exists()
    with pytest.raises(UserError, match="not finished"):
        source(world / "killed")

    def counts(self, batch):
        seen.append(len(batch))
        return encode(self, batch)

    seen.clear()
    monkeypatch.setattr(Autoencoder, "encode", counts)
    encoded(world, "killed", batch_size=4)
    encoded(world, "whole", batch_size=4)

    assert sum(seen[1:4]) == 12, "the half that was there is not made again"
    assert (world / "killed/latents.npy").read_bytes() == (world / "whole/latents.npy").read_bytes()
    assert record(world / "killed") == record(world / "whole")


def test_batches_are_latents_of_the_images_and_flips_that_the_order_says(world):
    encoded(world, "mirrored", "data.flip=true")
    data = source(world / "mirrored", flip=True)
    stored = torch.from_numpy(np.load(world / "mirrored" / "latents.npy")).permute(0, 3, 1, 2)
    gatherer = data.train_dataloader().dataset
    positions = np.arange(40)
    indices, flips = gatherer.order(positions)
    assert 0 < flips.sum() < 40

    batch = data.on_after_batch_transfer(pickle.loads(pickle.dumps(gatherer)).__getitems__(positions))

    expected = data.scaling.scaled(stored[torch.from_numpy(indices + COUNT * flips)])
    assert torch.equal(batch["image"], expected)
    assert torch.equal(batch["label"], torch.from_numpy(data.labels[indices]))
    assert set(batch) == {"image", "label"}
    assert data.train_shape == (4, 8, 8)
    assert data.image_shape == (3, SIDE, SIDE)


def test_labels_that_are_vectors_are_those_of_the_images(world, tmp_path):
    shutil.copytree(world / "images", tmp_path / "images")
    rows = [f"{'ab'[i % 2]}/{i:02d}.png,{i},{i * i}" for i in range(COUNT)]
    (tmp_path / "images/labels.csv").write_text("\n".join(["file,one,square", *rows]))
    plain = build_data(
        "folder", path=str(tmp_path / "images"), image_size=SIDE, condition="continuous", batch_size=8
    )
    plain.configure(seed=3)
    given = compose(section(tmp_path, "data.condition=continuous"))
    list(encode_data(given, str(world / "ae"), out=str(tmp_path / "latents")))

    data = source(tmp_path / "latents")

    one, other = (d.train_dataloader().dataset.__getitems__(np.arange(8))["label"] for d in (data, plain))
    assert torch.equal(one, other)
    assert largest_difference(data.conditions.record(), plain.conditions.record()) == 0


def test_draws_from_the_posterior_have_its_moments_and_depend_on_seed_and_place_alone(world):
    data = source(world / "latents")
    gatherer = data.train_dataloader().dataset
    assert torch.equal(
        gatherer.__getitems__(np.arange(8))["image"], gatherer.__getitems__(np.arange(8))["image"]
    )

    draws, means, deviations = [], [], []
    for start in range(0, 8 * 300, 8):
        positions = np.arange(start, start + 8)
        rows = gatherer.order(positions)[0]
        draws.append(gatherer.__getitems__(positions)["image"])
        means.append(torch.from_numpy(data.means[rows]).float().permute(0, 3, 1, 2))
        deviations.append(torch.from_numpy(data.deviations[rows]).float().permute(0, 3, 1, 2))
    z = (torch.cat(draws) - torch.cat(means)) / torch.cat(deviations)

    assert abs(float(z.mean())) < 0.01
    assert float(z.std()) == pytest.approx(1, abs=0.01)
    assert abs(float((z[:8] * z[8:16]).mean())) < 0.1, "batches draw their own"


def test_scores_are_against_the_images_themselves(world):
    plain = build_data("folder", path=str(world / "images"), image_size=SIDE)
    plain.prepare()
    latents = source(world / "latents")
    settings = {"metrics": ["kid", "fid"], "extractor": build_extractor("pixels", data=plain), "fakes": 12}

    one, other = (evaluate(Gallery(plain), data, **settings) for data in (plain, latents))

    assert {name: (s.value, s.floor, s.protocol) for name, s in one.items()} == {
        name: (s.value, s.floor, s.protocol) for name, s in other.items()
    }
    assert torch.equal(latents.real_batch([3])["image"], plain.real_batch([3])["image"])


def test_reconstructions_are_scored_beside_the_images_that_they_are_of(world, tmp_path, capsys):
    network, real = Autoencoder(str(world / "ae")), images(world)
    stored = torch.from_numpy(np.load(world / "latents" / "latents.npy")[:COUNT]).permute(0, 3, 1, 2)
    levels = [((x + 1) * 127.5).round().clamp(0, 255) for x in (network.decode(stored), real)]
    expected = (10 * torch.log10(255**2 / (levels[0] - levels[1]).square().mean((1, 2, 3)))).mean()

    assert main(["eval", str(world / "latents"), "--metrics", "psnr,kid", "metrics.extractor=pixels",
                 "trainer.accelerator=cpu", f"run.dir={tmp_path}"]) == 0  # fmt: skip

    scores = json.loads(next(tmp_path.rglob("results.json")).read_text())["evaluations"][0]["scores"]
    assert scores["psnr"]["value"] == pytest.approx(float(expected), abs=1e-3)
    assert scores["kid"]["protocol"]["fakes"] == COUNT
    shutil.copytree(world / "images", tmp_path / "images")
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "images/a/00.png")
    against = ["eval", str(world / "latents"), "--against", str(tmp_path / "images"), "trainer.accelerator=cpu",
               "metrics.extractor=pixels", f"run.dir={tmp_path}", f"data.image_size={SIDE}"]  # fmt: skip
    assert main([*against, "--metrics", "psnr"]) == 2
    assert "are pairs with the images that they were made of" in capsys.readouterr().err
    assert main([*against, "--metrics", "kid"]) == 0
    assert main(["eval", str(world / "latents"), "--against", "digits", "--metrics", "kid"]) == 2
    assert "gives images (3, 64, 64)" in capsys.readouterr().err


def test_run_on_latents_shows_and_scores_images_and_resumes_exactly(world, tmp_path):
    whole = run(world, tmp_path / "a", "run.images=48", "eval.metrics=[kid]", "eval.images=16")
    half = run(world, tmp_path / "b", "run.images=24", "eval.metrics=[kid]", "eval.images=16")
    assert main(["train", f"resume={half}", "run.images=48"]) == 0

    a, b = state(whole), state(half)
    assert largest_difference({k: a[k] for k in TRAINED}, {k: b[k] for k in TRAINED}) == 0
    assert a["lit_gan"]["latents"]["sha256"] == record(world / "latents")["sha256"]
    assert not any("decoder" in name for name in a["state_dict"])
    with Image.open(sorted((whole / "samples").glob("kimg*.png"))[-1]) as sheet:
        assert (sheet.mode, sheet.size) == ("RGB", (2 * SIDE + 6, 2 * SIDE + 6))

    sampler = lit_gan.load(whole)
    made = sampler.sample(4, label=1)
    with inference(sampler.module):
        latents = sampler.module.generate(sampling_batch(sampler.module, 0, range(4), 2, label=1))
    assert made.shape == (4, 3, SIDE, SIDE)
    assert latents.shape == (4, 4, 8, 8)
    about = record(world / "latents")
    column = [torch.tensor(about[key]).view(1, 4, 1, 1) for key in ("deviation", "mean")]
    by_hand = Autoencoder(str(world / "ae")).decode(latents * column[0] + column[1])
    assert torch.allclose(made, by_hand, atol=1e-4)


def test_gat_does_not_clip_latents_and_other_archs_see_a_quarter_of_them(world):
    base = [f"data.path={world / 'latents'}", "data=latents", "eval.metrics=[]", "trainer.accelerator=cpu"]
    data, gat, _ = assemble(compose([*RUN, *base]))
    with torch.no_grad():
        for part in gat.sampler.parameters():
            part.mul_(4)
    with inference(gat):
        made = gat.generate(sampling_batch(gat, 0, range(8), 2))
    assert made.abs().max() > 1
    assert (data.scaling.scale, gat.decoder.scaling.scale) == (1, 1)

    data, dcgan, _ = assemble(compose(["arch=dcgan", "model.width=4", "data.batch_size=8", *base]))
    assert (data.scaling.scale, dcgan.decoder.scaling.scale) == (BOUNDED_SCALE, BOUNDED_SCALE)
    raw = torch.full((1, 4, 2, 2), 1e4)
    seen = data.on_after_batch_transfer({"image": torch.cat([raw, torch.zeros_like(raw)])})["image"]
    assert torch.equal(seen[0], torch.ones(4, 2, 2))
    expected = -torch.tensor(data.record["mean"]) / torch.tensor(data.record["deviation"]) / BOUNDED_SCALE
    assert torch.allclose(seen[1, :, 0, 0], expected.clamp(-1, 1), atol=1e-6)


@pytest.mark.parametrize("arch", ["dcgan", "sngan", "wgan-gp", "stylegan2"])
def test_archs_train_on_latents(world, tmp_path, arch):
    given = [f"arch={arch}", "model.width=4", *COMMON, f"data.path={world / 'latents'}", "run.images=8",
             "optim.d_steps_per_g_step=1", "eval.metrics=[]", f"run.dir={tmp_path}", "run.name=run"]  # fmt: skip
    assert main(["train", *given]) == 0

    sampler = lit_gan.load(tmp_path / "run")
    assert sampler.sample(2).shape == (2, 3, SIDE, SIDE)
    with inference(sampler.module):  # of w in stylegan2, of z in the others
        batch = sampling_batch(sampler.module, 0, range(2))
        assert walk(sampler.module, batch, -batch["z"], 1e-4).shape == (4, 3, SIDE, SIDE)
    assert state(tmp_path / "run")["lit_gan"]["latents"]["scale"] == BOUNDED_SCALE


def test_missing_or_changed_autoencoder_is_a_line(world, tmp_path, capsys):
    mine = tmp_path / "ae"
    shutil.copytree(world / "ae", mine)
    list(encode_data(compose(section(world)), str(mine), out=str(tmp_path / "latents")))
    given = [
        *RUN,
        f"data.path={tmp_path / 'latents'}",
        f"run.dir={tmp_path}",
        "eval.metrics=[]",
        "run.images=8",
    ]
    assert main(["train", *given, "run.name=run"]) == 0
    sample = ["sample", str(tmp_path / "run"), "-n", "1"]

    shutil.move(mine, tmp_path / "moved")
    assert main(sample) == 2
    assert "no autoencoder" in (line := capsys.readouterr().err)
    assert "--decoder" in line
    assert main([*sample, "--decoder", str(tmp_path / "moved")]) == 0
    assert main(["train", *given, "run.name=two", f"data.autoencoder={tmp_path / 'moved'}"]) == 0

    shutil.copytree(world / "other", mine)
    capsys.readouterr()
    for command in (sample, ["train", *given, "run.name=three"], ["train", f"resume={tmp_path / 'run'}"]):
        assert main(command) == 2
        assert "is not the one that made the latents" in capsys.readouterr().err
    with pytest.raises(UserError, match="is not the one"):
        lit_gan.load(tmp_path / "run")
    assert lit_gan.load(tmp_path / "run", decoder=tmp_path / "moved").sample(1).shape == (1, 3, SIDE, SIDE)


def test_changed_images_and_latents_are_lines(world, tmp_path):
    shutil.copytree(world / "images", tmp_path / "images")
    list(encode_data(compose(section(tmp_path)), str(world / "ae"), out=str(tmp_path / "latents")))
    shutil.move(tmp_path / "images", tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"does not exist.*data\.reals=PATH"):
        source(tmp_path / "latents")
    source(tmp_path / "latents", reals=str(tmp_path / "elsewhere"))

    shutil.copytree(world / "images", tmp_path / "images")
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "images/a/00.png")
    with pytest.raises(UserError, match="are others now than those that were encoded"):
        source(tmp_path / "latents")
    with pytest.raises(UserError, match=r"data\.flip=true.*no latents of mirrored"):
        source(tmp_path / "latents", flip=True)

    data = source(world / "latents")
    saved = data.state_dict()
    data.load_state_dict(saved)
    for key, other in (("latents", "ab"), ("scale", 2.0)):
        with pytest.raises(UserError, match="resume with the same latents"):
            data.load_state_dict({**saved, key: other})


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("nowhere", [], "no autoencoder .*nowhere"),
        ("images", [], "an autoencoder is a folder that diffusers' save_pretrained wrote"),
        ("ae", ["data.channels=1"], "takes images of 3 channels, the data have 1: use data.channels=3"),
        ("ae", ["data.image_size=60"], "makes 3x56x56 .* of images 60x60: choose data.image_size"),
        ("ae", ["data=toy"], "has no images to encode"),
        ("pipeline", [], "is a whole pipeline: give its autoencoder"),
        ("unet", [], "_class_name is 'UNet2DModel', no autoencoder"),
        ("empty", [], "no weights"),
        ("half", [], "the weights of .* lack .* of AutoencoderKL, such as "),
        ("torn", [], "cannot be loaded as AutoencoderKL"),
    ],
)
def test_wrong_inputs_of_encode_are_lines(world, tmp_path, name, more, says):
    from safetensors.torch import load_file, save_file

    weights = "diffusion_pytorch_model.safetensors"
    if name in ("nowhere", "images", "ae"):
        given = world / name
    else:
        given = tmp_path / name
        shutil.copytree(world / "ae", given / "vae" if name == "pipeline" else given)
    if name == "unet":
        (given / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    elif name == "empty":
        (given / weights).unlink()
    elif name == "half":
        kept = load_file(given / weights)
        save_file({key: kept[key] for key in sorted(kept)[3:]}, given / weights, metadata={"format": "pt"})
    elif name == "torn":
        (given / weights).write_bytes((given / weights).read_bytes()[:1000])
    arguments = [
        a
        for a in section(world, *more)
        if "data=toy" not in more or a.startswith("trainer") or a == "data=toy"
    ]

    with pytest.raises(UserError, match=says):
        list(encode_data(compose(arguments), str(given), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_without_diffusers_the_line_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    (tmp_path / "diffusion_pytorch_model.safetensors").touch()
    monkeypatch.setitem(sys.modules, "diffusers", None)

    with pytest.raises(UserError, match=r"pip install 'lit-gan\[latents\]'"):
        Autoencoder(str(tmp_path))


@pytest.mark.parametrize("kind", [ADA, DiffAugment])
def test_fourth_channel_of_latents_is_a_colour_like_the_others(kind):
    latents = torch.randn(8, 4, 16, 16)

    for alpha in (True, False):
        seen = kind({"color": 1.0}, alpha=alpha).draw(latents.shape, 1.0, latents.device)(latents)
        assert torch.equal(seen[:, 3], latents[:, 3]) is alpha
        assert not torch.equal(seen[:, :3], latents[:, :3])


def test_decoder_loads_nothing_until_it_is_used():
    about = {"autoencoder": "nowhere", "mean": [0.0], "deviation": [1.0], "scale": 1.0, "sha256": ""}

    with pytest.raises(UserError, match="no autoencoder nowhere"):
        Decoder(about)(torch.zeros(1, 1, 2, 2))
