"""A folder or zip file of images, listed by Hugging Face `datasets`' imagefolder."""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from lit_gan.data.base import ImageData
from lit_gan.data.decoded import Encoded, Images, Labels, Source, decode, decoding
from lit_gan.data.hugging_face import datasets_cache, literal, quiet, subset
from lit_gan.data.order import Integers
from lit_gan.data.vectors import from_table
from lit_gan.errors import UserError

FILE_COLUMNS = ("file", "file_name", "filename", "image", "path")
LABEL_COLUMNS = ("label", "labels", "class")


class Folder(ImageData):
    """A folder or zip of images, with class subfolders or a labels.csv. Natural size: the first image's.

    Classes are subfolders of the first level (below folders that hold everything), two at least, with every
    image in one of them; otherwise the images are unlabelled. A `labels.csv` beside them has the columns file
    and label, or these as its first two. Hidden files are left out; the formats are those of `datasets`'
    imagefolder.

    With `condition` other than class, all columns of the table but the files' are numbers, and labels are vectors.
    """

    def __init__(
        self,
        *,
        path: str = "",  # a folder or a .zip
        image_size: int | tuple[int, int] | None = 64,  # pixels, or [height, width]; null: as the first image
        channels: int = 3,  # 1 grey, 3 RGB, 4 RGBA; transparency becomes white below 4
        crop: Literal["center", "none"] = "center",  # cut to the aspect ratio of image_size, or squash to it
        labels: str | None = None,  # a CSV of file paths below `path` and labels; null: a labels.csv in it
        condition: Literal["class", "multi-hot", "continuous"] = "class",  # labels: classes, or vectors
        flip: bool = False,  # mirror half of the images
        max_images: int | None = None,  # a random part of them, always the same
        max_bad_share: float = 0.01,  # share of images that may fail to decode
        batch_size: int = 64,  # images per discriminator update, over all processes
        workers: int = 0,
    ) -> None:
        super().__init__(source_name=path, batch_size=batch_size, flip=flip, workers=workers)
        self.path, self.labels_file, self.condition = path, labels, condition
        self.decoding = decoding(image_size, channels, crop)
        self.max_images = max_images
        self.max_bad_share = max_bad_share

    def _load(self) -> Images:
        if not self.path:
            raise UserError("data.path is not set; give a folder or zip of images: data.path=photos/")
        root = Path(self.path).expanduser()
        if not root.exists():
            raise UserError(
                f"data.path={self.path} does not exist (looked for {root.absolute()}); check the path"
            )
        if root.is_file() and not zipfile.is_zipfile(root):
            raise UserError(f"data.path={self.path} is neither a folder nor a zip file; give one of them")
        origin: dict[str, object] = {
            "source": "folder",
            "path": str(root.resolve()),
            "files": files_in(root) if root.is_dir() else [_stamp(root, root.name)],
            "max_images": self.max_images,
        }
        table = None if self.labels_file is None else Path(self.labels_file).expanduser()
        if table is not None:
            if not table.is_file():
                raise UserError(
                    f"data.labels={self.labels_file} is no file (looked for {table.absolute()}); check it"
                )
            origin["labels"] = _stamp(table, str(table.resolve()))
        if self.condition != "class":
            origin["condition"] = self.condition
        return decode(self.source_name, origin, partial(self._open, root), self.decoding, self.max_bad_share)

    def _open(self, root: Path) -> Source:
        listing = _zip_listing(root) if root.is_file() else _folder_listing(root)
        if not listing.names:
            raise UserError(
                f"data.path={self.path} holds no images that can be read (.png, .jpg, .webp, ...), and "
                f"{listing.others:,} other files; check the path"
            )
        labels, class_names = self._labels(listing)
        names, chosen = listing.names, subset(len(listing.names), self.max_images)
        if chosen is not None:
            names, labels = [names[i] for i in chosen], None if labels is None else labels[chosen]
        return Source(
            size=len(names),
            read=lambda start, stop: [
                Encoded(name, partial(listing.open, name)) for name in names[start:stop]
            ],
            labels=labels,
            class_names=class_names,
            names=names,
            condition=self.condition,
        )

    def _labels(self, listing: Listing) -> tuple[Labels | None, tuple[str, ...]]:
        """Of all images, and the names of the classes or columns."""
        given = self.labels_file
        if given is not None:
            folder, text = "", Path(given).expanduser().read_text(encoding="utf-8-sig")
            where = f"data.labels={given}"
        elif self.condition == "class":
            return labels_of(self.path, listing.names, listing.labels_csv)
        else:
            found = next((folder for folder in _around(listing.names) if folder in listing.labels_csv), None)
            if found is None:
                raise UserError(
                    f"data.condition={self.condition}: {self.path} has no labels.csv; give a table: data.labels=FILE.csv"
                )
            folder, text = found, listing.labels_csv[found]
            where = f"{self.path}: {folder + '/' * bool(folder)}labels.csv"
        names = [name[len(folder) + bool(folder) :] for name in listing.names]
        if self.condition == "class":
            return _from_table(self.path, names, read_labels(text, where))
        return from_table(text, names, FILE_COLUMNS, self.condition, where)


@dataclass(frozen=True)
class Listing:
    """The images of a folder or zip by relative path, sorted."""

    names: list[str]
    open: Callable[[str], Image.Image]
    labels_csv: dict[str, str]  # folder ("" for the root) -> content of a labels.csv in it
    others: int = 0  # files that are no images


def files_in(root: Path) -> list[tuple[str, int, int]]:
    """(relative path, size, mtime in ns) of all files that are not hidden: tells when a folder changed."""
    found, visited = [], set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        here = Path(folder)
        if (real := here.resolve()) in visited:  # a link to a folder above it
            subfolders.clear()
            continue
        visited.add(real)
        found += [
            _stamp(here / name, (here / name).relative_to(root).as_posix())
            for name in files
            if name[0] != "."
        ]
    return sorted(found)


def _stamp(path: Path, name: str) -> tuple[str, int, int]:
    stat = path.stat() if path.exists() else path.lstat()  # a dangling link is one image that does not decode
    return name, stat.st_size, stat.st_mtime_ns


def _real_folders(root: Path, files: Sequence[tuple[str, int, int]]) -> dict[Path, PurePosixPath]:
    """Where `root` and the linked folders below it lie, to their relative paths: `**` passes links by."""
    below = {parent for name, _, _ in files for parent in PurePosixPath(name).parents}
    return {(root / path).resolve(): path for path in sorted(below) if (root / path).is_symlink()} | {
        root.resolve(): PurePosixPath(".")
    }


def _listed(patterns: list[str]) -> list[str]:
    """The paths that imagefolder finds under the patterns; [] where it finds nothing.

    `drop_labels`: it would take the innermost folder for the class, and none at all if depths differ. A
    single split, because it would otherwise leave out what lies beside a folder called `train`.
    """
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    try:
        with quiet():
            found = load_dataset(
                "imagefolder",
                data_files={"train": patterns},
                split="train",
                cache_dir=datasets_cache(),
                drop_labels=True,
                drop_metadata=True,
            ).cast_column("image", ImageFeature(decode=False))
    except (FileNotFoundError, ValueError):  # how it says that there are no files, or no images among them
        return []
    return [row["path"] for batch in found.iter(batch_size=10_000) for row in batch["image"]]


def _folder_listing(root: Path) -> Listing:
    top = root.resolve()
    files = files_in(top)
    everything = [name for name, _, _ in files]
    real = _real_folders(top, files)
    names = []
    for path in map(Path, _listed([f"{literal(folder)}/**" for folder in real])):
        base = next(parent for parent in path.parents if parent in real)
        names.append((real[base] / path.relative_to(base)).as_posix())
    names = sorted(set(names))
    tables = [name for name in everything if PurePosixPath(name).name == "labels.csv"]
    labels_csv = {_parent(name): (top / name).read_text(encoding="utf-8-sig") for name in tables}
    return Listing(names, lambda name: Image.open(top / name), labels_csv, len(everything) - len(names))


def _zip_listing(root: Path) -> Listing:
    """As the folder's, but read through one open archive.

    `datasets` would open it, and read its whole directory, once per image: 0.27 s each in a zip of 20,000.
    """
    archive = zipfile.ZipFile(root)
    extensions = Image.registered_extensions()
    paths = [path.removeprefix("zip://").rpartition("::")[0] for path in _listed([literal(root.resolve())])]
    names = sorted(path for path in paths if PurePosixPath(path).suffix.lower() in extensions)
    entries = [name for name in archive.namelist() if not name.endswith("/")]
    tables = [name for name in entries if PurePosixPath(name).name == "labels.csv" and "__MACOSX" not in name]
    labels_csv = {_parent(name): archive.read(name).decode("utf-8-sig") for name in tables}
    return Listing(
        names, lambda name: Image.open(BytesIO(archive.read(name))), labels_csv, len(entries) - len(names)
    )


def _parent(name: str) -> str:
    parent = PurePosixPath(name).parent.as_posix()
    return "" if parent == "." else parent


def labels_of(
    path: str, names: Sequence[str], tables: dict[str, str]
) -> tuple[Integers | None, tuple[str, ...]]:
    """Class indices of the images and the class names, from a labels.csv or from first-level subfolders."""
    parts = [PurePosixPath(name).parts for name in names]
    top = _common([p[:-1] for p in parts])  # folders that hold everything are no classes
    for folder in _around(names):
        if folder in tables:
            rows = read_labels(tables[folder], where=f"{path}: {folder + '/' * bool(folder)}labels.csv")
            prefix = len(folder) + bool(folder)
            return _from_table(path, [name[prefix:] for name in names], rows)
    if all(len(p) > len(top) + 1 for p in parts):
        classes = [p[len(top)] for p in parts]
        if len(set(classes)) >= 2:
            return class_indices(classes)
    return None, ()


def _around(names: Sequence[str]) -> list[str]:
    """The folders that hold all images, from the root ("") on."""
    top = _common([PurePosixPath(name).parts[:-1] for name in names])
    return ["/".join(top[:depth]) for depth in range(len(top) + 1)]


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    first, last = min(paths), max(paths)  # what these share, all share
    depth = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[: min(depth, len(last))]


def read_labels(text: str, where: str) -> dict[str, str]:
    """file -> label from a CSV with columns file and label, or with these as its first two and no header."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if any(row)]
    if not rows or min(len(row) for row in rows) < 2:
        raise UserError(f"{where} needs two columns in every row: file,label")
    header = [cell.lower() for cell in rows[0]]
    file_column = next((header.index(name) for name in FILE_COLUMNS if name in header), None)
    label_column = next((header.index(name) for name in LABEL_COLUMNS if name in header), None)
    if file_column is None or label_column is None:
        has_header = not PurePosixPath(rows[0][0]).suffix  # a file name has one
        return {row[0]: row[1] for row in rows[has_header:]}
    widest = max(file_column, label_column)
    if short := next((row for row in rows if len(row) <= widest), None):
        raise UserError(f"{where}: the row {','.join(short)!r} has no file or no label")
    return {row[file_column]: row[label_column] for row in rows[1:]}


def _from_table(path: str, names: list[str], rows: dict[str, str]) -> tuple[Integers, tuple[str, ...]]:
    rows = {PurePosixPath(file).as_posix(): label for file, label in rows.items()}
    missing = [name for name in names if name not in rows]
    if missing:
        raise UserError(
            f"labels.csv of {path} has no row for {len(missing):,} of {len(names):,} images "
            f"({missing[0]}); add them (file paths relative to labels.csv), or move labels.csv away"
        )
    return class_indices([rows[name] for name in names])


def class_indices(classes: Iterable[object]) -> tuple[Integers, tuple[str, ...]]:
    """Any labels to 0..K-1 and their names, sorted: by value if all are whole numbers, else as text."""
    texts = [str(name) for name in classes]
    whole = all(text.lstrip("-").isdecimal() for text in set(texts))
    names = sorted(set(texts), key=int if whole else None)
    index = {name: i for i, name in enumerate(names)}
    return np.array([index[text] for text in texts], dtype=np.int64), tuple(names)
