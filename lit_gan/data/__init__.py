"""Sources of images: each a LightningDataModule, named here and imported when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from lit_gan.errors import UserError, nearest

if TYPE_CHECKING:
    from lit_gan.data.base import ImageData

DATA: dict[str, str] = {
    "digits": "lit_gan.data.digits:Digits",
    "toy": "lit_gan.data.toy:Toy",
    "folder": "lit_gan.data.folder:Folder",
    "hub": "lit_gan.data.hub:Hub",
    "stacked": "lit_gan.data.stacked:Stacked",
    "latents": "lit_gan.data.latents:Latents",
    "paired": "lit_gan.data.paired:Paired",
    "unpaired": "lit_gan.data.unpaired:Unpaired",
    "super-resolution": "lit_gan.data.super_resolution:SuperResolution",
    "inpainting": "lit_gan.data.inpainting:Inpainting",
    "colorization": "lit_gan.data.colorization:Colorization",
}


def build_data(source: str, **keywords: object) -> ImageData:
    """The data source of that name with its keyword arguments; not prepared yet."""
    if source not in DATA:
        raise UserError(f"data.source={source!r} does not exist; {nearest(source, DATA)}")
    module, name = DATA[source].split(":")
    return cast("ImageData", getattr(import_module(module), name)(**keywords))
