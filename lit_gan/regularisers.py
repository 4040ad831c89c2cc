"""Penalties on weights: pure functions of a matrix, unweighted, in float32.

>>> import torch
>>> orthogonality(torch.tensor([[1.0, 2.0], [2.0, 0.0]])).item()
8.0
"""

from __future__ import annotations

import torch
from torch import Tensor


def orthogonality(matrix: Tensor) -> Tensor:
    """Squared products of different rows, summed: 0 where the filters are orthogonal, whatever their norms.

    ||W W^T o (1 - I)||² (Brock et al. 2019, arXiv:1809.11096, eq. 3), rows being filters; the paper's weight beta is 1e-4.
    """
    with torch.autocast(matrix.device.type, enabled=False):
        gram = matrix @ matrix.t()
        return (gram - torch.diag(gram.diagonal())).square().sum()
