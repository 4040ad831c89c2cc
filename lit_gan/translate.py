"""`lit-gan translate`: image files through a trained translator, any size, depth and format; and in Python, one image."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from lit_gan.data.files import Picture, joined, read_image, write_image
from lit_gan.errors import UserError
from lit_gan.memory import out_of_memory, peak_memory
from lit_gan.places import Taken, jobs, place_for
from lit_gan.sampling import inference
from lit_gan.translator import Translator, picture_of

SHOWN = 20  # failures that are listed


def translate_image(translator: Translator, image: Any) -> Any:
    """One image of any of these kinds, and the translation as the same kind.

    A path (the result is a PIL image where it has 8 bits and 1 or 3 colours, else an array), a PIL image, an array [H, W]
    or [H, W, C] of uint8, uint16 or float32, or a tensor [C, H, W] in [-1, 1].
    """
    if isinstance(image, Tensor):
        with inference(translator.module):
            return translator._made(image[None].float())[0]
    made = translator(picture_of(image))
    if isinstance(image, (str, Path)):
        shown = made.pixels.dtype == np.uint8 and made.pixels.shape[2] in (1, 3)
        return _as_pil(made) if shown else joined(made)
    if isinstance(image, Image.Image):
        return _as_pil(made)
    pixels = joined(made)
    return pixels[..., 0] if np.ndim(image) == 2 and pixels.shape[2] == 1 else pixels


def _as_pil(picture: Picture) -> Image.Image:
    dtype, channels = picture.pixels.dtype.name, picture.pixels.shape[2]
    grey = channels == 1 and picture.alpha is None
    if not (dtype == "uint8" and channels in (1, 3)) and not (grey and dtype in ("uint16", "float32")):
        alpha = "" if picture.alpha is None else " and alpha"
        raise ValueError(f"PIL cannot hold {channels} channels{alpha} of {dtype}: give an array")
    values = joined(picture)
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


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
    taken = Taken(path for path, _ in work)
    quiet = not sys.stderr.isatty()
    started = time.perf_counter()
    for path, target in track(work, "translating", console=Console(stderr=True), disable=quiet):
        reason = _one(translator, path, target, suffix, taken, noted)
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


def _one(
    translator: Translator, path: Path, target: Path, suffix: str | None, taken: Taken, noted: dict[str, int]
) -> str:
    """Translate one file; the reason where it fails, else "". What is worth a line is counted in `noted`."""
    try:
        picture = read_image(path)
        place, words = place_for(target, suffix, translator.form(picture))
        taken.refuse(place)
        made = translator(picture)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_image(place, made)
    except UserError:  # of the whole call
        raise
    except Exception as error:  # of this file, whatever a decoder or a network raises: the others are made
        if out_of_memory(error):
            return "does not fit into memory; --tile 512 cuts it into tiles"
        return " ".join(str(error).split()) or type(error).__name__
    taken.add(place, f"the translation of {path}")
    for note in [words, *translator.tiled] if words else translator.tiled:
        noted[note] = noted.get(note, 0) + 1
    return ""
