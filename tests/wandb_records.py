"""What W&B has written of a run, waited for: its own process goes on writing for a moment after `finish`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lit_gan import wandb_file


def records(folder: Path) -> list[Any]:
    """The records of a finished run in its folder `wandb`."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = list(wandb_file.records(folder))
        sittings = len(list(folder.glob("*run-*/")))
        if found and sum(record.WhichOneof("record_type") == "exit" for record in found) == sittings:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{folder}: W&B has not written the end of a run")
