"""Nearest neighbours among features, exactly and in tiles: memory for some TILE x TILE numbers, never N x M.

The distance of a pair is the float64 root of the squared differences, added up in an order that D alone decides: bit for
bit the same in either direction and in any tile, and 0 for a copy. To take all distances so costs far more than a matrix
product. So |x|^2 + |y|^2 - 2 xy, in float64 and around a common point, decides whatever it can for certain, and pairs that
lie within its rounding error of a decision, ties among them, are decided by their distance. Every result is that of all
distances, and depends neither on the tiles nor on the order of rows.

Balls are closed: a point on the rim is inside (<=), as in Kynkäänniemi et al. 2019, eq. 1. A ball's radius is
the distance to its centre's k-th neighbour other than itself; duplicates are neighbours like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 2048  # rows of either side at a time: 33.5 MB of float64
SPARE = (
    12  # candidates for the k nearest beyond k: for ties, and for those that go with a group that is left out
)
PAIRS = 2**22  # numbers of single pairs on either side at a time: 33.5 MB
CROWDED = 8  # from one pair in so many on, a tile's distances are taken all together: that reads rows from the cache


def neighbour_radii(points: Tensor, k: int, tile: int = TILE) -> Tensor:
    """Distance [N], float64, of each of the points [N, D] to its k-th nearest other point."""
    return radii_without(points, k, torch.zeros(0, dtype=torch.int64, device=points.device), tile)[0]


def radii_without(points: Tensor, k: int, group: Tensor, tile: int = TILE) -> Tensor:
    """`neighbour_radii` in row 0, in row 1 + g those to the k-th nearest other point outside group g: [1 + G, N].

    `group` [N] holds the groups 0 to G - 1 of the points; empty, there is row 0 alone.
    """
    sizes = torch.bincount(group)
    fewest = len(points) - (int(sizes.max()) if len(sizes) else 0)
    if not 1 <= k < fewest:
        raise ValueError(f"the neighbour number {k} needs at least {k + 1} points, got {fewest}")
    slots = min(k + SPARE, len(points) - 1)
    lower, index, margin = _candidates(points, slots, tile)
    barred = [torch.zeros_like(index, dtype=torch.bool), *(group[index] == g for g in range(len(sizes)))]

    # The k-th distance is at most `reach`, and what is not among the candidates is farther than the last of them.
    reach = torch.stack(
        [_kth((lower + 2 * margin).masked_fill(out, torch.inf), k) for out in barred]
    )  # [1 + G, N]
    known = (reach < lower[:, -1]).all(0) | torch.tensor(slots == len(points) - 1, device=points.device)
    near = (lower <= reach.amax(0)[:, None]) & known[:, None]
    distances = torch.full_like(lower, torch.inf)
    rows, places = near.nonzero(as_tuple=True)
    distances[rows, places] = _pair_distances(points, rows, points, index[rows, places])
    radii = torch.stack([_kth(distances.masked_fill(out, torch.inf), k) for out in barred])
    for part in torch.split((~known).nonzero()[:, 0], tile):
        radii[:, part] = _whole_rows(points, part, k, group, len(sizes), tile)
    return radii


def ball_counts(centres: Tensor, radii: Tensor, points: Tensor, tile: int = TILE) -> tuple[Tensor, Tensor]:
    """How many balls hold each of the points [M, D], and how many points each ball holds: int64 [M] and [N].

    Ball i is around centres[i] of [N, D] and has radius radii[i] of [N].
    """
    around = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    inside = torch.zeros(len(centres), dtype=torch.int64, device=points.device)
    for rows, columns, pairs in _tiles(points, centres, tile):
        held = pairs.within(radii[columns])  # [m, n]
        around[rows] += held.sum(1)
        inside[columns] += held.sum(0)
    return around, inside


def mutual_membership(
    x: Tensor, x_radii: Tensor, y: Tensor, y_radii: Tensor, tile: int = TILE
) -> tuple[Tensor, Tensor]:
    """Which of x [N, D] lie in some ball around y [M, D], and which of y in some ball around x: bool [N], [R, M].

    One pass over the distances for both questions, and for R sets of radii of x, `x_radii` [R, N], of which the first has
    the smallest radius of every ball.
    """
    x_in_y = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    y_in_x = torch.zeros(len(x_radii), len(y), dtype=torch.bool, device=x.device)
    for rows, columns, pairs in _tiles(x, y, tile):
        x_in_y[rows] |= pairs.within(y_radii[columns]).any(1)
        y_in_x[:, columns] |= pairs.within(x_radii[0, rows, None]).any(0)
        for radii, found in zip(x_radii[1:, rows], y_in_x[1:, columns], strict=True):  # found: a view
            wider = (radii > x_radii[0, rows]).nonzero()[
                :, 0
            ]  # few: of most points no k-th neighbour is in the group
            if len(wider):
                found |= pairs.of(wider).within(radii[wider, None]).any(0)
    return x_in_y, y_in_x


def nearest(queries: Tensor, points: Tensor, values: Tensor, tile: int = TILE) -> tuple[Tensor, Tensor]:
    """Distance [M] of each query [M, D] to its nearest point of [N, D], float64, and that point's value of [N].

    Of several points at that distance the largest value counts, so that the order of points does not.
    """
    distance = torch.full((len(queries),), torch.inf, dtype=torch.float64, device=queries.device)
    value = values.new_full((len(queries),), -torch.inf)
    for rows, columns, pairs in _tiles(queries, points, tile):
        reach = torch.minimum((pairs.squares + pairs.margin).amin(1), distance[rows].square())  # [m]
        i, j = (pairs.lower() <= reach[:, None]).nonzero(as_tuple=True)
        distances = pairs.distances(i, j)
        closest = distance[rows].scatter_reduce(0, i, distances, "amin")
        found = torch.where(closest < distance[rows], -torch.inf, value[rows])
        tied = distances == closest[i]
        value[rows] = found.scatter_reduce(0, i[tied], values[columns][j[tied]], "amax")
        distance[rows] = closest
    return distance, value


def nearest_few(queries: Tensor, points: Tensor, k: int, tile: int = TILE) -> tuple[Tensor, Tensor]:
    """Distances [M, k] of a few queries [M, D] to their k nearest points of [N, D], ascending, and those points' places.

    Of points at the same distance the first comes first; k is at most N.
    """
    distances = torch.zeros(len(queries), 0, dtype=torch.float64, device=queries.device)
    places = torch.zeros(len(queries), 0, dtype=torch.int64, device=queries.device)
    for columns in _slices(len(points), tile):
        found = torch.cat([distances, _distances(queries.double(), points[columns].double())], 1)
        here = torch.arange(columns.start, columns.stop, device=queries.device).expand(len(queries), -1)
        distances, order = found.sort(dim=1, stable=True)
        distances, places = distances[:, :k], torch.cat([places, here], 1).gather(1, order[:, :k])
    return distances, places


@dataclass(frozen=True)
class _Rows:
    """Points [n, D] as they are, around the common point, and the squares [n] of the latters' norms; all float64."""

    exact: Tensor
    centred: Tensor
    norms: Tensor

    @classmethod
    def around(cls, centre: Tensor, points: Tensor) -> _Rows:
        exact = points.double()
        centred = exact - centre
        return cls(exact, centred, centred.square().sum(1))

    def of(self, rows: Tensor) -> _Rows:
        return _Rows(self.exact[rows], self.centred[rows], self.norms[rows])


@dataclass(frozen=True)
class _Pairs:
    """A tile: what is known of the distances of x [n, D] to y [m, D].

    The square of a pair's distance differs from `squares` [n, m] by `margin` [n, m] at most.
    """

    x: Tensor
    y: Tensor
    squares: Tensor
    margin: Tensor

    @classmethod
    def between(cls, x: _Rows, y: _Rows) -> _Pairs:
        norms = x.norms[:, None] + y.norms
        squares = (x.centred @ y.centred.T).mul_(-2).add_(norms)
        return cls(x.exact, y.exact, squares, norms.mul_(_rounding(x.exact.shape[1])))

    def of(self, rows: Tensor) -> _Pairs:
        """Those of some of x."""
        return _Pairs(self.x[rows], self.y, self.squares[rows], self.margin[rows])

    def lower(self) -> Tensor:
        return self.squares - self.margin

    def within(self, radii: Tensor) -> Tensor:
        """Whether distance <= radius: bool [n, m], for radii [m] or [n, 1]."""
        gap = self.squares - radii.double().square()
        inside = gap <= 0
        i, j = (gap.abs_() <= self.margin).nonzero(as_tuple=True)
        inside[i, j] = self.distances(i, j) <= radii.expand(inside.shape)[i, j]
        return inside

    def distances(self, i: Tensor, j: Tensor) -> Tensor:
        """The distances [P] of x[i] to y[j]."""
        if len(i) * CROWDED > self.squares.numel():
            return _distances(self.x, self.y)[i, j]
        return _pair_distances(self.x, i, self.y, j)


def _rounding(dim: int) -> float:
    """The margin of a square, as a share of |x|^2 + |y|^2 =: n around the common point.

    With u = eps / 2, to first order (Higham 2002, ch. 3): sums of D products are off by D u n, both the norms and twice the
    product; putting them together by 6 u n; and the rounding of centred coordinates by 4 u n. The distance from differences
    is off by (D + 5) u of its square, which is 2 n at most, and the square of a radius by 4 u n where that can matter. The
    sum is (4 D + 24) u n; here it is doubled, for bounds that are computed from it and what is not of first order.
    """
    return 4 * (dim + 6) * torch.finfo(torch.float64).eps


def _tiles(x: Tensor, y: Tensor, tile: int) -> Iterator[tuple[slice, slice, _Pairs]]:
    """Pairs of x [N, D] and y [M, D] as (rows of x, rows of y, pairs [n, m]), tile by tile."""
    centre = _centre(y)
    for rows in _slices(len(x), tile):
        left = _Rows.around(centre, x[rows])
        for columns in _slices(len(y), tile):
            yield rows, columns, _Pairs.between(left, _Rows.around(centre, y[columns]))


def _candidates(points: Tensor, slots: int, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of the points those `slots` others with the least lower bounds, by half the tiles; all [N, slots].

    The lower bounds of the squares of their distances, ascending; their places; and the margins.
    """
    lower = torch.full((len(points), slots), torch.inf, dtype=torch.float64, device=points.device)
    index = torch.zeros(len(points), slots, dtype=torch.int64, device=points.device)
    norms = torch.zeros(len(points), dtype=torch.float64, device=points.device)
    centre = _centre(points)

    def keep(rows: slice, columns: slice, bounds: Tensor) -> None:
        """Puts the least of `bounds` [n, m] among those of these rows."""
        found = bounds.topk(min(slots, bounds.shape[1]), dim=1, largest=False, sorted=False)
        together = torch.cat([lower[rows], found.values], 1).topk(slots, dim=1, largest=False)
        places = torch.cat([index[rows], found.indices + columns.start], 1)
        lower[rows], index[rows] = together.values, places.gather(1, together.indices)

    parts = list(_slices(len(points), tile))
    for i, rows in enumerate(parts):
        left = _Rows.around(centre, points[rows])
        norms[rows] = left.norms
        for columns in parts[i:]:
            right = left if columns == rows else _Rows.around(centre, points[columns])
            bounds = _Pairs.between(left, right).lower()
            if columns == rows:
                bounds.fill_diagonal_(torch.inf)  # no point is its own neighbour
            else:
                keep(columns, rows, bounds.T)
            keep(rows, columns, bounds)
    return lower, index, (norms[:, None] + norms[index]) * _rounding(points.shape[1])


def _whole_rows(points: Tensor, rows: Tensor, k: int, group: Tensor, groups: int, tile: int) -> Tensor:
    """The radii [1 + G, n] of the points numbered `rows` [n], from all their distances."""
    least = torch.full((1 + groups, len(rows), k), torch.inf, dtype=torch.float64, device=points.device)
    for columns in _slices(len(points), tile):
        distances = _distances(points[rows].double(), points[columns].double())
        own = rows[:, None] == torch.arange(columns.start, columns.stop, device=points.device)
        distances.masked_fill_(own, torch.inf)
        for g, known in enumerate(least, start=-1):
            left = distances if g < 0 else distances.masked_fill(group[columns] == g, torch.inf)
            found = left.topk(min(k, left.shape[1]), dim=1, largest=False, sorted=False).values
            known.copy_(torch.cat([known, found], 1).topk(k, dim=1, largest=False).values)
    return least[:, :, -1]


def _pair_distances(x: Tensor, i: Tensor, y: Tensor, j: Tensor) -> Tensor:
    """The distances [P] of x[i] to y[j]: to the last bit those of `_distances`."""
    size = max(PAIRS // x.shape[1], 1)
    parts = zip(torch.split(i, size), torch.split(j, size), strict=True)
    return torch.cat([_distances(x[a].double()[:, None], y[b].double()[:, None]).flatten() for a, b in parts])


def _distances(x: Tensor, y: Tensor) -> Tensor:
    distances: Tensor = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    return distances


def _centre(points: Tensor) -> Tensor:
    """A point near all, in float64: norms around it lose fewer digits. Its own last digits decide nothing."""
    return points.mean(0).double()


def _kth(values: Tensor, k: int) -> Tensor:
    """The k-th smallest of each row."""
    return values.kthvalue(k, dim=1).values


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
