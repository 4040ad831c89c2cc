"""Nearest neighbours among features, exactly and in tiles: memory for TILE x TILE distances, never N x M.

Distances are Euclidean and taken from differences. The usual |x|^2 + |y|^2 - 2 xy loses all digits of a
small distance (0.017 instead of 0 in 2048 dimensions), and then a copy is not at distance 0 and whether it
lies on the rim of a ball is chance. As they are here, a pair has the same distance, bit for bit, in either order
and in any tile, so that results depend neither on the tiles nor on the order of rows.

Balls are closed: a point on the rim is inside (<=), as in Kynkäänniemi et al. 2019, eq. 1. A ball's radius is
the distance to its centre's k-th neighbour other than itself; duplicates are neighbours like any other.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

TILE = 2048  # rows of either side at a time: 16.8 MB of float32 distances


def distance_tiles(x: Tensor, y: Tensor, tile: int = TILE) -> Iterator[tuple[slice, slice, Tensor]]:
    """Distances of x [N, D] to y [M, D] as (rows of x, rows of y, distances [n, m]), tile by tile."""
    for rows in _slices(len(x), tile):
        for columns in _slices(len(y), tile):
            yield rows, columns, _distances(x[rows], y[columns])


def neighbour_radii(points: Tensor, k: int, tile: int = TILE) -> Tensor:
    """Distance [N] of each of the points [N, D] to its k-th nearest other point, by half the tiles."""
    if not 1 <= k < len(points):
        raise ValueError(f"the neighbour number {k} needs at least {k + 1} points, got {len(points)}")
    nearest = points.new_full((len(points), k), torch.inf)  # ascending in each row
    parts = list(_slices(len(points), tile))
    for i, rows in enumerate(parts):
        for columns in parts[i:]:
            distances = _distances(points[rows], points[columns])
            if columns == rows:
                distances.fill_diagonal_(torch.inf)  # no point is its own neighbour
            else:
                nearest[columns] = _smallest(nearest[columns], distances.T)
            nearest[rows] = _smallest(nearest[rows], distances)
    return nearest[:, -1]


def ball_counts(centres: Tensor, radii: Tensor, points: Tensor, tile: int = TILE) -> tuple[Tensor, Tensor]:
    """How many balls hold each of the points [M, D], and how many points each ball holds: int64 [M] and [N].

    Ball i is around centres[i] of [N, D] and has radius radii[i] of [N].
    """
    around = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    inside = torch.zeros(len(centres), dtype=torch.int64, device=points.device)
    for rows, columns, distances in distance_tiles(points, centres, tile):
        held = distances <= radii[columns]  # [m, n]
        around[rows] += held.sum(1)
        inside[columns] += held.sum(0)
    return around, inside


def mutual_membership(
    x: Tensor, x_radii: Tensor, y: Tensor, y_radii: Tensor, tile: int = TILE
) -> tuple[Tensor, Tensor]:
    """Which of x [N, D] lie in some ball around y [M, D], and which of y in some ball around x: bool [N], [M].

    One pass over the distances for both questions.
    """
    x_in_y = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    y_in_x = torch.zeros(len(y), dtype=torch.bool, device=x.device)
    for rows, columns, distances in distance_tiles(x, y, tile):
        x_in_y[rows] |= (distances <= y_radii[columns]).any(1)
        y_in_x[columns] |= (distances <= x_radii[rows, None]).any(0)
    return x_in_y, y_in_x


def nearest(queries: Tensor, points: Tensor, values: Tensor, tile: int = TILE) -> tuple[Tensor, Tensor]:
    """Distance [M] of each query [M, D] to its nearest point of [N, D], and that point's value of [N].

    Of several points at that distance the largest value counts, so that the order of points does not.
    """
    distance = queries.new_full((len(queries),), torch.inf)
    value = values.new_full((len(queries),), -torch.inf)
    for rows, columns, distances in distance_tiles(queries, points, tile):
        closest = distances.amin(1)  # [m]
        tied = distances == closest[:, None]
        found = torch.where(tied, values[columns], -torch.inf).amax(1)
        known = torch.where(closest < distance[rows], -torch.inf, value[rows])
        found = torch.where(closest > distance[rows], -torch.inf, found)
        value[rows] = torch.maximum(known, found)
        distance[rows] = torch.minimum(distance[rows], closest)
    return distance, value


def _distances(x: Tensor, y: Tensor) -> Tensor:
    distances: Tensor = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    return distances


def _smallest(known: Tensor, distances: Tensor) -> Tensor:
    """The k smallest of `known` [n, k] and `distances` [n, m] together, ascending."""
    k = known.shape[1]
    found = distances.topk(min(k, distances.shape[1]), dim=1, largest=False, sorted=False).values
    return torch.cat([known, found], 1).topk(k, dim=1, largest=False).values


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
