"""Every test: one thread, a fixed seed, its own cache, no network, no Weights & Biases account."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("WANDB_API_KEY", None)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the session: decoded digits and their classifier are made once."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["LIT_GAN_CACHE"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def _own_world(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import torch

    monkeypatch.setenv("LIT_GAN_CACHE", str(cache))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
