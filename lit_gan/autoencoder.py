"""Autoencoders that somebody else trained, of the library `diffusers`: images to latents before training, and back.

A variant knows nothing of them. Training sees latents that `lit-gan encode` wrote; whatever looks at samples as images
goes through `sampling.render`, which decodes. The autoencoder is no part of a module or of a checkpoint: a `Decoder`
remembers where it lies and the hash of its weights, and loads it when it is first needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_gan.errors import UserError

TOGETHER = 16  # images at a time through a decoder, which takes more memory than any generator
WEIGHTS = "diffusion_pytorch_model*.safetensors"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Scaling:
    """Latents to what networks see: of each channel (latent - mean) / (deviation * scale), and exactly back."""

    mean: list[float]
    deviation: list[float]
    scale: float = 1.0  # standard deviations that 1 stands for
    _on: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def scaled(self, latents: Tensor) -> Tensor:
        """[B, C, h, w], as the autoencoder has them, to float32."""
        mean, spread = self._columns(latents)
        return (latents.float() - mean) / spread

    def restored(self, scaled: Tensor) -> Tensor:
        mean, spread = self._columns(scaled)
        return scaled.float() * spread + mean

    def _columns(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if like.device not in self._on:  # once: every batch would wait for the copy
            rows = [self.mean, [s * self.scale for s in self.deviation]]
            self._on[like.device] = torch.tensor(rows, device=like.device)[:, :, None, None]
        mean, spread = self._on[like.device]
        return mean, spread


class Autoencoder:
    """A frozen network of `diffusers` in float32: images [B, C, H, W] in [-1, 1] to latents [B, c, h, w], and back.

    `name` is a folder that `save_pretrained` wrote, or owner/name of one on the Hugging Face hub. Raises `UserError` for
    whatever is not an autoencoder with weights.
    """

    def __init__(self, name: str) -> None:
        folder = _folder(name)
        config = _config(name, folder)
        self.kind = str(config.get("_class_name", ""))
        # Any: an autoencoder's encode and decode are no methods that nn.Module knows
        self.network: Any = _network(name, folder, self.kind).eval().requires_grad_(False)
        own = {key: value for key, value in config.items() if not key.startswith("_")}
        self.sha256 = _hash(self.kind, own, self.network)
        self.channels = int(config.get("in_channels", 3))  # of images

    def to(self, device: torch.device | str) -> Autoencoder:
        self.network.to(device)
        return self

    @torch.no_grad()
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The posterior's mean and its standard deviation; None where the autoencoder is not variational."""
        with torch.autocast(images.device.type, enabled=False):
            found: Any = self.network.encode(images.float())
        if (posterior := getattr(found, "latent_dist", None)) is not None:
            return posterior.mean, posterior.std
        return (found.latents if hasattr(found, "latents") else found.latent), None

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            parts: list[Tensor] = [
                self.network.decode(latents[i : i + TOGETHER].float()).sample
                for i in range(0, len(latents), TOGETHER)
            ]
        return torch.cat(parts).clamp(-1, 1)


class Decoder:
    """What a variant makes of latents, [B, c, h, w], to images [B, C, H, W] in [-1, 1].

    `record` says which autoencoder, and how its latents were scaled: that of `latents.json`, with "scale". It lies where
    the record says, or at `place`; one of other weights is refused.
    """

    def __init__(self, record: Mapping[str, Any], place: str = "") -> None:
        self.record = dict(record)
        self.place = place or str(record["autoencoder"])
        self.scaling = Scaling(record["mean"], record["deviation"], record["scale"])
        self._autoencoder: Autoencoder | None = None

    def load(self) -> Autoencoder:
        """The autoencoder; a `UserError` where it is missing or another one."""
        if self._autoencoder is None:
            try:
                found = Autoencoder(self.place)
            except UserError as error:
                raise UserError(
                    f"{error}; the run is on its latents: if it moved, data.autoencoder=PATH (`sample`: --decoder PATH)"
                ) from error
            if found.sha256 != self.record["sha256"]:
                raise UserError(
                    f"the autoencoder {self.place} is not the one that made the latents (sha256 {found.sha256[:12]}, "
                    f"it was {self.record['sha256'][:12]}): give the right one by data.autoencoder=PATH, or encode anew"
                )
            self._autoencoder = found
        return self._autoencoder

    def __call__(self, made: Tensor) -> Tensor:
        return self.load().to(made.device).decode(self.scaling.restored(made))


def _folder(name: str) -> Path:
    """Where the files lie; those of a hub's name are downloaded into the cache of `huggingface_hub` once."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists() or not HUB_NAME.fullmatch(name):
        raise UserError(
            f"no autoencoder {name}: give a folder that diffusers' save_pretrained wrote, or owner/name on the hub"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["config.json", WEIGHTS]))
    except Exception as error:  # no network, no such name, no right: each has errors of its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"no autoencoder {name}: there is no such folder, and from the hub: {reason}; where there is a network, "
            f"`hf download {name} --local-dir FOLDER`, then give that folder"
        ) from error


def _config(name: str, folder: Path) -> dict[str, Any]:
    if (folder / "vae" / "config.json").is_file():
        raise UserError(f"{name} is a whole pipeline: give its autoencoder, {folder / 'vae'}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / 'config.json'}: {getattr(error, 'strerror', None) or 'not a JSON file'}; an autoencoder is a "
            "folder that diffusers' save_pretrained wrote"
        ) from error
    if not isinstance(config, dict):
        raise UserError(f"{folder / 'config.json'} does not describe a network")
    if not any(folder.glob(WEIGHTS)):
        raise UserError(f"{folder} has a config.json and no weights ({WEIGHTS})")
    return config


def _network(name: str, folder: Path, kind: str) -> nn.Module:
    try:
        import diffusers
    except ImportError as error:
        raise UserError(f"autoencoders need diffusers ({error}): pip install 'lit-gan[latents]'") from error
    cls = getattr(diffusers, kind, None) if "Autoencoder" in kind or kind == "VQModel" else None
    if cls is None:
        raise UserError(
            f"{folder / 'config.json'}: _class_name is '{kind}', no autoencoder that diffusers "
            f"{diffusers.__version__} has"
        )
    level = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()  # of missing weights we say more
    try:
        network, info = cls.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as error:  # whatever other or torn files raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{name} cannot be loaded as {kind}: {reason}") from error
    finally:
        diffusers.utils.logging.set_verbosity(level)
    if info["missing_keys"]:  # they would be random
        raise UserError(f"the weights of {name} lack {len(info['missing_keys'])} of {kind}, such as "
                        f"{sorted(info['missing_keys'])[0]}: not the weights of this config.json")  # fmt: skip
    loaded: nn.Module = network.float()
    return loaded


def _hash(kind: str, config: Mapping[str, Any], network: nn.Module) -> str:
    """Of what decides about latents and images: the weights by name, and the settings that are not in their shapes."""
    digest = hashlib.sha256(json.dumps([kind, config], sort_keys=True).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
