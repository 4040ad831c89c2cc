"""Where decoded data, real statistics and weights are kept between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_root() -> Path:
    """`LIT_GAN_CACHE`, or `lit-gan` in the user's cache folder; not created here."""
    if chosen := os.environ.get("LIT_GAN_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lit-gan"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "lit-gan" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "lit-gan"
