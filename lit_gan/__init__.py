"""lit-gan: generative adversarial networks on PyTorch Lightning.

The names below are imported when they are first used, so that `import lit_gan` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "AdversarialModule": "lit_gan.module",
    "Sampler": "lit_gan.sample",
    "load": "lit_gan.sample",
}
__all__ = ["AdversarialModule", "Sampler", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'lit_gan' has no attribute '{name}'")
