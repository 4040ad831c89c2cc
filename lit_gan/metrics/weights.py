"""Weight files of published networks: where they come from, where they are looked for, and whether they are the right
ones.

Imports no torch: `lit-gan weights list` answers at once. Reading a file runs no code from it.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import tempfile
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lit_gan.cache import cache_root
from lit_gan.errors import UserError, nearest
from lit_gan.metrics.store import locked

if TYPE_CHECKING:
    from torch import Tensor


class MissingWeightsError(UserError):
    """A network's weights are neither here nor to be had; `reason` says why, as the system does."""

    def __init__(self, line: str, reason: str) -> None:
        super().__init__(line)
        self.reason = reason


TIMEOUT = 10  # seconds without an answer before a download is given up


@dataclass(frozen=True)
class WeightFile:
    """A published file, as its authors put it on the net."""

    file: str  # the name it is looked for under
    url: str  # or torchvision:NAME.VERSION, whose library knows where
    sha256: str | None  # None: not known to us, then any file is taken and its hash goes into the protocol
    size: int  # bytes; 0: not known to us
    about: str  # whose, and the licence

    @property
    def own(self) -> Path:
        """Where lit-gan puts it."""
        return weights_folder() / self.file

    @property
    def places(self) -> tuple[Path, Path]:
        """Where it is looked for, in this order: with other programs' files of its kind, then with ours."""
        return hub_folder() / self.file, self.own

    def address(self) -> str:
        """Where it can be fetched."""
        library, _, name = self.url.partition(":")
        if library != "torchvision":
            return self.url
        from torchvision import models

        kind, _, version = name.partition(".")
        return str(getattr(models, kind)[version].url)

    def found(self) -> Path | None:
        return next((path for path in self.places if path.is_file()), None)


# by network; the hashes are those that several independent projects print for these files
KNOWN = {
    "inception": WeightFile(
        file="weights-inception-2015-12-05-6726825d.pth",
        url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        size=95_628_359,
        about="Inception-v3 of TF-GAN, converted by torch-fidelity; Apache-2.0",
    ),
    "dinov2": WeightFile(
        file="dinov2_vitl14_pretrain.pth",
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        size=1_217_586_395,
        about="DINOv2 ViT-L/14 by Meta AI; Apache-2.0",
    ),
    "clip": WeightFile(
        file="vit_large_patch14_clip_336.openai.safetensors",  # where it comes from it has everybody's name
        url="https://huggingface.co/timm/vit_large_patch14_clip_336.openai/resolve/main/open_clip_model.safetensors",
        sha256="fbc415c3d0d7b79faed8f5ccfb740c32b7c4f5ffe7283b851f89c6231c01a8e0",
        size=1_711_828_444,
        about="CLIP ViT-L/14-336 by OpenAI, as open_clip has it; MIT",
    ),
    "lpips-vgg": WeightFile(
        file="vgg16-397923af.pth",
        url="torchvision:VGG16_Weights.IMAGENET1K_V1",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        size=553_433_881,
        about="VGG-16 of torchvision, the backbone of LPIPS and PPL; BSD-3-Clause",
    ),
    "lpips-alex": WeightFile(
        file="alexnet-owt-7be5be79.pth",
        url="torchvision:AlexNet_Weights.IMAGENET1K_V1",
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        size=244_408_911,
        about="AlexNet of torchvision, the other backbone of LPIPS; BSD-3-Clause",
    ),
    "vgg19": WeightFile(
        file="vgg19-dcbb9e9d.pth",
        url="torchvision:VGG19_Weights.IMAGENET1K_V1",
        sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        size=574_673_361,
        about="VGG-19 of torchvision, for the perceptual losses of image translation; BSD-3-Clause",
    ),
}


def weights_folder() -> Path:
    """lit-gan's own folder of weights; not created here."""
    return cache_root() / "weights"


def hub_folder() -> Path:
    """The folder of `torch.hub`, torch-fidelity and torchmetrics, told without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def known(name: str) -> WeightFile:
    """The file called `name` in KNOWN."""
    if name not in KNOWN:
        raise UserError(f"no weights are called '{name}'; {nearest(name, KNOWN)}")
    return KNOWN[name]


def given(weights: str, key: str = "metrics.weights") -> Path:
    """The file that the setting `key` names."""
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"{key}={weights}: no such file")
    return path


def find_weights(name: str, weights: str | None, key: str = "metrics.weights") -> Path:
    """The file of KNOWN[name]: the one given, in torch.hub's or lit-gan's folder, or downloaded there.

    `key` is the setting that may name another file, for messages. Raises `MissingWeightsError` where none is given and none
    to be had.
    """
    if weights is not None:
        return given(weights, key)
    wanted = known(name)
    if (path := wanted.found()) is not None:
        return path
    with locked(wanted.own):
        if not wanted.own.is_file():
            try:
                download(wanted)
            except OSError as error:
                raise MissingWeightsError(missing(name, wanted.file, error, key), _reason(error)) from error
    return wanted.own


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def missing(name: str, file: str, error: Exception, key: str = "metrics.weights") -> str:
    """What to tell somebody whose machine has neither the file of network `name` nor a network connection."""
    if key == "metrics.weights":
        of, instead = f"metrics.extractor={name}", "do without by metrics.extractor=classifier"
    else:
        of, instead = name, "leave the scores out that need them"
    return (
        f"the weights of {of} are neither here nor to be had ({_reason(error)}): put {file} into "
        f"{weights_folder()}, or set {key}=PATH, or {instead} (see docs/metrics.md)"
    )


def verified(
    path: Path, expected: str | None, standard: WeightFile | None = None, key: str = "metrics.weights"
) -> str:
    """The file's sha256, once it is `expected` (the setting `key`_sha256) or, without that, the standard's."""
    found = sha256_of(path)
    if expected is not None and found != expected.lower():
        raise UserError(f"{path} has the sha256 {found}, {key}_sha256 says {expected}")
    if expected is None and standard is not None and standard.sha256 not in (None, found):
        raise UserError(
            f"{path} is not the standard {standard.file}: its sha256 is {found}; if it is meant, set "
            f"{key}_sha256={found}"
        )
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file by name; nothing in the file is run."""
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                return load_file(path)
            except SafetensorError as error:
                raise ValueError(str(error)) from error
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path} is not a file of tensors: {reason}") from error
    for wrapper in ("state_dict", "model"):  # of a training script's checkpoint
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping):
        raise UserError(f"{path} holds a {type(state).__name__}, not weights by name")
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def download(wanted: WeightFile) -> str:
    """Fetches the file into lit-gan's folder, whole or not at all; its sha256. OSError where that fails."""
    with urllib.request.urlopen(wanted.address(), timeout=TIMEOUT) as response:
        return _keep(response, wanted, f"{wanted.url} sent something else")


def copy_from(folder: Path, wanted: WeightFile) -> str:
    """Copies the file from `folder`, under our name or the one it is published under; its sha256."""
    names = dict.fromkeys((wanted.file, wanted.url.rpartition("/")[2]))
    source = next((path for name in names if (path := folder / name).is_file()), None)
    if source is None:
        raise UserError(f"{folder} has no {' or '.join(names)}; it comes from {wanted.url}")
    with source.open("rb") as file:
        return _keep(file, wanted, f"{source} is not the standard {wanted.file}")


def _keep(stream: IO[bytes], wanted: WeightFile, complaint: str) -> str:
    wanted.own.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=wanted.own.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        found = sha256_of(Path(temporary))
        if wanted.sha256 not in (None, found):
            raise OSError(f"{complaint}: its sha256 is {found}")
        os.chmod(temporary, 0o644)  # others may use a shared cache; mkstemp's file is its owner's alone
        os.replace(temporary, wanted.own)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    return found


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
