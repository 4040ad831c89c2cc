"""What W&B has written on this disk about a run: the `.wandb` files that `wandb sync` uploads."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768  # LevelDB's log format: a header, then blocks with records, each with a header of 7 bytes
HEADER = 7
FULL, LAST = 1, 4  # kinds of a part of a record


def records(folder: Path) -> Iterator[Any]:
    """The records of all sittings of a run in its folder `wandb`, oldest first; what a crash has torn off is left out."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    for path in sorted(folder.glob("*run-*/*.wandb")):
        for whole in _messages(path.read_bytes()):
            record = Record()
            record.ParseFromString(whole)
            yield record


def names(folder: Path) -> set[str]:
    """What was logged, and what stands in the summary, by name."""
    found: set[str] = set()
    for record in records(folder):
        kind = record.WhichOneof("record_type")
        items = (
            record.history.item if kind == "history" else record.summary.update if kind == "summary" else ()
        )
        found |= {item.key or item.nested_key[0] for item in items}
    return {name for name in found if not name.startswith("_")}


def _messages(content: bytes) -> Iterator[bytes]:
    position, whole = HEADER, b""
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + HEADER])
        part = content[position + HEADER : position + HEADER + length]
        if len(part) < length:
            return
        whole += part
        position += HEADER + length
        if kind in (FULL, LAST):
            yield whole
            whole = b""
