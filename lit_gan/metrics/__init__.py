"""Scores of a generator: metrics, feature extractors, cached statistics of the real data, and the protocol.

Importing this package imports no torch: the two dictionaries are for the schema and the command line, and
`from lit_gan.metrics import FrechetDistance` loads the class when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

METRICS = {
    "fid": "lit_gan.metrics.frechet:FrechetDistance",
    "kid": "lit_gan.metrics.kernel:KernelDistance",
    "is": "lit_gan.metrics.inception_score:InceptionScore",
    "modes": "lit_gan.metrics.coverage:ClassCoverage",
    "pr": "lit_gan.metrics.manifold:PrecisionRecall",
    "dc": "lit_gan.metrics.manifold:DensityCoverage",
    "authenticity": "lit_gan.metrics.memorisation:Authenticity",
    "mifid": "lit_gan.metrics.memorisation:MemorisationFID",
    "cmmd": "lit_gan.metrics.cmmd:CMMD",
    "fid-infinity": "lit_gan.metrics.infinity:InfiniteFID",
    "class-fid": "lit_gan.metrics.per_class:ClassFID",
    "ndb": "lit_gan.metrics.bins:BinDistance",
    "toy-modes": "lit_gan.metrics.toy_modes:ModeQuality",
    "psnr": "lit_gan.metrics.paired:PSNR",
    "ssim": "lit_gan.metrics.paired:SSIM",
    "ms-ssim": "lit_gan.metrics.paired:MSSSIM",
    "psnr-y": "lit_gan.metrics.paired:PSNRY",
    "ssim-y": "lit_gan.metrics.paired:SSIMY",
    "lpips": "lit_gan.metrics.paired:LPIPS",
    "cycle": "lit_gan.metrics.cycle:CycleError",
    "lpips-diversity": "lit_gan.metrics.diversity:LPIPSDiversity",
    "ppl": "lit_gan.metrics.path_length:PerceptualPathLength",
}

# What `lit-gan list metrics` says of those that share a module; of the others it is the first line of theirs.
ABOUT = {
    "pr": "Precision and recall: shares of fakes near reals, and of reals near fakes",
    "dc": "Density and coverage: `pr` without its weakness for outliers",
    "authenticity": "Share of fakes that are no copies of reals",
    "mifid": "FID over a penalty for copies of reals",
    "psnr": "Peak signal-to-noise ratio of pairs, in dB",
    "ssim": "Structural similarity of pairs (Wang et al. 2004)",
    "ms-ssim": "Structural similarity of pairs at five scales, from 176 pixels on",
    "psnr-y": "PSNR of the luminance without the border, as super-resolution measures",
    "ssim-y": "SSIM of the luminance without the border, as super-resolution measures",
    "lpips": "Perceptual distance of pairs (Zhang et al. 2018)",
}

EXTRACTORS = {
    "inception": "lit_gan.metrics.inception:Inception",
    "dinov2": "lit_gan.metrics.dinov2:DinoV2",
    "clip": "lit_gan.metrics.clip:Clip",
    "timm:NAME": "lit_gan.metrics.vision:TimmModel",  # NAME: one of timm.list_models()
    "classifier": "lit_gan.metrics.classifier:Classifier",
    "pixels": "lit_gan.metrics.pixels:Pixels",
}

_PUBLIC = {
    target.partition(":")[2]: target.partition(":")[0]
    for target in (
        *METRICS.values(),
        *EXTRACTORS.values(),
        "lit_gan.metrics.extractors:Extractor",
        "lit_gan.metrics.extractors:build_extractor",
        "lit_gan.metrics.lpips:PerceptualNetwork",
        "lit_gan.metrics.lpips:build_lpips",
        "lit_gan.metrics.protocol:Protocol",
        "lit_gan.metrics.protocol:Score",
        "lit_gan.metrics.protocol:log_values",
    )
}

if TYPE_CHECKING:
    from lit_gan.metrics.bins import BinDistance
    from lit_gan.metrics.classifier import Classifier
    from lit_gan.metrics.clip import Clip
    from lit_gan.metrics.cmmd import CMMD
    from lit_gan.metrics.coverage import ClassCoverage
    from lit_gan.metrics.cycle import CycleError
    from lit_gan.metrics.dinov2 import DinoV2
    from lit_gan.metrics.diversity import LPIPSDiversity
    from lit_gan.metrics.extractors import Extractor, build_extractor
    from lit_gan.metrics.frechet import FrechetDistance
    from lit_gan.metrics.inception import Inception
    from lit_gan.metrics.inception_score import InceptionScore
    from lit_gan.metrics.infinity import InfiniteFID
    from lit_gan.metrics.kernel import KernelDistance
    from lit_gan.metrics.lpips import PerceptualNetwork, build_lpips
    from lit_gan.metrics.manifold import DensityCoverage, PrecisionRecall
    from lit_gan.metrics.memorisation import Authenticity, MemorisationFID
    from lit_gan.metrics.paired import LPIPS, MSSSIM, PSNR, PSNRY, SSIM, SSIMY
    from lit_gan.metrics.path_length import PerceptualPathLength
    from lit_gan.metrics.per_class import ClassFID
    from lit_gan.metrics.pixels import Pixels
    from lit_gan.metrics.protocol import Protocol, Score, log_values
    from lit_gan.metrics.toy_modes import ModeQuality
    from lit_gan.metrics.vision import TimmModel

__all__ = [
    "EXTRACTORS",
    "LPIPS",
    "METRICS",
    "MSSSIM",
    "PSNR",
    "PSNRY",
    "SSIM",
    "SSIMY",
    "Authenticity",
    "BinDistance",
    "CMMD",
    "ClassCoverage",
    "ClassFID",
    "Classifier",
    "DensityCoverage",
    "Clip",
    "CycleError",
    "DinoV2",
    "Extractor",
    "FrechetDistance",
    "Inception",
    "InceptionScore",
    "InfiniteFID",
    "KernelDistance",
    "LPIPSDiversity",
    "MemorisationFID",
    "ModeQuality",
    "PerceptualNetwork",
    "PerceptualPathLength",
    "Pixels",
    "PrecisionRecall",
    "Protocol",
    "Score",
    "TimmModel",
    "build_extractor",
    "build_lpips",
    "log_values",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
