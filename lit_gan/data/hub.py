"""Image data sets of the Hugging Face hub, or parquet files in the same schema, loaded by `datasets`."""

from __future__ import annotations

import re
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from lit_gan.conditions import Kind
from lit_gan.data.base import ImageData
from lit_gan.data.decoded import Encoded, Images, Labels, Source, decode, decoding
from lit_gan.data.folder import class_indices
from lit_gan.data.hugging_face import datasets_cache, literal, offline_without_network, quiet, subset
from lit_gan.data.order import Integers
from lit_gan.data.vectors import Floats, checked
from lit_gan.errors import UserError

IMAGE_COLUMNS = ("image", "img", "images", "jpg", "png", "picture")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w.-]+)?")


class Hub(ImageData):
    """A data set of the Hugging Face hub, or parquet files in its schema. Natural size: the first image's.

    Columns are found by their type: the first image; the first class label, else whole numbers named like a
    label. Data that were downloaded once are found without a network (at once with HF_HUB_OFFLINE=1).
    """

    def __init__(
        self,
        *,
        path: str = "",  # a hub id such as uoft-cs/cifar10, a .parquet file, or a folder of them
        config_name: str | None = None,  # configuration of the data set on the hub, where it has several
        split: str = "train",
        image_column: str | None = None,  # null: found by its type
        label_column: str | list[str] | None = None,  # null: found by its type; none: no labels; or several
        condition: Literal["class", "multi-hot", "continuous"] = "class",  # labels: classes, or vectors
        image_size: int
        | tuple[int, int]
        | None = None,  # pixels, or [height, width]; null: as the first image
        channels: int = 3,  # 1 grey, 3 RGB, 4 RGBA; transparency becomes white below 4
        crop: Literal["center", "none"] = "center",  # cut to the aspect ratio of image_size, or squash to it
        flip: bool = False,  # mirror half of the images
        max_images: int | None = None,  # a random part of them, always the same
        max_bad_share: float = 0.01,  # share of images that may fail to decode
        batch_size: int = 64,  # images per discriminator update, over all processes
        workers: int = 0,
    ) -> None:
        super().__init__(source_name=path, batch_size=batch_size, flip=flip, workers=workers)
        self.path = path
        self.config_name = config_name
        self.split = split
        self.image_column = image_column
        self.label_column, self.condition = label_column, condition
        self.decoding = decoding(image_size, channels, crop)
        self.max_images = max_images
        self.max_bad_share = max_bad_share

    def _load(self) -> Images:
        if not self.path:
            raise UserError(
                "data.path is not set; give a hub id (data.path=uoft-cs/cifar10) or parquet files"
            )
        local = Path(self.path).expanduser()
        origin: dict[str, object] = {
            "source": "hub",
            "split": self.split,
            "columns": [self.image_column, self.label_column],
            "max_images": self.max_images,
        }
        if self.condition != "class":
            origin["condition"] = self.condition
        if local.exists():
            files = parquet_files(self.path, local, self.split)
            stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
            opened = partial(self._open_local, files)
            return decode(
                self.source_name, {**origin, "files": stats}, opened, self.decoding, self.max_bad_share
            )
        table = self.hub_table()
        origin |= {"path": self.path, "config_name": self.config_name, "fingerprint": str(table._fingerprint)}
        return decode(
            self.source_name, origin, partial(self._source, table), self.decoding, self.max_bad_share
        )

    def _open_local(self, files: list[Path]) -> Source:
        return self._source(self.local_table(files))

    def local_table(self, files: list[Path]) -> Any:
        """The rows of parquet files."""
        from datasets import load_dataset

        try:
            with quiet():
                return load_dataset(
                    "parquet",
                    data_files={"train": [literal(file) for file in files]},
                    split="train",
                    cache_dir=datasets_cache(),
                )
        except Exception as error:  # pyarrow and datasets have no common error for a broken file
            cause = error.__cause__ or error
            raise UserError(
                f"data.path={self.path} cannot be read as parquet ({_first_line(cause)})"
            ) from error

    def hub_table(self) -> Any:
        """The data set of the hub, downloaded or as it was before."""
        from datasets import load_dataset

        local = Path(self.path).expanduser()
        if not _HUB_ID.fullmatch(self.path) or self.path.endswith(".parquet"):
            raise UserError(
                f"data.path={self.path} does not exist (looked for {local.absolute()}); check the path"
            )
        try:
            with offline_without_network(), quiet(bars=False):
                return load_dataset(self.path, self.config_name, split=self.split, cache_dir=datasets_cache())
        except Exception as error:  # a dozen kinds: no network, no such name, private, no such split, ...
            raise UserError(
                f"data.path={self.path} could not be loaded from the hub ({_first_line(error)}), "
                "and no local file has that name; check the name, data.split and the network, or give local "
                "parquet files: data.path=FILE_OR_FOLDER"
            ) from error

    def _source(self, table: Any) -> Source:
        from datasets import Image as ImageFeature

        column = find_image_column(self.path, table.features, self.image_column)
        chosen = subset(len(table), self.max_images)
        if chosen is not None:
            table = table.select(chosen)
        encoded = table.select_columns(column).cast_column(column, ImageFeature(decode=False))
        decoder = ImageFeature()

        def opened(row: dict[str, Any] | None) -> Image.Image:
            if row is None:
                raise ValueError("the row has no image")
            if row["bytes"] is not None:
                return Image.open(BytesIO(row["bytes"]))
            image: Image.Image = decoder.decode_example(row)  # a path, perhaps inside an archive
            return image

        def read(start: int, stop: int) -> list[Encoded]:
            rows = encoded[start:stop][column]
            return [Encoded(f"row {start + i}", partial(opened, row)) for i, row in enumerate(rows)]

        labels, class_names = self._labels(table)
        return Source(len(table), read, labels, class_names, condition=self.condition)

    def _labels(self, table: Any) -> tuple[Labels | None, tuple[str, ...]]:
        given = self.label_column
        if self.condition != "class":
            return vectors_in(self.path, table, given, self.condition)
        if isinstance(given, list):
            raise UserError(
                f"data.label_column={given}: classes are in one column; several make a vector with "
                "data.condition=multi-hot or continuous"
            )
        label = find_label_column(self.path, table.features, given)
        return (None, ()) if label is None else labels_in(self.path, table, label)


def parquet_files(path: str, local: Path, split: str) -> list[Path]:
    """The file itself, or of a folder `<split>*.parquet`, `data/<split>-*.parquet`, else all there are."""
    if local.is_file():
        return [local]
    for pattern in (f"{split}*.parquet", f"data/{split}-*.parquet", f"{split}/*.parquet", "**/*.parquet"):
        if files := sorted(file for file in local.glob(pattern) if not file.name.startswith(".")):
            return files
    raise UserError(
        f"data.path={path} holds no .parquet files; check the path, or use data=folder for image files"
    )


def find_image_column(path: str, features: Any, given: str | None) -> str:
    """The column that holds encoded images: by its feature type, or as raw bytes under a usual name."""
    from datasets import Image as ImageFeature
    from datasets import Value

    if given is not None:
        return _existing(path, features, given, "image_column")
    for name, feature in features.items():
        if isinstance(feature, ImageFeature):
            return str(name)
    for (
        name,
        feature,
    ) in features.items():  # without the hub's metadata an image is a struct of bytes and path
        if isinstance(feature, dict) and set(feature) == {"bytes", "path"}:
            return str(name)
    for name in IMAGE_COLUMNS:
        if isinstance(feature := features.get(name), Value) and "binary" in feature.dtype:
            return name
    raise UserError(
        f"{path} has no column of images among {', '.join(features)}; name it: data.image_column=NAME"
    )


def find_label_column(path: str, features: Any, given: str | None) -> str | None:
    """The column of class labels; None for data without."""
    from datasets import ClassLabel, Value

    if given is not None:
        return None if given.lower() == "none" else _existing(path, features, given, "label_column")
    for name, feature in features.items():
        if isinstance(feature, ClassLabel):
            return str(name)
    for name in LABEL_COLUMNS:
        if isinstance(feature := features.get(name), Value) and feature.dtype.lstrip("u").startswith("int"):
            return name
    return None


def _existing(path: str, features: Any, name: str, key: str) -> str:
    if name not in features:
        raise UserError(f"data.{key}={name} is no column of {path}; it has {', '.join(features)}")
    return name


def labels_in(path: str, table: Any, column: str) -> tuple[Integers, tuple[str, ...]]:
    """Class indices [N] and names; those of a ClassLabel column as they are, other values sorted."""
    from datasets import ClassLabel

    values = list(table.select_columns(column)[:][column])
    feature = table.features[column]
    unlabelled = sum(value is None or (isinstance(feature, ClassLabel) and value < 0) for value in values)
    if unlabelled:
        raise UserError(
            f"{unlabelled:,} of {len(values):,} rows of {path} have no {column}; choose a data.split, or "
            "train without labels: data.label_column=none"
        )
    if isinstance(feature, ClassLabel):
        return np.asarray(values, dtype=np.int64), tuple(feature.names)
    if isinstance(values[0], (list, dict, float)):
        raise UserError(
            f"data.label_column={column} of {path} holds no classes but {type(values[0]).__name__}s; numbers make a "
            "vector with data.condition=multi-hot or continuous"
        )
    return class_indices(values)


def vectors_in(
    path: str, table: Any, given: str | list[str] | None, kind: Kind
) -> tuple[Floats, tuple[str, ...]]:
    """Vectors [N, K] and the names of their numbers: of columns of numbers, or of one column of lists as long."""
    if not given or given == "none":
        raise UserError(
            f"data.condition={kind} needs data.label_column=[NAME,...], columns of numbers or one of lists; {path} has "
            f"{', '.join(table.features)}"
        )
    names = given.split(",") if isinstance(given, str) else given
    for name in names:
        _existing(path, table.features, name, "label_column")
    where, ids = f"data.label_column of {path}", [f"row {i}" for i in range(len(table))]
    columns = [list(table.select_columns(name)[:][name]) for name in names]
    if len(names) == 1 and isinstance(columns[0][0], list):
        rows = columns[0]
        names = [f"{names[0]} {i}" for i in range(len(rows[0]))]
    else:
        rows = [list(row) for row in zip(*columns, strict=True)]
    return checked(rows, names, ids, kind, where), tuple(names)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
