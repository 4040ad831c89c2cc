"""Tiny settings for every arch and ways to train them, shared by the tests that go over all variants."""

from __future__ import annotations

import atexit
import copy
import functools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torchvision
from PIL import Image

from lit_gan.build import module_of, variant_of
from lit_gan.config import Config, compose, names
from lit_gan.module import AdversarialModule, Batch
from lit_gan.networks.vgg import layer_names
from lit_gan.resume import compose_run
from lit_gan.train import train

ARCHS = names("arch")
SECOND_STAGE = ["model.pretrain_images=0", "model.vgg=none"]
TINY: dict[str, list[str]] = {  # beside the arch's own YAML
    "gan": ["model.widths=[16]"],
    "ns-gan": ["model.widths=[16]"],
    "dcgan": ["model.width=4"],
    "lsgan": ["model.width=4"],
    "hinge-dcgan": ["model.width=4"],
    "wgan": ["model.width=4", "model.warm_up=0", "model.long_every=0"],
    "cgan": [
        "model.z_width=8",
        "model.label_width=8",
        "model.width=16",
        "model.d_image_units=8",
        "model.d_units=8",
    ],
    "acgan": ["model.width=16", "model.d_width=4"],
    "infogan": ["model.width=4", "model.dense=16", "model.q_units=8"],
    "wgan-gp": ["model.width=4"],
    "progan": ["model.width=4", "model.stable_images=8", "model.fade_images=16"],
    "stylegan": [
        "model.width=4",
        "model.first_stage=0",
        "model.stable_images=8",
        "model.fade_images=16",
    ],
    "sngan": ["model.width=4", "model.d_width=4"],
    "sagan": ["model.width=8", "model.d_width=8"],
    "biggan": ["model.width=2", "model.latent_dim=12", "model.shared_dim=4", "eval.standing_batches=2"],
    "stylegan-lite": ["model.width=4"],
    "stylegan2": ["model.width=4"],
    "stylegan2-ada": ["model.width=4"],
    "r3gan": ["model.width=16", "model.full_stages=1"],
    "gat": ["model.width=16", "model.heads=2", "model.depth=4", "model.patch=4", "model.label_dim=8"],
    "pix2pix": ["model.width=4", "model.field=16", "model.stages=2"],
    "pix2pixhd": [
        "model.width=4",
        "model.field=16",
        "model.d_width=4",
        "model.downs=2",
        "model.blocks=1",
        "model.vgg=none",
    ],
    "srgan": ["model.width=4", "model.blocks=1", "model.d_width=4", "model.d_units=8", *SECOND_STAGE],
    "esrgan": [
        "model.width=4",
        "model.blocks=1",
        "model.growth=4",
        "model.d_width=4",
        "model.d_units=8",
        *SECOND_STAGE,
    ],
    "realesrgan": ["model.width=4", "model.blocks=1", "model.growth=4", "model.d_width=4", *SECOND_STAGE],
    "cyclegan": ["model.width=4", "model.d_width=4", "model.blocks=1", "model.field=16", "model.pool_size=5"],
    "cut": ["model.width=4", "model.d_width=4", "model.blocks=2", "model.field=16", "model.features=32"],
    "fastcut": ["model.width=4", "model.d_width=4", "model.blocks=2", "model.field=16", "model.features=32"],
    "adain": ["model.adversarial_weight=1", "model.d_width=4", "model.field=16"],
}
STAGES: dict[str, tuple[int, ...]] = {  # images seen, where not all parameters take part all the time
    "progan": (0, 24, 48),
    "stylegan": (0, 24, 48),
}
SCALES: dict[str, int] = {"srgan": 4, "esrgan": 4, "realesrgan": 4}  # of what makes images larger
COMMON = [
    "data.batch_size=8", "logger=csv", "trainer.accelerator=cpu", "trainer.precision=32",
    "eval.metrics=[]", "eval.at_start=false", "trainer.progress=false", "logger.every=3",
    "checkpoint.every_minutes=null",
]  # fmt: skip


def arguments(arch: str, *more: str) -> list[str]:
    """Command line arguments of a tiny run of `arch`; `more` wins."""
    return [f"arch={arch}", *TINY[arch], *_data(arch), *COMMON, *more]


@functools.cache
def kind_of(arch: str) -> type[AdversarialModule]:
    """The class of the arch; its configuration is composed once for all tests."""
    return variant_of(compose([f"arch={arch}"]))


def translates(arch: str) -> bool:
    """Whether the arch makes images of images."""
    return kind_of(arch).translates


def _data(arch: str) -> list[str]:
    """The digits, or for a translator pictures made here."""
    if not translates(arch):
        return ["data.image_size=16"]
    folder = pictures()
    if arch in SCALES:
        return ["data=super-resolution", f"data.path={folder}/b", f"data.scale={SCALES[arch]}", "data.crop_size=16",
                "data.channels=1"]  # fmt: skip
    sides = [f"data.path={folder}/b", f"data.sources={folder}/a", "data.crop_size=16", "data.flip=true",
             "data.channels=1", "data.source_channels=1"]  # fmt: skip
    weights = [f"model.vgg={random_vgg()}"] if arch == "adain" else []
    return ["data=paired" if kind_of(arch).needs_pairs else "data=unpaired", *sides, *weights]


@functools.cache
def pictures() -> Path:
    """Folders a and b of 24 pictures of 20 x 24 pixels each, of equal names; gone with the process."""
    folder = Path(tempfile.mkdtemp(prefix="lit-gan-pictures-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    drawn = np.random.default_rng(0).integers(0, 256, (2, 24, 5, 6), dtype=np.uint8)
    for side, images in zip("ab", drawn, strict=True):
        (folder / side).mkdir()
        for i, coarse in enumerate(images):
            Image.fromarray(coarse).resize((24, 20)).save(folder / side / f"{i:02d}.png")
    return folder


@functools.cache
def random_vgg() -> Path:
    """A file of VGG-19's weights up to relu4_1, drawn so that activations keep their size; gone with the process."""
    folder = Path(tempfile.mkdtemp(prefix="lit-gan-vgg-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with torch.device("meta"):
        layers = torchvision.models.vgg19(weights=None).features[: layer_names().index("relu4_1") + 1]
    generator, state = torch.Generator().manual_seed(0), {}
    for name, parameter in layers.named_parameters():
        scale = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
        state[f"features.{name}"] = torch.randn(parameter.shape, generator=generator) * scale
    torch.save(state, folder / "vgg19.pth")
    return folder / "vgg19.pth"


class NumberedSources:
    """Sources that are a function of their number, in place of those of data."""

    paired = True

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape

    def __len__(self) -> int:
        return 100

    def of(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.stack(
            [torch.rand(self.shape, generator=torch.Generator().manual_seed(n)) * 2 - 1 for n in numbers]
        )

    def images_at(self, numbers: Sequence[int]) -> torch.Tensor:
        return self.of([number + len(self) for number in numbers])


def source_of(arch: str, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape of what becomes images of this shape."""
    channels, height, width = image_shape
    return channels, height // SCALES.get(arch, 1), width // SCALES.get(arch, 1)


@functools.cache
def composed(*arguments: str) -> Config:
    """Composed once for all tests: it takes longer than most of them."""
    return compose(arguments)


def tiny_module(
    arch: str, *more: str, image_shape: tuple[int, int, int] = (1, 16, 16), classes: int = 10
) -> AdversarialModule:
    """An untrained tiny module of `arch`."""
    torch.manual_seed(0)
    source = source_of(arch, image_shape)
    config = copy.deepcopy(composed(*arguments(arch, *more)))
    module = module_of(config, image_shape, classes, source_shape=source)
    if module.translates:
        module.sources = cast("Any", NumberedSources(source))
    return module


def classes_of(module: AdversarialModule) -> int:
    """How many classes `tiny_module` was built for, where it reads labels; 0 where it does not."""
    return 10 if module.conditional else 0


def tiny_batch(module: AdversarialModule, shape: tuple[int, int, int] = (1, 16, 16), size: int = 4) -> Batch:
    """Random images and labels in the range of real ones."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(size, *shape, generator=generator) * 2 - 1
    batch = {"image": images, "label": torch.arange(size) % 10}
    if module.sources is not None:
        batch["source"] = module.sources.of(range(size))
    return {key: batch[key] for key in module.needs}


def tiny_run(arch: str, folder: Path, *more: str) -> Path:
    """Train a tiny run of `arch` in this process; returns its folder."""
    assert train(compose_run(arguments(arch, f"run.dir={folder}", "run.name=run", *more))) == 0
    return folder / "run"


def said(error: str) -> list[str]:
    """The lines of standard error but those on how far a decoding is, which a slow machine adds."""
    return [line for line in error.splitlines() if not line.startswith(("decoding ", "decoded "))]


def state(run: Path, name: str = "last.ckpt") -> dict[str, Any]:
    """A checkpoint's contents."""
    return torch.load(run / "checkpoints" / name, weights_only=True, map_location="cpu")


def largest_difference(a: Any, b: Any) -> float:
    """The largest absolute difference between two states: tensors by value, everything else must be equal."""
    if isinstance(a, torch.Tensor):
        assert a.shape == b.shape
        return float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
    if isinstance(a, dict):
        assert a.keys() == b.keys(), a.keys() ^ b.keys()
        return max((largest_difference(a[k], b[k]) for k in a), default=0.0)
    if isinstance(a, Sequence) and not isinstance(a, str):
        assert len(a) == len(b)
        return max((largest_difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if isinstance(a, float):
        return abs(a - b)
    assert a == b, (a, b)
    return 0.0


TRAINED = ("state_dict", "optimizer_states", "global_step")  # what must be equal after a resume
