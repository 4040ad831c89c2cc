"""`lit-gan translate`: image files through a trained translator, any size, depth and format; and in Python, one image.

What a file's numbers become follows from the run: whole numbers are mapped by their type (or by `data.range`, where the run
has one for that type), floats by the range that the run was trained on. The result has the depth of the file, or is
float in the run's range where the targets were; alpha and metadata are handed on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from lit_gan.data.conform import resized, with_channels
from lit_gan.data.files import SUFFIXES, Picture, encoded, read_image, write_image
from lit_gan.errors import UserError
from lit_gan.memory import peak_memory
from lit_gan.module import AdversarialModule
from lit_gan.sampling import inference, latents
from lit_gan.tiles import Tiling, pad_to, through, tile_for

Tile = int | Literal["auto", "none"]
SHOWN = 20  # failures that are listed


@dataclass
class Translator:
    """A trained translator, ready for pictures; `sides` is what its checkpoint says of "source" and "image" files.

    `style` is an image as `translate_image` takes one, where the module takes on the style of one, and only there: else a
    `UserError`.
    """

    module: AdversarialModule
    sides: Mapping[str, Mapping[str, Any]]
    tile: Tile = "auto"
    seed: int = 0
    style: Any = None
    outside: int = 0  # values met beyond the range that was trained on
    tiled: list[str] = field(default_factory=list)  # in words, how the last picture was taken
    _known: dict[tuple[int, int], int | None] = field(default_factory=dict)  # sides -> tile
    _given: dict[str, Tensor] = field(
        default_factory=dict
    )  # of every batch: "style" [1, C, H, W], or nothing

    def __post_init__(self) -> None:
        name = type(self.module).__name__
        if self.style is None:
            if self.module.takes_style:
                raise UserError(f"{name} takes on the style of an image: give one, --style FILE or style=")
            return
        if not self.module.takes_style:
            raise UserError(f"{name} takes on no image's style: leave --style out")
        self._given["style"] = self._style().to(self.module.device)

    def __call__(self, picture: Picture) -> Picture:
        """The translation, upright. Raises `ValueError` where the picture has channels that the run cannot take."""
        source = self._tensor(picture)
        with inference(self.module):
            made = self._made(source)
        return self._picture(made[0], picture)

    def _made(self, source: Tensor) -> Tensor:
        """[1, C, H, W] of a source [1, Cs, Hs, Ws], both in [-1, 1]."""
        module = self.module
        z = latents(self.seed, [0], module.latent_dim).to(module.device)

        def network(image: Tensor) -> Tensor:
            batch = {"source": image.to(module.device), "z": z, "index": torch.zeros(1)}
            return module.generate(batch | self._given)

        tiling = Tiling(module.stride, module.scale, module.reach)
        size = (source.shape[2], source.shape[3])
        side: int | None
        if self.tile == "auto":
            if size not in self._known:
                self._known[size], _ = tile_for(network, source.to(module.device), tiling)
            side = self._known[size]
        else:
            side = None if self.tile == "none" else self.tile
        padded = pad_to(source, tiling.stride)
        tiles = side is not None and (side < padded.shape[2] or side < padded.shape[3])
        self.tiled = []
        if tiles:
            self.tiled.append(f"tiles of {max(side or 0, tiling.least)} pixels")
            if module.reach is None:
                self.tiled.append(
                    "faded into each other: this network looks at the whole image, and tiles differ a little"
                )
        # masks of dropout have the places of a tile, and would show where tiles meet
        drops = cast("bool | None", getattr(module, "sample_dropout", None))
        if tiles and drops:
            setattr(module, "sample_dropout", False)  # noqa: B010  # a keyword that pix2pix alone has
            self.tiled.append("without dropout, which would differ from tile to tile")
        try:
            return through(network, source, replace(tiling, tile=side))
        finally:
            if drops is not None:
                setattr(module, "sample_dropout", drops)  # noqa: B010

    def _tensor(self, picture: Picture) -> Tensor:
        """The picture as a source [1, Cs, H, W] in [-1, 1]."""
        signed = signed_of(picture, self.sides["source"])
        self.outside += int((signed.abs() > 1).sum())
        return signed

    def _style(self) -> Tensor:
        if isinstance(self.style, Tensor):
            return self.style[None].float()
        try:
            return signed_of(picture_of(self.style), self.sides["image"])
        except (OSError, ValueError) as error:
            raise UserError(f"the style image cannot be used: {' '.join(str(error).split())}") from error

    def _picture(self, made: Tensor, original: Picture) -> Picture:
        """[C, H, W] in [-1, 1] as a picture of the original's depth."""
        side = self.sides["image"]
        target = np.dtype(side["dtype"])
        source = original.pixels.dtype
        floats = target.kind == "f"
        dtype = target if floats or source.kind == "f" else source
        low, high = range_of(dtype, side)
        values: NDArray[Any] = (made.permute(1, 2, 0).double().cpu().numpy() + 1) * ((high - low) / 2) + low
        if dtype.kind == "u":
            values = np.rint(values).clip(0, np.iinfo(dtype).max)
        pixels = np.ascontiguousarray(values.astype(dtype))
        alpha = None
        if pixels.shape[2] in (2, 4) and int(self.sides["source"]["shape"][0]) == pixels.shape[2]:
            if original.alpha is not None:  # the run translates it as a channel
                pixels, alpha = np.ascontiguousarray(pixels[..., :-1]), np.ascontiguousarray(pixels[..., -1])
        elif original.alpha is not None:
            alpha = resized(original.alpha[..., None], pixels.shape[:2])[..., 0].astype(dtype)
            if dtype != source:
                alpha = (alpha / np.iinfo(source).max).astype(dtype)
        stored = str(side.get("stored", "")) if floats else ""
        return Picture(pixels, alpha, dict(original.metadata), stored)


def signed_of(picture: Picture, side: Mapping[str, Any]) -> Tensor:
    """The picture as [1, C, H, W] of that side, what it was trained on in [-1, 1]; `ValueError` where it cannot be."""
    pixels = with_channels(picture, int(side["shape"][0]))
    low, high = range_of(pixels.dtype, side)
    signed = (pixels.astype(np.float64) - low) * (2 / (high - low)) - 1
    return torch.from_numpy(signed.astype(np.float32)).permute(2, 0, 1)[None]


def range_of(dtype: np.dtype[Any], side: Mapping[str, Any]) -> tuple[float, float]:
    """The values of a file of that number type that are -1 and 1 to the run."""
    if dtype.kind == "f" or dtype.name == side["dtype"]:
        low, high = side["range"]
        if dtype.kind == "f" and np.dtype(side["dtype"]).kind == "u":
            low, high = 0.0, 1.0  # floats to a run of whole numbers: as everybody writes images in floats
        return float(low), float(high)
    return 0.0, float(np.iinfo(dtype).max)


def translate_image(translator: Translator, image: Any) -> Any:
    """One image of any of these kinds, and the translation as the same kind.

    A path (the result is a PIL image where PIL can hold it, else an array), a PIL image, an array [H, W] or [H, W, C] of
    uint8, uint16 or float32, or a tensor [C, H, W] in [-1, 1].
    """
    if isinstance(image, Tensor):
        with inference(translator.module):
            return translator._made(image[None].float())[0]
    made = translator(picture_of(image))
    if isinstance(image, (str, Path)):
        return (
            _as_pil(made) if made.pixels.dtype == np.uint8 and made.pixels.shape[2] in (1, 3) else made.pixels
        )
    if isinstance(image, Image.Image):
        return _as_pil(made)
    pixels = made.pixels
    return pixels[..., 0] if np.ndim(image) == 2 and pixels.shape[2] == 1 else pixels


def picture_of(image: Any) -> Picture:
    """The picture that a path, a PIL image or an array is; `ValueError` where it is none."""
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        alpha = image.mode in ("LA", "RGBA", "PA")
        grey = image.mode in ("1", "L", "LA")
        values = np.array(image.convert(("LA" if grey else "RGBA") if alpha else ("L" if grey else "RGB")))
        values = values if values.ndim == 3 else values[..., None]
        return Picture(values[..., :-1] if alpha else values, values[..., -1] if alpha else None)
    array = np.asarray(image)
    if array.dtype not in (np.uint8, np.uint16, np.float32) or array.ndim not in (2, 3):
        raise ValueError(
            f"an array must be uint8, uint16 or float32, [H, W] or [H, W, C]; got {array.dtype} {list(array.shape)}"
        )
    return Picture(array if array.ndim == 3 else array[..., None])


def _as_pil(picture: Picture) -> Image.Image:
    if picture.pixels.dtype != np.uint8 or picture.pixels.shape[2] not in (1, 3):
        raise ValueError(
            f"PIL cannot hold {picture.pixels.shape[2]} channels of {picture.pixels.dtype.name}: give an array"
        )
    parts = [picture.pixels] if picture.alpha is None else [picture.pixels, picture.alpha[..., None]]
    values = np.concatenate(parts, axis=2)
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


def jobs(inputs: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """Every file to read and where its translation goes; `inputs` is a folder, a file, or - for paths on standard input.

    Raises `UserError` where there is nothing to translate, or a result would lie on its own source.
    """
    if inputs == "-":
        found = [(Path(line), Path(line).name) for line in (raw.strip() for raw in sys.stdin) if line]
    else:
        root = Path(inputs).expanduser()
        if not root.exists():
            raise UserError(
                f"{inputs} does not exist: give a folder of images, a file, or - for a list of paths"
            )
        if root.is_file():
            target = out if out.suffix.lower() in SUFFIXES and not out.is_dir() else out / root.name
            if target.resolve() == root.resolve():
                raise UserError(f"{target} is the image itself: give another place")
            yield root, target
            return
        files = sorted(path for path in root.rglob("*") if path.is_file())
        found = [
            (path, str(path.relative_to(root)))
            for path in files
            if path.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
        ]
        if out.resolve() == root.resolve():
            raise UserError(f"{out} is the folder of the images themselves: give another place")
    if not found:
        raise UserError(f"{inputs} holds no images ({', '.join(SUFFIXES)}): check the path")
    names: dict[str, Path] = {}
    for path, name in found:
        if name in names:
            raise UserError(f"{names[name]} and {path} would both become {out / name}: translate them apart")
        names[name] = path
        yield path, out / name


def translate_files(
    translator: Translator,
    inputs: str,
    out: str,
    *,
    suffix: str | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Translate all of `inputs` into `out`; 0, or 1 where some failed, which are named at the end."""
    folder = Path(out).expanduser()
    work = list(jobs(inputs, folder))
    if len(work) > 1 and folder.is_file():
        raise UserError(f"{out} is a file and there are {len(work)} images: give a folder")
    failed: list[str] = []
    noted: dict[str, int] = {}
    quiet = not sys.stderr.isatty()
    started = time.perf_counter()
    for path, target in track(work, "translating", console=Console(stderr=True), disable=quiet):
        reason = _one(translator, path, target, suffix, noted)
        if reason:
            failed.append(f"{path}: {reason}")
    done = len(work) - len(failed)
    each = (time.perf_counter() - started) / len(work)
    say(
        f"{done} of {len(work)} images translated into {out}, {each:.3g} s each; {peak_memory(translator.module.device)}"
    )
    for words, count in noted.items():
        say(f"  {count}: {words}")
    if translator.outside:
        say(
            f"  {translator.outside:,} values lay outside the range that the run was trained on; they were kept"
        )
    for line in failed[:SHOWN]:
        say(f"failed: {line}")
    if len(failed) > SHOWN:
        say(f"failed: {len(failed) - SHOWN} more")
    return 1 if failed else 0


def _one(translator: Translator, path: Path, target: Path, suffix: str | None, noted: dict[str, int]) -> str:
    """Translate one file; the reason where it fails, else "". What is worth a line is counted in `noted`."""
    try:
        made = translator(read_image(path))
        place = _place(target, suffix, made, noted)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_image(place, made)
    except (OSError, ValueError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    except (MemoryError, torch.OutOfMemoryError):
        return "does not fit into memory; --tile 512 cuts it into tiles"
    for words in translator.tiled:
        noted[words] = noted.get(words, 0) + 1
    return ""


def _place(target: Path, suffix: str | None, made: Picture, noted: dict[str, int]) -> Path:
    """`target` with an ending that can hold the picture; what differs from the source's is noted."""
    wanted = target if suffix is None else target.with_suffix(suffix)
    if suffix is not None:
        return wanted
    for ending in (wanted.suffix.lower(), ".png", ".tif", ".npy"):
        try:
            encoded(ending, made)
        except ValueError:
            continue
        if ending != wanted.suffix.lower():
            words = f"written as {ending}, since {wanted.suffix} cannot hold the result"
            noted[words] = noted.get(words, 0) + 1
            return wanted.with_suffix(ending)
        return wanted
    return wanted
