"""What the sources that load through Hugging Face `datasets` share."""

from __future__ import annotations

import glob
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np

from lit_gan.cache import cache_root
from lit_gan.data.order import Integers, Order
from lit_gan.errors import UserError


def datasets_cache() -> str:
    """Where `datasets` keeps what it loads; beside our decoded images, so that one variable moves both."""
    return str(cache_root() / "datasets")


def literal(path: Path) -> str:
    """A pattern that `datasets` resolves to this very path, whatever brackets and stars its name has."""
    return glob.escape(str(path.absolute()))


@contextmanager
def quiet(*, bars: bool = True) -> Iterator[None]:
    """Keep warnings, and with `bars` the bars of conversions that take seconds, off the terminal."""
    import datasets

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    had_bars = datasets.are_progress_bars_disabled() is False
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    if bars:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars and had_bars:
            datasets.enable_progress_bars()


@contextmanager
def offline_without_network() -> Iterator[None]:
    """Tell the hub's client that it is offline where the hub's address does not even resolve.

    On a machine without internet it would otherwise retry for 23 s at every start, before it takes what was
    downloaded earlier, or fails. Behind a proxy names need not resolve, so there it is left alone.
    """
    import datasets
    import huggingface_hub.constants as hub

    host = urlsplit(hub.ENDPOINT).hostname or ""
    if getproxies() or _resolves(host):
        yield
        return
    before = datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE = before


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False


def subset(size: int, max_images: int | None) -> Integers | None:
    """The first `max_images` of a fixed shuffle, in their old order; None for all of them.

    Not the first of the list: folders are sorted by class.
    """
    if max_images is None or max_images >= size:
        return None
    if max_images < 1:
        raise UserError(f"data.max_images={max_images} leaves no image; use at least 1, or null for all")
    chosen, _ = Order(size, seed=0)(np.arange(max_images, dtype=np.int64))
    return np.sort(chosen)
