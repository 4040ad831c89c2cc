"""How a score was made, and the score: numbers of unequal protocol are not to be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypedDict

VERSION = "2"  # of how lit-gan makes scores: raised by every change that moves a number


@dataclass(frozen=True)
class Protocol:
    """Everything that moves a score apart from the generator."""

    metric: str  # name in METRICS
    settings: str  # of the metric, e.g. splits=10
    extractor: str
    weights: str  # sha256 of the extractor's weights, "none" where it has none
    resize: str  # what the extractor does to the image size
    quantisation: str  # of the fakes, before the extractor
    data: str  # the data's fingerprint
    reference: str  # which of the data the fakes are compared with
    reals: int
    fakes: int
    seed: int | None  # of the fakes; None: images from a folder, all of them
    ema: bool  # whether the averaged generator made the fakes
    truncation: float | None = None
    standing: int | None = (
        None  # batches of fakes that batch norm's statistics are of; None: running averages
    )
    version: str = VERSION


class Finding(TypedDict):
    """A fake that is suspiciously near the reals; fakes are functions of (seed, number), so it can be drawn again."""

    fake: int  # number
    reals: list[int]  # the nearest of them, nearest first: indices of the data
    distances: list[float]  # to each of these
    own: float  # of the nearest real to its own nearest


@dataclass(frozen=True)
class Score:
    """A value with what it takes to read it.

    `floor` is what real images get: the same metric between two disjoint halves of the reference (the
    Inception score of one half), of `floor_images` images each, which are as many as the fakes where the
    reference is large enough.
    """

    value: float
    protocol: Protocol
    floor: float | None = None
    floor_images: int = 0
    std: float | None = None  # over splits, of the Inception score
    error: float | None = (
        None  # standard error: how much other fakes of the same generator would change the value
    )
    parts: dict[str, float] = field(default_factory=dict)  # a metric's further numbers, by name
    floor_parts: dict[str, float] = field(default_factory=dict)
    part_errors: dict[str, float] = field(default_factory=dict)  # standard errors of `parts` that have one
    findings: list[Finding] = field(default_factory=list)  # on rank 0 alone, the most suspicious first

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Score:
        """The inverse of `to_dict`; keys of a later version are ignored."""
        known = {key: record[key] for key in _names(cls) if key in record}
        protocol = {key: record["protocol"][key] for key in _names(Protocol) if key in record["protocol"]}
        return cls(**{**known, "protocol": Protocol(**protocol)})


class Scores(dict[str, Score]):
    """Scores by the names of their metrics, and the seconds that the fakes took (the reals may be cached)."""

    seconds: float = 0.0


def log_values(scores: Mapping[str, Score]) -> dict[str, float]:
    """Numbers to log: {"fid": ..., "kid": ..., "modes/classes": ..., "modes/kl": ...}."""
    values = {}
    for name, score in scores.items():
        values.update({f"{name}/{part}": value for part, value in score.parts.items()} or {name: score.value})
    return values


def _names(record: type[Protocol] | type[Score]) -> list[str]:
    return [item.name for item in fields(record)]
