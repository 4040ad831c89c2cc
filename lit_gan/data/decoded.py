"""Images decoded once into one memory-mapped uint8 array: an atomic, resumable cache for many processes.

    <cache_root()>/data/<key>/           images.u8 [N, H, W, C] · labels.i8 int64 [N] · meta.json · names.json
    <cache_root()>/data/<key>.partial/   while it is built, with progress.json: a killed build goes on
    <cache_root()>/data/<key>.lock       held by the one process that builds

The key is a hash of where the images come from and of how they are decoded, so nothing has to be compared or
expired: whatever changes leads to another folder. The *fingerprint* is a hash of the decoded content
instead, the same on every machine that has the same images. Labels that are vectors lie in labels.f8, float64 [N, K].
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lit_gan.cache import cache_root
from lit_gan.conditions import Kind
from lit_gan.data.pixels import MODES, Crop, Pixels, Resample, Size, pixels, upright_size
from lit_gan.data.progress import Progress, say
from lit_gan.errors import UserError

FORMAT = 2  # of the cache; raise it when the files or the pixels of an unchanged key would differ
CHUNK = 256  # images decoded between two writes
FLUSH_SECONDS = 5.0  # at most so much decoding is lost when a build is killed

Integers = NDArray[np.int64]
Labels = NDArray[Any]  # int64 or floats
T = TypeVar("T")


class Encoded(NamedTuple):
    """One image that is not decoded yet; `open` runs in a thread and may raise."""

    name: str
    open: Callable[[], Image.Image]


@dataclass(frozen=True)
class Source:
    """A fixed sequence of encoded images, cheap to hold: `read(start, stop)` gives a part of it."""

    size: int
    read: Callable[[int, int], Iterable[Encoded]]
    labels: Labels | None = None  # classes [size], or vectors [size, K]
    class_names: tuple[str, ...] = ()  # of vectors, their columns
    names: Sequence[str] | None = None  # [size], where images are files: paths below the source
    condition: Kind = "class"  # what the labels are


@dataclass(frozen=True)
class Decoding:
    """How images become pixels; `size` None means the size of the first image that decodes."""

    size: Size | None
    channels: int
    crop: Crop = "center"
    resample: Resample = "lanczos"  # as StyleGAN's data set tool; bicubic rings less when it enlarges


@dataclass(frozen=True)
class Images:
    """Decoded images with what is known about them."""

    images: NDArray[np.uint8] | NDArray[np.float32]  # [N, H, W, C], usually memory-mapped
    labels: Labels | None  # classes [N], or vectors [N, K]
    class_names: tuple[str, ...]
    fingerprint: str
    skipped: list[str] = field(default_factory=list)  # "name: reason" of what does not decode
    names_file: Path | None = None  # JSON of the N names, where images are files


def decoding(
    image_size: int | tuple[int, int] | None,
    channels: int,
    crop: Crop = "center",
    resample: Resample = "lanczos",
) -> Decoding:
    """The decoding that the user asked for; `UserError` where no network could take it."""
    if channels not in MODES:
        raise UserError(f"data.channels={channels} is not possible; use 1 (grey), 3 (RGB) or 4 (RGBA)")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if size is not None and (min(size) < 4 or size[0] % 4 or size[1] % 4):
        nearest = [max(round(side / 4), 1) * 4 for side in size]
        better = str(nearest[0]) if isinstance(image_size, int) else f"[{nearest[0]},{nearest[1]}]"
        shown = str(image_size).replace(" ", "").replace("(", "[").replace(")", "]")
        raise UserError(
            f"data.image_size={shown}: sides must be multiples of 4; use data.image_size={better}"
        )
    return Decoding(None if size is None else (int(size[0]), int(size[1])), channels, crop, resample)


def decode(
    name: str,
    origin: Mapping[str, object],
    open_source: Callable[[], Source],
    how: Decoding,
    max_bad_share: float = 0.01,
) -> Images:
    """The images of `open_source` decoded, from the cache where it has them.

    `origin` (JSON) identifies the encoded images; `open_source` is called only if they have to be decoded.
    `name` says in messages what they are. Any number of processes may call this at once; one of them decodes.
    """
    found = cached(
        name,
        {"format": FORMAT, "origin": origin, **asdict(how)},
        lambda folder: _open(folder, how),
        lambda folder: _Build(name, folder, how, max_bad_share).run(open_source()),
    )
    check_share(name, found.skipped, len(found.images) + len(found.skipped), max_bad_share)
    return found


def cached(
    name: str, key: Mapping[str, object], find: Callable[[Path], T | None], build: Callable[[Path], None]
) -> T:
    """What `find` reads in the cache folder of `key` (JSON), where it is missing after one process has run `build`."""
    canonical = json.dumps(key, sort_keys=True)
    folder = cache_root() / "data" / hashlib.sha256(canonical.encode()).hexdigest()[:32]
    try:
        found = find(folder)
        if found is None:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with Locked(folder.with_suffix(".lock"), name):
                found = find(folder)  # another process may have built it while this one waited
                if found is None:
                    build(folder)
                    found = find(folder)
    except OSError as error:
        reason = f"{error.strerror or error} ({error.filename or folder})"
        where = f"decoding {name} into {folder.parent}"
        raise UserError(f"{where}: {reason}; LIT_GAN_CACHE=FOLDER chooses another cache folder") from error
    if found is None:
        raise UserError(f"{folder} vanished while it was written; is {cache_root()} being cleaned? Run again")
    return found


def _open(folder: Path, how: Decoding) -> Images | None:
    """The finished cache in `folder`; None where there is none or where it is damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        shape = tuple(int(side) for side in meta["shape"])
        labelled = bool(meta["labelled"])
        sizes = [(folder / "images.u8").stat().st_size]
        columns = int(meta.get("columns", 0))  # of vectors
        table = folder / _labels_file(columns)
        sizes += [table.stat().st_size] if labelled else []
        if sizes != [int(np.prod(shape)), shape[0] * 8 * max(columns, 1)][: len(sizes)]:
            raise ValueError("files have other sizes than when they were written")
        images = np.memmap(folder / "images.u8", dtype=np.uint8, mode="r", shape=shape)
        labels: Labels | None = None
        if labelled:
            labels = np.fromfile(table, dtype=np.float64 if columns else np.int64)
            labels = labels.reshape(shape[0], columns) if columns else labels
        # crop and size count even where they leave the pixels as they were: then nobody has to wonder
        known = [meta["content"], shape, meta["class_names"], asdict(how)]
        known += [meta["condition"]] if columns else []
        identity = json.dumps(known, sort_keys=True)
        fingerprint = hashlib.sha256(identity.encode()).hexdigest()
        named = folder / "names.json" if meta["named"] else None
        if named is not None and not named.exists():
            raise ValueError("names.json is missing")
        return Images(images, labels, tuple(meta["class_names"]), fingerprint, list(meta["skipped"]), named)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if folder.exists():
            say(f"the decoded images in {folder} are damaged ({error}); decoding again")
        return None


class _Build:
    """One build of the cache into `<folder>.partial`, moved to `folder` when it is whole."""

    def __init__(self, name: str, folder: Path, how: Decoding, max_bad_share: float) -> None:
        self.name = name
        self.folder = folder
        self.partial = folder.with_suffix(".partial")
        self.how = how
        self.max_bad_share = max_bad_share
        self.done = 0  # images of the source dealt with
        self.skipped: list[tuple[int, str]] = []  # index in the source, "name: reason"

    @property
    def kept(self) -> int:
        return self.done - len(self.skipped)

    def run(self, source: Source) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns of odd metadata, once per image
            size = self.how.size or self._natural_size(source)
            shape = (*size, self.how.channels)
            self._resume(int(np.prod(shape)))
            self._check_space((source.size - self.done) * int(np.prod(shape)))
            self._decode_all(source, size)
        if self.kept == 0:
            raise UserError(
                f"none of the {source.size:,} images of {self.name} decodes ({self.skipped[0][1]})"
            )
        labels = None
        if source.labels is not None:
            labels = np.delete(source.labels, [index for index, _ in self.skipped], axis=0)
            labels = labels.astype(np.int64 if labels.ndim == 1 else np.float64)
            labels.tofile(self.partial / _labels_file(labels.ndim - 1))
        if source.names is not None:
            skipped = {index for index, _ in self.skipped}
            kept = [name for index, name in enumerate(source.names) if index not in skipped]
            write_json(self.partial / "names.json", kept)
        self._finish((self.kept, *shape), source, labels)

    def _natural_size(self, source: Source) -> Size:
        for start in range(0, min(source.size, 4 * CHUNK), 16):
            for encoded in source.read(start, min(start + 16, source.size)):
                try:
                    with encoded.open() as image:
                        height, width = upright_size(image)
                except Exception:  # counted and reported when it is decoded
                    continue
                if height % 4 or width % 4:
                    raise UserError(
                        f"the images of {self.name} are {width} x {height} ({encoded.name}), "
                        "no multiples of 4; use data.image_size=64, or [64,96] for height and width"
                    )
                return height, width
        raise UserError(
            f"no image at the start of {self.name} decodes; check the files, or set data.image_size=64"
        )

    def _resume(self, row: int) -> None:
        """Continue a build that was killed, with the images that had safely been written."""
        self.partial.mkdir(parents=True, exist_ok=True)
        try:
            progress = json.loads((self.partial / "progress.json").read_text(encoding="utf-8"))
            skipped = [(int(index), str(reason)) for index, reason in progress["skipped"]]
            done = int(progress["done"])
            if (self.partial / "images.u8").stat().st_size >= (done - len(skipped)) * row:
                self.done, self.skipped = done, skipped
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing usable: from the start
        with (self.partial / "images.u8").open("ab") as file:
            file.truncate(self.kept * row)
        if self.done:
            say(f"continuing the decoding of {self.name} after {self.done:,} images")

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.partial).free
        if needed > free:
            raise UserError(
                f"{self.name} decoded needs {needed / 1e9:.1f} GB in {self.partial.parent}, where "
                f"{free / 1e9:.1f} GB are free; set LIT_GAN_CACHE to a larger disk, or lower data.image_size"
            )

    def _decode_all(self, source: Source, size: Size) -> None:
        def one(encoded: Encoded) -> Pixels | str:
            try:
                with encoded.open() as image:
                    return pixels(
                        image,
                        size=size,
                        channels=self.how.channels,
                        crop=self.how.crop,
                        resample=self.how.resample,
                    )
            except MemoryError:
                raise
            except UnidentifiedImageError:  # its text names a BytesIO
                return f"{encoded.name}: not an image that can be read"
            except Exception as error:  # whatever a broken file makes PIL raise
                return f"{encoded.name}: {' '.join(str(error).split()) or type(error).__name__}"

        progress = Progress(self.name, source.size, self.done)
        flushed = time.monotonic()
        with (self.partial / "images.u8").open("ab") as file, ThreadPoolExecutor(threads()) as pool:
            while self.done < source.size:
                stop = min(self.done + CHUNK, source.size)
                rows = list(pool.map(one, source.read(self.done, stop)))
                self.skipped += [(self.done + i, row) for i, row in enumerate(rows) if isinstance(row, str)]
                file.write(b"".join(row.tobytes() for row in rows if not isinstance(row, str)))
                self.done = stop
                progress.show(self.done)
                try:
                    check_share(
                        self.name, [reason for _, reason in self.skipped], source.size, self.max_bad_share
                    )
                except UserError:
                    self._flush(file)  # who allows more bad images continues here
                    raise
                if time.monotonic() - flushed >= FLUSH_SECONDS:
                    self._flush(file)
                    flushed = time.monotonic()
            self._flush(file)
        progress.end(self.done, len(self.skipped))

    def _flush(self, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())  # the images must be on the disk before the file that vouches for them
        write_json(self.partial / "progress.json", {"done": self.done, "skipped": self.skipped})

    def _finish(self, shape: tuple[int, ...], source: Source, labels: Labels | None) -> None:
        content = hashlib.sha256()
        with (self.partial / "images.u8").open("rb") as file:
            while block := file.read(1 << 24):
                content.update(block)
        if labels is not None:
            content.update(labels.tobytes())
        meta = {
            "format": FORMAT,
            "name": self.name,
            "shape": shape,
            "labelled": labels is not None,
            "named": source.names is not None,
            "class_names": source.class_names,
            "content": content.hexdigest(),
            "skipped": [reason for _, reason in self.skipped],
        }
        if labels is not None and labels.ndim == 2:
            meta |= {"columns": labels.shape[1], "condition": source.condition}
        write_json(self.partial / "meta.json", meta)
        (self.partial / "progress.json").unlink()
        shutil.rmtree(self.folder, ignore_errors=True)  # a damaged one
        self.partial.replace(self.folder)


def _labels_file(columns: int) -> str:
    return "labels.f8" if columns else "labels.i8"


def check_share(name: str, skipped: list[str], size: int, max_bad_share: float) -> None:
    """Stop as soon as too many images do not decode: usually it is the wrong folder, or a broken download."""
    if len(skipped) > max_bad_share * size:
        first = "; ".join(skipped[:3]) + ("; ..." if len(skipped) > 3 else "")
        allow = min(1.0, max(float(f"{1.1 * len(skipped) / size:.2g}"), max_bad_share))
        raise UserError(
            f"at least {len(skipped):,} of the {size:,} images of {name} do not decode, more than the share "
            f"data.max_bad_share={max_bad_share} allows: {first}. Repair them, or train without them: "
            f"data.max_bad_share={allow}"
        )


class Locked:
    """Hold the lock of a cache folder; says so when another process has it."""

    def __init__(self, path: Path, name: str) -> None:
        self.lock, self.name = FileLock(path), name

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=1)
        except Timeout:
            say(f"another process is decoding {self.name}; waiting for it")
            self.lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self.lock.release()


def threads() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 16)


def write_json(path: Path, content: Mapping[str, object] | list[str]) -> None:
    scratch = path.with_suffix(".new")
    with scratch.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
