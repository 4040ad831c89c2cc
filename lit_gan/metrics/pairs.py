"""Which real belongs to which fake, for the scores that compare them one to one.

A module whose fakes have each a real that they should be says so by a method `partners(numbers) -> positions`: the reals'
positions in the data [B] for fakes numbered so. A generator from noise has no such method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from posixpath import commonpath
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lit_gan.errors import UserError, listed

if TYPE_CHECKING:
    from lit_gan.metrics.extractors import Source
    from lit_gan.sampling import Sampleable


class Paired(Protocol):
    """What `psnr` and the like need of a module."""

    def partners(self, numbers: Sequence[int]) -> NDArray[Any]: ...


class Named(Protocol):
    """Images that have names: a prepared source, or a list of files."""

    @property
    def source_name(self) -> str: ...

    @property
    def names(self) -> list[str] | None: ...

    @property
    def skipped(self) -> list[str]: ...


def paired(module: Sampleable) -> bool:
    sources = getattr(module, "sources", None)  # of a translator
    return hasattr(module, "partners") or (sources is not None and sources.paired)


def reals_of(module: Sampleable, data: Source, numbers: Sequence[int]) -> Tensor:
    """The reals [B, C, H, W], as stored, that fakes `numbers` should be."""
    sources = getattr(module, "sources", None)
    positions = cast("Paired", module).partners(numbers) if sources is None else sources.positions(numbers)
    return data.real_batch(positions.tolist())[module.real_key]


def matched(fakes: Named, reals: Named) -> NDArray[np.int64]:
    """The position in `reals` of the image that each of `fakes` should be: the one of its name, whatever its format.

    A name is the path below the folders that hold everything. Images that did not decode count as missing: a pair has
    two sides or none.
    """
    fake_names, real_names = (_names(side) for side in (fakes, reals))
    lacking = [
        f"{side.source_name} lacks {listed(names)}"
        for side, names in (
            (fakes, sorted(set(real_names) - set(fake_names))),
            (reals, sorted(set(fake_names) - set(real_names))),
        )
        if names
    ]
    if lacking:
        unread = len(fakes.skipped) + len(reals.skipped)
        also = (
            f" ({unread} images do not decode, such as {(fakes.skipped + reals.skipped)[0]})"
            if unread
            else ""
        )
        raise UserError(
            f"images are paired by their names, and {'; '.join(lacking)}{also}: give both folders the same images"
        )
    position = {name: index for index, name in enumerate(real_names)}
    return np.array([position[name] for name in fake_names], dtype=np.int64)


def _names(side: Named) -> list[str]:
    """Paths without suffix, below the folders that hold everything."""
    if side.names is None:
        raise UserError(
            f"images are paired by their names, and {side.source_name} has none: use folders or zip files of images"
        )
    paths = [PurePosixPath(name) for name in side.names]
    top = commonpath([path.parent.as_posix() for path in paths])
    names = [path.relative_to(top).with_suffix("").as_posix() for path in paths]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UserError(
            f"images are paired by their names without the ending, and {side.source_name} has {listed(twice)} more "
            "than once: leave one of each"
        )
    return names
