"""Which files `lit-gan translate` reads and where their translations go: never over a source, nor over another result."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from lit_gan.data.files import SUFFIXES, Form, check_format
from lit_gan.errors import UserError


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
        if out.resolve() == root.resolve():
            raise UserError(f"{out} is the folder of the images themselves: give another place")
        inner = _below(out, root)  # of an earlier call: what it made is no source
        found = [
            (path, str(name))
            for path in sorted(root.rglob("*"))
            if path.suffix.lower() in SUFFIXES and path.is_file()
            for name in [path.relative_to(root)]
            if not any(part.startswith(".") for part in name.parts)
            and (inner is None or not name.is_relative_to(inner))
        ]
    if not found:
        raise UserError(f"{inputs} holds no images ({', '.join(SUFFIXES)}): check the path")
    names: dict[str, Path] = {}
    for path, name in found:
        if name in names:
            raise UserError(f"{names[name]} and {path} would both become {out / name}: translate them apart")
        names[name] = path
        yield path, out / name


def _below(inner: Path, outer: Path) -> Path | None:
    """The path from one folder to another inside it; None where it is not inside."""
    try:
        return inner.resolve().relative_to(outer.resolve())
    except ValueError:
        return None


def place_for(target: Path, suffix: str | None, form: Form) -> tuple[Path, str]:
    """`target` with the ending that was asked for, or else one that can hold the result; and a line if it had to change."""
    if suffix is not None:
        check_format(suffix, form)  # before the work is done
        return target.with_suffix(suffix), ""
    own = target.suffix.lower()
    for ending in (own, ".png", ".tif", ".npy"):
        try:
            check_format(ending, form)
        except ValueError:
            continue
        if ending == own:
            break
        return target.with_suffix(
            ending
        ), f"written as {ending}, since {target.suffix} cannot hold the result"
    return target, ""


class Taken:
    """Files that no result may replace: those that are read in this call, and those that it has written.

    Known by name and by what the name leads to: links, and names that differ in case alone, may be one file.
    """

    def __init__(self, sources: Iterable[Path]) -> None:
        self._what: dict[Path | tuple[int, int], str] = {}
        for source in sources:
            self.add(source, "an image to translate")

    def add(self, path: Path, what: str) -> None:
        for key in self._keys(path):
            self._what.setdefault(key, what)

    def refuse(self, path: Path) -> None:
        """Raise `ValueError` where `path` is one of them."""
        what = next((self._what[key] for key in self._keys(path) if key in self._what), None)
        if what is not None:
            raise ValueError(f"would replace {path}, {what}: give another place, or another --format")

    @staticmethod
    def _keys(path: Path) -> list[Path | tuple[int, int]]:
        keys: list[Path | tuple[int, int]] = [path.resolve()]
        try:
            found = path.stat()
        except OSError:
            return keys
        return [*keys, (found.st_dev, found.st_ino)] if found.st_ino else keys


__all__ = ["Taken", "jobs", "place_for"]
