"""Any model of the library timm: its pooled features before the classifier, with its own size, mean and deviation.

timm gives the graph; the weights come from a file that is hashed and read without running code, and must fill the graph
whole. The image is squashed to the model's size as a whole: what timm's own evaluation would cut off at the borders
counts in a generated image too.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lit_gan.errors import UserError
from lit_gan.metrics.extractors import Extractor, Source, as_rgb, check_pictures, resized, resized_to_levels
from lit_gan.metrics.weights import (
    KNOWN,
    find_weights,
    given,
    missing,
    read_tensors,
    verified,
    weights_folder,
)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of [0, 1]

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preparation:
    """What uint8 [B, 3, H, W] goes through to become a network's input, float32 [B, 3, *size]."""

    size: tuple[int, int]
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    interpolation: str = "bicubic"
    square: bool = False  # cut to the square in the middle first

    def __call__(self, images: Tensor, *, rounded: bool) -> Tensor:
        """`rounded`: to whole grey levels after the resize, as image files and Pillow's images are."""
        if self.square:
            height, width = images.shape[2:]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            images = images[:, :, top : top + side, left : left + side]
        levels = (resized_to_levels if rounded else resized)(images, self.size, self.interpolation)
        mean, std = (levels.new_tensor(value).view(3, 1, 1) for value in (self.mean, self.std))
        return (levels / 255 - mean) / std


class VisionModel(Extractor):
    """Base of extractors whose graph timm has: uint8 [B, C, H, W] -> features [B, D].

    Grey is repeated to 3 channels, RGBA laid over black. A subclass names its `architecture` and `options`, the
    arguments of `timm.create_model`, and gives `preparation_of`.
    """

    architecture: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {"num_classes": 0}  # 0: pooled features

    def __init__(self, weights: Path, weights_sha256: str | None = None) -> None:
        super().__init__()
        import timm

        self.weights_hash = verified(weights, weights_sha256, KNOWN.get(self.name))
        with torch.random.fork_rng(devices=[]):  # its layers draw an initialisation first
            self.graph: nn.Module = timm.create_model(
                self.architecture, pretrained=False, **dict(self.options)
            )
        self.preparation = self.preparation_of(self.graph)
        fill(self.graph, self.converted(read_tensors(weights)), weights)
        self.dim = self._width()

    @classmethod
    def build(
        cls, *, data: Source, weights: str | None, weights_sha256: str | None, device: torch.device
    ) -> VisionModel:
        check_pictures(cls.name, data)
        return cls(cls.find(weights), weights_sha256)

    @classmethod
    def find(cls, weights: str | None) -> Path:
        """The file of the weights: the one given, a known place, or downloaded."""
        return find_weights(cls.name, weights)

    def preparation_of(self, graph: nn.Module) -> Preparation:
        """What images go through before this graph."""
        raise NotImplementedError

    def converted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the file, changed where timm's own conversion would change them otherwise."""
        return state

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        rounded = self.resize == self.resizes.get("legacy")
        features: Tensor = self.graph(self.preparation(as_rgb(images), rounded=rounded))
        return features, None

    def _width(self) -> int:
        """D, by one black image: timm's attributes disagree between families."""
        self.eval()
        with torch.no_grad():
            shape = tuple(self.graph(torch.zeros(1, 3, *self.preparation.size)).shape)
        if len(shape) != 2:
            raise UserError(
                f"metrics.extractor={self.name}: gives {shape[1:]} an image, not a vector of features"
            )
        return int(shape[1])


class TimmModel(VisionModel):
    """`timm:NAME`, with or without timm's tag of the training: resnet50, vit_small_patch14_dinov2.lvd142m."""

    @classmethod
    def of(cls, model: str) -> type[Extractor]:
        import timm

        near = _nearest(model, timm.list_models(), timm.list_pretrained())
        if near is not None:
            raise UserError(f"metrics.extractor=timm:{model}: timm has no such model; {near}")
        attributes = {"architecture": model, "name": f"timm:{model}", "__doc__": cls.__doc__}
        return type("TimmModel", (cls,), attributes)

    @classmethod
    def find(cls, weights: str | None) -> Path:
        if weights is not None:
            return given(weights)
        for ending in (".safetensors", ".pth"):
            if (path := weights_folder() / f"{cls.architecture}{ending}").is_file():
                return path
        return _from_hub(cls.name, cls.architecture)

    def preparation_of(self, graph: nn.Module) -> Preparation:
        from timm.data.config import resolve_model_data_config

        config = resolve_model_data_config(graph)  # type: ignore[no-untyped-call]
        height, width = config["input_size"][1:]
        # antialiased there are these two; the others of timm (lanczos, box) are of a handful of models
        interpolation = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
        self.resize = f"{interpolation}, antialiased, to {height}x{width}, not rounded"
        return Preparation((height, width), tuple(config["mean"]), tuple(config["std"]), interpolation)


def fill(graph: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Loads the tensors of `path` into a graph of timm, from any format that timm converts.

    Tensors without a place (a classifier's) are left out; a parameter without a tensor is a UserError: features of
    random weights look like features.
    """
    # what every family of timm calls the function that reads its authors' own files
    convert = getattr(import_module(type(graph).__module__), "checkpoint_filter_fn", None)
    try:
        state = state if convert is None else convert(dict(state), graph)
        lacking = graph.load_state_dict(state, strict=False).missing_keys
    except (RuntimeError, KeyError, ValueError, AttributeError, TypeError, AssertionError) as error:
        reason = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UserError(
            f"{path} does not fit {type(graph).__name__}: {reason[min(1, len(reason) - 1)]}"
        ) from error
    if lacking:
        raise UserError(
            f"{path} does not fit {type(graph).__name__}: it lacks {lacking[0]} and {len(lacking) - 1} others"
        )


def _from_hub(name: str, model: str) -> Path:
    """timm's own published file of a model, in the cache of the Hugging Face hub."""
    import timm
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    config = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        raise UserError(
            f"metrics.extractor={name}: nobody has published weights for it; set metrics.weights=PATH to yours"
        )
    wanted = config.hf_hub_id, config.hf_hub_filename or "model.safetensors"
    with suppress(
        OSError
    ):  # what is there is taken at once: without a network the hub tries for half a minute
        return Path(hf_hub_download(*wanted, local_files_only=True))
    try:
        return Path(hf_hub_download(*wanted))
    except (OSError, HfHubHTTPError) as error:
        file = f"{model}.safetensors (model.safetensors of huggingface.co/{config.hf_hub_id})"
        raise UserError(missing(name, file, error)) from error


def _nearest(model: str, models: list[str], pretrained: list[str]) -> str | None:
    """A hint where timm has no such model or tag; None where it has."""
    architecture, dot, _ = model.partition(".")
    if architecture in models and (not dot or model in pretrained):
        return None
    tags = [name for name in pretrained if name.startswith(f"{architecture}.")]
    near = difflib.get_close_matches(model, tags or models, 1, 0 if tags else 0.6)
    return f"did you mean timm:{near[0]}?" if near else "timm.list_models() has the names"
