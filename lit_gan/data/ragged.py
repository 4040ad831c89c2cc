"""Pictures of any size, depth and number of channels, decoded once into one memory-mapped flat array.

    <cache_root()>/data/<key>/   pixels.bin, one [H, W, C] after the other · table.npy int64 [N, 4]: offset, H, W, place in
                                 the listing · limits.npy float64 [N, 2]: least and largest value · names.json · meta.json

Keys, locks and messages are those of decoded.py. A build that is killed begins anew: crops are made while training, so
what is decoded here are a few thousand files rather than millions.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lit_gan.data.conform import resized, with_channels
from lit_gan.data.decoded import cached, check_share, threads, write_json
from lit_gan.data.files import SUFFIXES, Picture, Pixels, decoded, read_image
from lit_gan.data.folder import files_in
from lit_gan.data.order import Integers
from lit_gan.data.progress import Progress, say
from lit_gan.errors import UserError

FORMAT = 2  # of the cache; raise it when the files or the pixels of an unchanged key would differ
CHUNK = 32  # images decoded at once; whole photos are large
SHOWN = 5  # folders in a message


@dataclass(frozen=True)
class Listing:
    """The pictures of one side, not decoded yet: `open` takes a place in `names`, runs in a thread and may raise."""

    source_name: str  # in messages
    names: list[str]
    open: Callable[[int], Picture]
    origin: Mapping[str, object]  # JSON; identifies them
    skipped: list[str] = field(default_factory=list)

    def chosen(self, places: Sequence[int] | Integers) -> Listing:
        places = [int(place) for place in places]
        # of a choice too, places in the whole listing, by which the cache tells choices apart
        before = cast("Sequence[int]", self.origin.get("chosen", range(len(self.names))))
        return replace(
            self,
            names=[self.names[place] for place in places],
            open=lambda i: self.open(places[i]),
            origin={**self.origin, "chosen": [before[place] for place in places]},
        )

    def half(self, which: str) -> Listing:
        """The left or the right halves of the pictures."""

        def cut(i: int) -> Picture:
            picture = self.open(i)
            width = picture.pixels.shape[1]
            if width % 2:
                raise ValueError(f"is {width} pixels wide, which are not two halves")
            part = slice(None, width // 2) if which == "left" else slice(width // 2, None)
            alpha = None if picture.alpha is None else picture.alpha[:, part]
            return replace(picture, pixels=picture.pixels[:, part], alpha=alpha)

        return replace(self, open=cut, origin={**self.origin, "half": which})


@dataclass(frozen=True, eq=False)
class Pictures:
    """Decoded pictures: number i is `pictures[i]`, a view [H, W, C] of the mapped file."""

    flat: NDArray[Any]  # uint8, uint16 or float32
    offsets: Integers  # [N], in values
    sizes: Integers  # [N, 2]: height, width
    channels: int
    names: list[str]
    places: Integers  # [N], in the listing
    limits: NDArray[np.float64]  # [N, 2]: least and largest value
    content: str  # a hash of the whole file
    stored: str  # the number type of the files, where it is neither of the three
    skipped: list[str]  # "name: reason"
    alpha: bool  # whether the last channel is alpha

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, i: int) -> Pixels:
        height, width = self.sizes[i]
        start = self.offsets[i]
        count = height * width * self.channels
        return self.flat[start : start + count].reshape(height, width, self.channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.flat.dtype

    @property
    def fingerprint(self) -> str:
        identity = [self.content, self.dtype.name, self.channels, self.places.tolist()]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def chosen(self, numbers: Integers) -> Pictures:
        if len(numbers) == len(self):
            return self
        return replace(
            self,
            offsets=self.offsets[numbers],
            sizes=self.sizes[numbers],
            names=[self.names[i] for i in numbers],
            places=self.places[numbers],
            limits=self.limits[numbers],
        )

    def __getstate__(self) -> dict[str, Any]:
        """A spawned worker maps the file itself: a pickled memmap would be a copy in its memory."""
        state = dict(self.__dict__)
        if isinstance(self.flat, np.memmap):
            state["flat"] = (str(self.flat.filename), self.flat.dtype.str)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["flat"], tuple):
            path, dtype = state["flat"]
            state["flat"] = np.memmap(path, dtype=dtype, mode="r")
        self.__dict__.update(state)


def image_files(path: str, key: str) -> Listing:
    """The image files below a folder, in a zip or below a folder in one (`photos.zip/train`), in the order of their names.

    `key` is the setting that named it.
    """
    if not path:
        raise UserError(f"{key} is not set; give a folder or zip of images: {key}=photos/")
    root = Path(path).expanduser()
    archive = next((place for place in (root, *root.parents) if place.is_file()), None)
    if archive is not None:
        return _in_zip(path, key, archive, PurePosixPath(root.relative_to(archive).as_posix()))
    if not root.is_dir():
        raise UserError(
            f"{key}={path} is no folder and no zip (looked for {root.absolute()}); check the path"
        )
    files = files_in(root)
    stamps = [stamp for stamp in files if _is_image(stamp[0])]
    names = [name for name, _, _ in stamps]
    _check_images(path, key, len(names), len(files))
    origin = {"source": "files", "path": str(root.resolve()), "files": stamps}
    return Listing(path, names, lambda i: read_image(root / names[i]), origin)


def _in_zip(path: str, key: str, archive: Path, below: PurePosixPath) -> Listing:
    """The image files below the folder `below` of a zip, read through one open archive, as threads may."""
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{key}={path}: {archive} is no zip file that can be read ({error}); give a folder or a zip of images"
        ) from error
    entries = {PurePosixPath(name): name for name in opened.namelist() if not name.endswith("/")}
    files = {entry.relative_to(below): name for entry, name in entries.items() if entry.is_relative_to(below)}
    if not files:
        folders = sorted({entry.parent.as_posix() for entry in entries})
        raise UserError(
            f"{key}={path}: {archive} has no files in {below}; its folders are {', '.join(folders[:SHOWN])}"
            + ", ..." * (len(folders) > SHOWN)
        )
    shown = {
        entry.as_posix(): name
        for entry, name in files.items()
        if not any(part.startswith(".") for part in entry.parts)  # what a Mac puts beside them too
    }
    names = sorted(name for name in shown if _is_image(name))
    _check_images(path, key, len(names), len(shown))
    stat = archive.stat()
    origin = {
        "source": "zip",
        "path": str(archive.resolve()),
        "below": str(below),
        "files": [stat.st_size, stat.st_mtime_ns],
    }
    return Listing(path, names, lambda i: decoded(opened.read(shown[names[i]])), origin)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _check_images(path: str, key: str, images: int, files: int) -> None:
    if not images:
        raise UserError(
            f"{key}={path} holds no images ({', '.join(SUFFIXES)}), and {files:,} other files; check the path"
        )


def pictures(
    listing: Listing,
    *,
    channels: int | None,
    size: tuple[int, int] | int | None,
    max_bad_share: float,
    nearest: bool = False,
) -> Pictures:
    """The pictures of a listing decoded, from the cache where it has them; `size` and `nearest` as of `resized`, no size:
    as they are.

    All have one depth. With `channels` None they must all have the same number of them, alpha left aside.
    """
    key = {"ragged": FORMAT, "origin": listing.origin, "channels": channels, "size": size}
    if nearest and size is not None:
        key["nearest"] = True
    found = cached(
        listing.source_name,
        key,
        _open,
        lambda folder: _Build(listing, folder, channels, size, nearest, max_bad_share).run(),
    )
    check_share(listing.source_name, found.skipped, len(listing.names), max_bad_share)
    return found


def _open(folder: Path) -> Pictures | None:
    """The finished cache in `folder`; None where there is none or where it is damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        table, limits = np.load(folder / "table.npy"), np.load(folder / "limits.npy")
        names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        flat = np.memmap(folder / "pixels.bin", dtype=meta["dtype"], mode="r")
        if len(flat) != meta["values"] or not len(table) == len(limits) == len(names) == meta["count"]:
            raise ValueError("files have other sizes than when they were written")
        return Pictures(
            flat, table[:, 0], table[:, 1:3], int(meta["channels"]), names, table[:, 3], limits,
            meta["content"], meta["stored"], list(meta["skipped"]), bool(meta["alpha"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        if folder.exists():
            say(f"the decoded images in {folder} are damaged ({error}); decoding again")
        return None


class _Build:
    """One build of the cache into `<folder>.partial`, moved to `folder` when it is whole."""

    def __init__(
        self,
        listing: Listing,
        folder: Path,
        channels: int | None,
        size: tuple[int, int] | int | None,
        nearest: bool,
        bad: float,
    ) -> None:
        self.listing, self.folder, self.max_bad_share = listing, folder, bad
        self.channels, self.size, self.nearest = channels, size, nearest
        self.partial = folder.with_suffix(".partial")
        self.first: tuple[str, Picture] | None = None  # the one that the others have to be like

    def run(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        name, total = self.listing.source_name, len(self.listing.names)
        rows: list[tuple[int, int, int, int]] = []
        limits: list[tuple[float, float]] = []
        skipped: list[str] = []
        content, offset, stored = hashlib.sha256(), 0, set()
        progress = Progress(name, total, 0)
        with (
            warnings.catch_warnings(),
            (self.partial / "pixels.bin").open("wb") as file,
            ThreadPoolExecutor(threads()) as pool,
        ):
            warnings.simplefilter("ignore")  # of odd metadata, once per image
            self.first = self._first()
            for start in range(0, total, CHUNK):
                chunk = range(start, min(start + CHUNK, total))
                for i, result in zip(chunk, pool.map(self._one, chunk), strict=True):
                    if isinstance(result, str):
                        skipped.append(result)
                        continue
                    pixels, kind = result
                    stored.add(kind)
                    rows.append((offset, *pixels.shape[:2], i))
                    limits.append((float(pixels.min()), float(pixels.max())))
                    written = pixels.tobytes()
                    content.update(np.array(pixels.shape).tobytes() + written)
                    file.write(written)
                    offset += pixels.size
                progress.show(chunk.stop)
                check_share(name, skipped, total, self.max_bad_share)
                if start == 0:
                    self._check_space(file.tell() * (total - chunk.stop) // len(chunk))
            file.flush()
            os.fsync(file.fileno())
        progress.end(total, len(skipped))
        if not rows:
            raise UserError(f"none of the {total:,} images of {name} decodes ({skipped[0]})")
        assert self.first is not None  # there are rows
        np.save(self.partial / "table.npy", np.array(rows, dtype=np.int64))
        np.save(self.partial / "limits.npy", np.array(limits, dtype=np.float64))
        write_json(self.partial / "names.json", [self.listing.names[row[3]] for row in rows])
        meta = {
            "name": name,
            "count": len(rows),
            "values": offset,
            "dtype": self.first[1].pixels.dtype.name,
            "channels": self.channels or self.first[1].pixels.shape[2],
            "content": content.hexdigest(),
            "stored": stored.pop() if len(stored) == 1 else "",
            "skipped": skipped,
            # of files that have 2 or 4 channels beside no alpha, these are channels like any others
            "alpha": self.channels in (2, 4) and self.first[1].pixels.shape[2] in (1, 3),
        }
        write_json(self.partial / "meta.json", meta)
        shutil.rmtree(self.folder, ignore_errors=True)  # a damaged one
        self.partial.replace(self.folder)

    def _first(self) -> tuple[str, Picture] | None:
        for i, name in enumerate(self.listing.names):
            with suppress(Exception):  # counted and reported when it is decoded
                return name, self.listing.open(i)
        return None

    def _one(self, i: int) -> tuple[Pixels, str] | str:
        """The pixels and the number type of the file, or why there are none; UserError where it is of another kind."""
        name = self.listing.names[i]
        try:
            picture = self.listing.open(i)
            self._check_kind(name, picture)
            pixels = with_channels(picture, self.channels or picture.pixels.shape[2])
            return np.ascontiguousarray(
                pixels if self.size is None else resized(pixels, self.size, nearest=self.nearest)
            ), picture.stored
        except (MemoryError, UserError):
            raise
        except Exception as error:  # whatever a broken file makes a decoder raise
            return f"{name}: {' '.join(str(error).split()) or type(error).__name__}"

    def _check_kind(self, name: str, picture: Picture) -> None:
        assert self.first is not None  # this one opens
        other, like = self.first
        depth, usual = picture.pixels.dtype.name, like.pixels.dtype.name
        if depth != usual:
            raise UserError(
                f"{self.listing.source_name} mixes depths: {other} is {usual} and {name} {depth}; save all as one of them"
            )
        count, usual_count = picture.pixels.shape[2], like.pixels.shape[2]
        if self.channels is None and count != usual_count:
            raise UserError(
                f"{self.listing.source_name} mixes channels: {other} has {usual_count} and {name} {count}; set "
                "data.channels (of sources: data.source_channels) to 1 (grey) or 3 (colour)"
            )

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.partial).free
        if needed > free:
            raise UserError(
                f"{self.listing.source_name} decoded needs some {needed / 1e9:.1f} GB more in {self.partial.parent}, where "
                f"{free / 1e9:.1f} GB are free; set LIT_GAN_CACHE to a larger disk, or lower data.load_size"
            )
