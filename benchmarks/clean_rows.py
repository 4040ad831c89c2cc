"""The rows of the parity table that clean-fid fills, and those of the resizes, which also torch-fidelity and Pillow do.

clean-fid's own code reads PNG files, resizes them, collects features and takes the distance; the network, which it would
download, is lit-gan's graph, in the place of its (`custom_feat_extractor`), fed as it feeds its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from common import BATCH, Once
from lit_gan.metrics import FrechetDistance, Inception, KernelDistance
from parity_rows import SINGLE, SINGULAR, TAPS, ReachedError, Row, ours_of, over, taps

SIZES = ((28, 28), (32, 32), (48, 80), (64, 64), (256, 256), (299, 299), (512, 512), (640, 360), (1024, 1024))
LEVELS = 0.01  # how far the clean resize may be from Pillow's, in grey levels: torch weighs in float32, Pillow in float64
PLAINLY = {"num_workers": 0, "batch_size": BATCH, "device": torch.device("cpu"), "verbose": False}


def clean_fid() -> ModuleType | None:
    """clean-fid's module `fid`, None where it is not installed."""
    try:
        from cleanfid import fid
    except ModuleNotFoundError:
        return None
    warnings.filterwarnings("ignore", module="cleanfid")
    return fid


def written(images: Tensor, folder: Path) -> str:
    """The images as PNG files, in their order; the folder's name."""
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number:06}.png")
    return str(folder)


def clean_tap_rows(
    fid: ModuleType, legacy: Inception, clean: Inception, folders: tuple[str, str], real: Tensor, fake: Tensor
) -> Iterator[Row]:
    """FID of the early layers over the files in `folders` (reals, fakes), for each of clean-fid's modes.

    In the mode legacy_tensorflow it leaves the resize to its network, in the others it resizes before.
    """

    def unresized(images: Tensor) -> tuple[Tensor, ...]:
        return legacy(images.round().to(torch.uint8))  # it reads files as shares of 255, and multiplies again

    for mode, ours, theirs, differs in (
        ("clean", clean, clean.layers, ""),
        ("legacy_tensorflow", legacy, unresized, ""),
        ("legacy_pytorch", legacy, legacy.layers, "no: another resize"),
    ):
        mine = [over(side, lambda part, ours=ours: taps(ours.graph, ours, part)) for side in (real, fake)]
        once = Once(lambda images, ours=ours, theirs=theirs: taps(ours.graph, theirs, images))
        for index, dim in enumerate(TAPS):
            value = float(ours_of(FrechetDistance, *(side[index] for side in mine)).compute())
            what = f"FID, {dim} dimensions, resize={'clean' if ours is clean else 'legacy'}"
            reason = differs or ("" if len(real) > dim else SINGULAR)
            yield Row(
                what, f"clean-fid, mode={mode}", value, folder_fid(fid, folders, mode, once, index), reason
            )


def clean_score_rows(
    fid: ModuleType, clean: Inception, folders: tuple[str, str], real: Tensor, fake: Tensor
) -> Iterator[Row]:
    """KID of the whole network over the files in `folders`, and FID where there are more images than dimensions.

    With fewer its `sqrtm` of a singular matrix takes a minute for noise, or raises.
    """
    number, once = len(real), Once(clean.layers)
    sides = [over(side, clean)[0] for side in (real, fake)]
    if number > clean.dim:
        value = float(ours_of(FrechetDistance, *sides).compute())
        theirs = folder_fid(fid, folders, "clean", once, 0)
        yield Row("FID, resize=clean", "clean-fid, mode=clean", value, theirs)
    value = float(ours_of(KernelDistance, *sides).compute())
    for dtype, differs in ((torch.float32, SINGLE), (torch.float64, "")):
        features = [
            fid.get_folder_features(folder, network(once, 0, dtype), **PLAINLY, mode="clean")
            for folder in folders
        ]
        theirs = fid.kernel_distance(*features, num_subsets=1, max_subset_size=number)
        whom = f"clean-fid, one subset of all{'' if differs else ', float64 features'}"
        yield Row("KID, resize=clean", whom, value, theirs, differs)


def network(once: Once, index: int, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    """One of the outputs as clean-fid wants a network."""
    return lambda images: once(images)[index].to(dtype)


def folder_fid(fid: ModuleType, folders: tuple[str, str], mode: str, once: Once, index: int) -> float:
    """clean-fid's FID between the folders of reals and fakes."""
    reals, fakes = folders
    return float(
        fid.compute_fid(fakes, reals, mode=mode, custom_feat_extractor=network(once, index), **PLAINLY)
    )


def seen(ours: Inception, images: Tensor) -> Tensor:
    """What the network's first layer is given of the images: [B, 3, 299, 299] in [-1, 1)."""
    found: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor]) -> None:
        found.append(inputs[0])
        raise ReachedError

    hook = ours.graph.Conv2d_1a_3x3.register_forward_pre_hook(keep)
    with suppress(ReachedError):
        ours(images)
    hook.remove()
    return found[0]


def pillow(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] as clean-fid resizes it: bicubic on float32 channels, cut to [0, 255], not rounded."""
    channels = [Image.fromarray(image[:, :, number].astype(np.float32), mode="F") for number in range(3)]
    resized = [np.asarray(channel.resize((299, 299), Image.Resampling.BICUBIC)) for channel in channels]
    return np.stack(resized, axis=2).clip(0, 255)


def resize_lines(
    legacy: Inception, clean: Inception, sizes: tuple[tuple[int, int], ...] = SIZES
) -> Iterator[tuple[str, bool]]:
    """Lines of the table of resizes over white noise, and whether each holds: legacy to the bit, clean to LEVELS."""
    whom, theirs = "Pillow", pillow
    if clean_fid() is not None:
        from cleanfid.resize import build_resizer

        whom, theirs = "clean-fid", build_resizer("clean")
    for height, width in sizes:
        images = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
        like_tf1 = interpolate_bilinear_2d_like_tensorflow1x(
            images.float(), size=(299, 299), align_corners=False
        )
        exact = bool(torch.equal(seen(legacy, images), (like_tf1 - 128) / 128))
        expected = torch.from_numpy(theirs(images[0].permute(1, 2, 0).numpy())).permute(2, 0, 1)
        levels = float((seen(clean, images)[0] - (expected - 128) / 128).abs().max() * 128)
        verdict = "pass" if exact and levels <= LEVELS else "**fail**"
        yield (
            f"| {height} x {width} | {'equal' if exact else 'unequal'} | {levels:.1e} ({whom}) | {verdict} |",
            verdict == "pass",
        )
