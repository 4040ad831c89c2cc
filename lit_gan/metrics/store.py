"""Arrays kept between runs: `.npz` without pickle, written whole or not at all, checked when they are read.

An entry is never trusted for its name: its description must equal the one asked for, and a damaged file
counts as none and is made anew. A cache folder that cannot be written costs time, never a run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

if TYPE_CHECKING:
    from lit_gan.metrics.sums import Arrays  # imports torch

log = logging.getLogger(__name__)

Description = Mapping[str, object]  # JSON-able

_DESCRIPTION = "description"


def content_key(description: Description) -> str:
    """sha256 of the description as canonical JSON."""
    return hashlib.sha256(_canonical(description)).hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time for a path; look for the entry again within: another may have made it."""
    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        log.warning("no lock beside %s (%s): working without", path, error)
    try:
        yield
    finally:
        lock.release()


def save(path: Path, arrays: Arrays, description: Description) -> None:
    """Writes the entry by renaming a whole temporary file; a full or read-only disk is logged, not raised."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:16]}-", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **{_DESCRIPTION: np.frombuffer(_canonical(description), np.uint8)}, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        log.warning(
            "%s could not be written (%s): it will be computed again; LIT_GAN_CACHE chooses a folder",
            path,
            error,
        )
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def load(path: Path, description: Description) -> Arrays | None:
    """The entry's arrays, or None if there is none, it is damaged, or it describes something else."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as entry:
            arrays: dict[str, np.ndarray[Any, Any]] = {name: entry[name] for name in entry.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        log.warning("%s is damaged (%s): it is made anew", path, error)
        return None
    found = arrays.pop(_DESCRIPTION, np.empty(0, np.uint8)).tobytes()
    if found != _canonical(description):
        log.warning("%s describes something else: it is made anew", path)
        return None
    return arrays


def _canonical(description: Description) -> bytes:
    return json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
