"""`lit-gan encode`: images once through an autoencoder, into a folder of latents that the data source `latents` reads.

    FOLDER/           latents.npy float16 [N or 2N, h, w, c] · deviations.npy, with --posterior · latents.json
    FOLDER.partial/   while they are made, with progress.json: a killed encoding goes on

The latents are the means of the posterior, as the autoencoder has them. Float16 rounds them by 5 parts in 10,000, far below
what the autoencoder loses, and halves what training reads. Images are not copied: the record says which they were, and
their fingerprint. With `data.flip=true` row N + i is of image i mirrored, since mirrored latents are not those of a
mirrored image.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from lit_gan.autoencoder import Autoencoder
from lit_gan.build import data_of, settings
from lit_gan.config import Config
from lit_gan.data.base import ImageData, normalize
from lit_gan.data.decoded import FLUSH_SECONDS
from lit_gan.data.latents import BOUNDED_SCALE, DEVIATIONS, FORMAT, MEANS, RECORD, read_record
from lit_gan.data.progress import Progress
from lit_gan.errors import UserError
from lit_gan.hardware import inference_device
from lit_gan.run import write_text

OF_TRAINING = ("name", "batch_size", "workers", "flip")  # of a data section: they change no image
BLOCK = 4096  # rows at a time where latents are counted
TAILS = (3, 4, 5, 6)  # standard deviations

Latents = NDArray[np.float16]


def encode_data(
    config: Config, autoencoder: str, *, out: str, posterior: bool = False, batch_size: int = 16
) -> Iterator[str]:
    """Encode the images of a configuration's data section; yields what there is to tell."""
    folder = Path(out).expanduser().resolve()
    data = data_of(config)
    if data.images.dtype != np.uint8 or config.get("data.source") == "latents":
        raise UserError(f"data={config.get('data.name')} has no images to encode; give data that are images")
    network = Autoencoder(autoencoder).to(inference_device(settings(config, "trainer")))
    _check_channels(data, network, autoencoder)
    identity = {
        "format": FORMAT,
        "sha256": network.sha256,
        "fingerprint": data.fingerprint,
        "flip": bool(config.get("data.flip")) if "flip" in config["data"] else False,
        "posterior": posterior,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    if folder.exists() and any(folder.iterdir()):
        if not (folder / RECORD).is_file() or read_record(folder)["key"] != key:
            raise UserError(f"--out {folder} holds something else: give another folder, or remove it")
        yield f"{folder} holds these latents already"
        return
    record: dict[str, Any] = {
        **identity,
        "key": key,
        "autoencoder": str(Path(autoencoder).resolve()) if Path(autoencoder).exists() else autoencoder,
        "kind": network.kind,
        "image_shape": list(data.image_shape),
        "count": data.size,
        "data": _section(config),
    }
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    lock = FileLock(partial.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{partial} is being written by another process: wait for it") from None
    try:
        _Encoding(data, network, partial, record, batch_size).run()
        partial.replace(folder)
    finally:
        lock.release()
        partial.with_suffix(".lock").unlink(missing_ok=True)
    channels, height, width = record["latent_shape"]
    beyond = record["beyond"][str(int(BOUNDED_SCALE))]
    size = sum(file.stat().st_size for file in folder.glob("*.npy"))
    yield (
        f"{data.size:,} images of {data.source_name} as latents {width}x{height}x{channels}, {size / 1e6:.1f} MB; "
        f"{beyond:.2g} of the numbers are beyond {BOUNDED_SCALE:g} standard deviations"
    )
    yield f"Train:        lit-gan train arch=gat data=latents data.path={folder}"
    yield f"Its own loss: lit-gan eval {folder} --metrics fid"


class _Encoding:
    """One encoding into a `.partial` folder; where one was killed it goes on."""

    def __init__(
        self, data: ImageData, network: Autoencoder, folder: Path, record: dict[str, Any], batch_size: int
    ) -> None:
        self.data, self.network, self.folder, self.record = data, network, folder, record
        self.batch_size = batch_size
        self.device = next(network.network.parameters()).device
        self.rows = data.size * (2 if record["flip"] else 1)
        self.done = 0

    def run(self) -> None:
        shape = self._shape()
        self.record["latent_shape"] = [shape[2], *shape[:2]]
        self._resume()
        names = [MEANS, DEVIATIONS] if self.record["posterior"] else [MEANS]
        self._check_space(2 * len(names) * int(np.prod(shape)) * (self.rows if not self.done else 0))
        mode: Any = "r+" if self.done else "w+"
        files = [
            np.lib.format.open_memmap(self.folder / name, mode, np.dtype(np.float16), (self.rows, *shape))
            for name in names
        ]
        progress = Progress(self.data.source_name, self.rows, self.done, doing="encoding", did="encoded")
        flushed = time.monotonic()
        while self.done < self.rows:
            rows = range(self.done, min(self.done + self.batch_size, self.rows))
            for file, part in zip(files, self._encoded(rows), strict=True):
                file[rows.start : rows.stop] = part
            self.done = rows.stop
            progress.show(self.done)
            if time.monotonic() - flushed >= FLUSH_SECONDS:
                self._flush(files)
                flushed = time.monotonic()
        self._flush(files)
        progress.end(self.done)
        self.record |= statistics(files[0], files[1] if len(files) > 1 else None)
        write_text(self.folder / RECORD, json.dumps(self.record, indent=1))
        (self.folder / "progress.json").unlink()

    def _images(self, rows: range) -> Tensor:
        places = np.arange(rows.start, rows.stop)
        images = self.data.real_batch(places % self.data.size)["image"].to(self.device)
        mirrored = torch.from_numpy(places >= self.data.size).to(self.device)[:, None, None, None]
        return normalize(torch.where(mirrored, images.flip(-1), images))

    def _encoded(self, rows: range) -> list[Latents]:
        """Means [B, h, w, c], and deviations if they are kept."""
        try:
            mean, deviation = self.network.encode(self._images(rows))
        except torch.OutOfMemoryError:
            fewer = max(self.batch_size // 2, 1)
            raise UserError(f"the device's memory is too small: give --batch-size {fewer}") from None
        kept = [mean, deviation] if self.record["posterior"] and deviation is not None else [mean]
        found = [part.permute(0, 2, 3, 1).to(torch.float16).cpu().numpy() for part in kept]
        if not all(np.isfinite(part).all() for part in found):
            raise UserError(
                f"images {rows.start % self.data.size} and on: latents that are not finite, or beyond 65504"
            )
        return found

    def _shape(self) -> tuple[int, int, int]:
        """[h, w, c] of the latents, of two images that go there and back."""
        images = self._images(range(min(2, self.data.size)))
        name, size = self.record["autoencoder"], "x".join(map(str, images.shape[2:]))
        try:
            mean, deviation = self.network.encode(images)
            decoded = self.network.decode(mean)
        except (RuntimeError, ValueError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(
                f"{name} does not take images of {size}: {reason}; choose data.image_size"
            ) from error
        if mean.ndim != 4:
            raise UserError(
                f"{name} makes latents of {mean.ndim - 1} dimensions, of videos perhaps: give one of images"
            )
        if decoded.shape != images.shape:
            back = "x".join(map(str, decoded.shape[1:]))
            raise UserError(
                f"{name} makes {back} (channels, height, width) of images {size}: choose data.image_size, a multiple of "
                "what the autoencoder divides by"
            )
        if self.record["posterior"] and deviation is None:
            raise UserError(f"--posterior: {name} ({self.network.kind}) has none; leave it out")
        return mean.shape[2], mean.shape[3], mean.shape[1]

    def _resume(self) -> None:
        path = self.folder / "progress.json"
        try:
            progress = json.loads(path.read_text(encoding="utf-8"))
            if progress["key"] == self.record["key"] and (self.folder / MEANS).exists():
                self.done = int(progress["done"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing usable: from the start
        if not self.done:
            for name in (MEANS, DEVIATIONS, RECORD):
                (self.folder / name).unlink(missing_ok=True)

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"the latents need {needed / 1e9:.1f} GB in {self.folder.parent}, where {free / 1e9:.1f} GB are free: give "
                "--out on a larger disk"
            )

    def _flush(self, files: list[Any]) -> None:
        for file in files:
            file.flush()
        write_text(self.folder / "progress.json", json.dumps({"key": self.record["key"], "done": self.done}))


def statistics(means: Latents, deviations: Latents | None) -> dict[str, Any]:
    """Mean and standard deviation of each channel, the largest number in these units, and the share beyond some.

    Of draws from the posterior, where there are `deviations`: their variances add. Rows [N, h, w, c]; in float64, and a
    constant channel keeps its scale.
    """
    pixels = means.size // means.shape[-1]

    def blocks(rows: Latents) -> Iterator[NDArray[np.float64]]:
        for start in range(0, len(rows), BLOCK):
            yield rows[start : start + BLOCK].astype(np.float64)

    mean = sum(block.sum((0, 1, 2)) for block in blocks(means)) / pixels
    variance = sum(((block - mean) ** 2).sum((0, 1, 2)) for block in blocks(means)) / pixels
    if deviations is not None:
        variance = variance + sum((block**2).sum((0, 1, 2)) for block in blocks(deviations)) / pixels
    deviation = np.where(variance > 0, np.sqrt(variance), 1.0)
    largest, beyond = 0.0, dict.fromkeys(TAILS, 0)
    for block in blocks(means):
        distance = np.abs(block - mean) / deviation
        largest = max(largest, float(distance.max()))
        for tail in TAILS:
            beyond[tail] += int((distance > tail).sum())
    return {
        "mean": np.asarray(mean).tolist(),
        "deviation": deviation.tolist(),
        "largest": largest,
        "beyond": {str(tail): count / means.size for tail, count in beyond.items()},
    }


def _check_channels(data: ImageData, network: Autoencoder, name: str) -> None:
    if data.image_shape[0] != network.channels:
        raise UserError(
            f"{name} takes images of {network.channels} channels, the data have {data.image_shape[0]}: use "
            f"data.channels={network.channels}"
        )


def _section(config: Config) -> dict[str, Any]:
    """The data section to build the same images from later, paths on the disk as they are from everywhere."""
    section = {key: value for key, value in config["data"].items() if key not in OF_TRAINING}
    for key in ("path", "labels"):
        path = section.get(key)
        if path and Path(path).expanduser().exists():
            section[key] = str(Path(path).expanduser().resolve())
    return section
