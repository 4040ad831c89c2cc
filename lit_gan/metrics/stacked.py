"""The classifier for stacked data: it reads each channel alone, as the papers on Stacked MNIST do, and never has
to learn a thousand classes.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lit_gan.metrics.extractors import Extractor, Source


@runtime_checkable
class Stacks(Protocol):
    """Data whose every channel is a grey image of a labelled source, such as data=stacked-mnist."""

    @property
    def base(self) -> Source: ...

    @property
    def parts(self) -> np.ndarray[Any, Any]: ...  # [N, C] int64: which images of `base` a stack is made of


class StackedClassifier(Extractor):
    """uint8 [B, C, H, W] -> the channels' features side by side [B, C * 64], logits [B, K^C] over the stacks' classes.

    The logits are log-probabilities, sums of the channels'; the class of the first channel counts most. `single` is
    the classifier of the base's grey images. The reference are the stacks of which it has seen no part.
    """

    name = "classifier"
    data_classes = True

    def __init__(self, single: Extractor, parts: np.ndarray[Any, Any]) -> None:
        super().__init__()
        self.single = single
        self.channels = parts.shape[1]
        self.dim = self.channels * single.dim
        self.num_logits = single.num_logits**self.channels
        self.resize = single.resize
        self.weights_hash = single.weights_hash
        assert single.reference is not None  # a classifier learns from a part of its data
        self.reference = np.flatnonzero(np.isin(parts, single.reference).all(1))

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features, logits = self.single.extract(images.flatten(0, 1)[:, None])  # [B * C, 64], [B * C, K]
        assert logits is not None
        logs = logits.log_softmax(1).reshape(len(images), self.channels, self.single.num_logits)
        joint = torch.zeros_like(logs[:, 0, :1])
        for channel in logs.unbind(1):
            joint = (joint[:, :, None] + channel[:, None]).flatten(1)  # [B, K], [B, K^2], ...
        return features.reshape(len(images), self.dim), joint
