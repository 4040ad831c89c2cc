"""Pairs of images that show the same thing: halves of a file, two folders of equal names, or columns of a data set."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from lit_gan.data.files import Picture, decoded
from lit_gan.data.hub import Hub, parquet_files
from lit_gan.data.pairs import PairData
from lit_gan.data.ragged import Listing, image_files
from lit_gan.errors import UserError
from lit_gan.metrics.pairs import matched


class Paired(PairData):
    """Sources and the images they should become, of equal height and width (pix2pix: Isola et al. 2017).

    Layout `folders`: `sources` (A) and `path` (B), files of equal names whatever their ending. `halves`: A left and B right
    in each file of `path`. `columns`: two image columns of a hub data set or of parquet files. A becomes B, or with BtoA B
    becomes A.
    """

    def __init__(
        self,
        *,
        path: str = "",  # the images to make, a folder or zip; of halves: of the files; of columns: a hub id or parquet
        sources: str = "",  # of folders: the folder or zip of what they are made from
        layout: Literal["folders", "halves", "columns"] = "folders",
        direction: Literal["AtoB", "BtoA"] = "AtoB",  # A: sources, left halves; B: path, right halves
        config_name: str | None = None,  # of columns: configuration of the data set on the hub
        split: str = "train",  # of columns
        source_column: str | None = None,  # null: the first column of images
        image_column: str | None = None,  # null: the second column of images
        channels: int | None = None,  # of the images; null: as the files, alpha turned white
        source_channels: int | None = None,
        load_size: int | tuple[int, int] | None = None,  # resize to this, [height, width]; null: as they are
        load_side: int | None = None,  # or the shorter side to this, in proportion
        nearest_sources: bool = False,  # resize sources by the nearest pixel: for class indices, or masks
        crop_size: int | tuple[int, int] | None = None,  # train on random parts of this size; null: on wholes
        flip: bool = False,  # mirror half of the pairs
        range: tuple[float, float] | None = None,  # of floats: what becomes -1 and 1; null: measured
        source_range: tuple[float, float] | None = None,
        test: str = "",  # a path as data.path for grids and scores; of columns: a split
        test_sources: str = "",  # of folders: the sources of data.test
        holdout: float = 0,  # pairs to hold out in place of data.test, or a share below 1
        max_images: int | None = None,  # train on so many pairs, always the same; null: on all
        max_bad_share: float = 0.01,  # share of pairs that may fail to decode
        batch_size: int = 1,  # pairs per discriminator update, over all processes
        workers: int = 0,
    ) -> None:
        self.path, self.sources, self.test_sources = path, sources, test_sources
        self.layout, self.direction = layout, direction
        self.config_name, self.split = config_name, split
        self.columns = (source_column, image_column)
        if (bool(test) != bool(test_sources)) and layout == "folders":
            raise UserError(
                "data.test and data.test_sources go together: folders of images and of their sources"
            )
        if layout != "folders" and (sources or test_sources):
            raise UserError(f"data.layout={layout} has both sides in data.path: leave data.sources out")
        super().__init__(
            source_name=path, channels=channels, source_channels=source_channels, load_size=load_size, load_side=load_side,
            crop_size=crop_size, flip=flip, range=range, source_range=source_range, test=test, holdout=holdout,
            max_bad_share=max_bad_share, batch_size=batch_size, workers=workers,
            max_images=max_images, nearest_sources=nearest_sources,
        )  # fmt: skip

    def _listings(self, *, test: bool) -> tuple[Listing | None, Listing]:
        if self.layout == "columns":
            a, b = self._columns(self.test if test else self.split)
        elif self.layout == "halves":
            files = image_files(self.test, "data.test") if test else image_files(self.path, "data.path")
            a, b = files.half("left"), files.half("right")
        else:
            a = image_files(
                *((self.test_sources, "data.test_sources") if test else (self.sources, "data.sources"))
            )
            b = image_files(*((self.test, "data.test") if test else (self.path, "data.path")))
            b = b.chosen(matched(a, b))
        return (a, b) if self.direction == "AtoB" else (b, a)

    def _columns(self, split: str) -> tuple[Listing, Listing]:
        if not self.path:
            raise UserError(
                "data.path is not set; give a hub id, or parquet files with two columns of images"
            )
        hub = Hub(path=self.path, config_name=self.config_name, split=split)
        local = Path(self.path).expanduser()
        if local.exists():
            files = parquet_files(self.path, local, split)
            table = hub.local_table(files)
            origin: dict[str, object] = {
                "files": [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
            }
        else:
            table = hub.hub_table()
            origin = {
                "path": self.path,
                "config_name": self.config_name,
                "fingerprint": str(table._fingerprint),
            }
        names = image_columns(self.path, table.features, self.columns)
        a, b = (_column(self.path, table, name, {"source": "columns", "column": name, "split": split, **origin})
                for name in names)  # fmt: skip
        return a, b


def image_columns(path: str, features: Any, given: tuple[str | None, str | None]) -> tuple[str, str]:
    """The columns of sources and of images: those that are named, else the first two of images that are not."""
    from datasets import Image as ImageFeature

    for key, name in zip(("source_column", "image_column"), given, strict=True):
        if name is not None and name not in features:
            raise UserError(f"data.{key}={name} is no column of {path}; it has {', '.join(features)}")
    free = [
        str(name)
        for name, feature in features.items()
        if name not in given
        and (
            isinstance(feature, ImageFeature)
            or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})
        )
    ]
    found = [name if name is not None else (free.pop(0) if free else None) for name in given]
    if found[0] is None or found[1] is None:
        raise UserError(
            f"{path} has not two columns of images among {', '.join(features)}; name them: data.source_column=NAME "
            "data.image_column=NAME"
        )
    return found[0], found[1]


def _column(path: str, table: Any, column: str, origin: dict[str, object]) -> Listing:
    from datasets import Image as ImageFeature

    encoded = table.select_columns(column).cast_column(column, ImageFeature(decode=False))
    return Listing(
        f"{path} ({column})", [f"row {i}" for i in range(len(table))], partial(_cell, encoded, column), origin
    )


def _cell(encoded: Any, column: str, i: int) -> Picture:
    from datasets import Image as ImageFeature

    row = encoded[i][column]
    if row is None:
        raise ValueError("the row has no image")
    if row["bytes"] is not None:
        return decoded(row["bytes"])
    if Path(row["path"]).exists():
        return decoded(Path(row["path"]).read_bytes())
    buffer = BytesIO()  # a path inside an archive, which datasets alone can open
    ImageFeature().decode_example(row).save(buffer, "PNG")
    return decoded(buffer.getvalue())
