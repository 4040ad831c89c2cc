"""Inception-v3 of the TensorFlow GAN library, the extractor of published FID, KID and IS: torch-fidelity's
graph.

Bit-identical to torch-fidelity's `inception-v3-compat`: TF1 bilinear resize to 299, features of the last
pooling (2048), logits without bias (1008). The weights (95.7 MB) are not part of lit-gan; docs/metrics.md
says where they go.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from lit_gan.cache import cache_root
from lit_gan.errors import UserError
from lit_gan.metrics.extractors import Extractor, Source
from lit_gan.metrics.store import locked

FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
PREFIX = "6726825d"  # of the file's sha256, by torch.hub's convention
TIMEOUT = 10  # seconds without an answer before the download is given up


class Inception(Extractor):
    """uint8 [B, C, H, W] -> [B, 2048], [B, 1008]; grey is repeated to 3 channels, RGBA laid over black."""

    name = "inception"
    dim = 2048
    num_logits = 1008
    resize = "TF1 bilinear to 299"

    def __init__(self, weights: Path, weights_sha256: str | None = None) -> None:
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import (
            FeatureExtractorInceptionV3,
        )

        self.weights_hash, state = _read(weights, weights_sha256)
        # the graph unpickles what it is given without weights_only: so it is given a copy of ours
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        try:
            with torch.random.fork_rng(devices=[]):  # its layers draw an initialisation first
                self.graph = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], buffer)
        except RuntimeError as error:
            raise UserError(
                f"{weights} does not fit the Inception graph: {str(error).splitlines()[0]}"
            ) from error

    @classmethod
    def build(
        cls, *, data: Source, weights: str | None, weights_sha256: str | None, device: torch.device
    ) -> Inception:
        channels = data.image_shape[0]
        if channels not in {1, 3, 4} or data.images.dtype != "uint8":
            raise UserError(
                f"metrics.extractor=inception: reads images of 1, 3 or 4 channels, the data have "
                f"{channels} of type {data.images.dtype}; use metrics.extractor=pixels"
            )
        return cls(find_weights(weights), weights_sha256)

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        elif images.shape[1] == 4:
            colour, alpha = images[:, :3].float(), images[:, 3:].float() / 255
            images = (colour * alpha).round().to(torch.uint8)
        features, logits = self.graph(images)
        return features, logits


def find_weights(weights: str | None) -> Path:
    """The weights' file: the one given, in torch.hub's or lit-gan's folder, or downloaded there."""
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise UserError(f"metrics.weights={weights}: no such file")
        return path
    hub, own = Path(torch.hub.get_dir()) / "checkpoints" / FILE, cache_root() / "weights" / FILE
    for path in (hub, own):
        if path.is_file():
            return path
    with locked(own):
        if not own.is_file():
            try:
                _download(own)
            except OSError as error:
                raise UserError(
                    f"the Inception weights are neither here nor to be had ({error}): put {FILE} into "
                    f"{own.parent}, or set metrics.weights=PATH, or do without by "
                    "metrics.extractor=classifier (see docs/metrics.md)"
                ) from error
    return own


def _download(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(URL, timeout=TIMEOUT) as response:
            shutil.copyfileobj(response, file, 1 << 20)
        if not _sha256(Path(temporary)).startswith(PREFIX):
            raise OSError(f"{URL} sent something else")
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _read(path: Path, expected: str | None) -> tuple[str, dict[str, Tensor]]:
    """The file's sha256 and its state dict, once the hash is the standard or the expected one."""
    found = _sha256(path)
    if expected is not None and found != expected.lower():
        raise UserError(f"{path} has the sha256 {found}, metrics.weights_sha256 says {expected}")
    if expected is None and not found.startswith(PREFIX):
        raise UserError(
            f"{path} is not the standard {FILE}: its sha256 is {found}; if it is meant, set "
            f"metrics.weights_sha256={found}"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise UserError(f"{path} is not a file of tensors: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, not weights by name")
    return found, state


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
