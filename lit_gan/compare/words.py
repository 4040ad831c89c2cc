"""Protocols and numbers in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lit_gan.compare.records import Scored

MOST_DECIMALS = 5


def differences(protocols: Sequence[Mapping[str, Any]]) -> str:
    """The parts that are not equal in all, each with its values in the order of `protocols`."""
    keys = list(dict.fromkeys(key for protocol in protocols for key in protocol))
    said = []
    for key in keys:
        values = [protocol.get(key) for protocol in protocols]
        if any(value != values[0] for value in values):
            said.append(f"{key} {' / '.join(map(part, values))}")
    return "; ".join(said)


def part(value: Any) -> str:
    """The value of one part of a protocol."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else short(str(value))


def short(text: str) -> str:
    """A hash by its first digits; other text as it is."""
    is_hash = len(text) >= 32 and all(character in "0123456789abcdef" for character in text)
    return f"{text[:8]}.." if is_hash else text or '""'


def in_words(protocol: Mapping[str, Any], data: str, floor: Scored | None) -> list[str]:
    """Whatever moves the score apart from the generator, and what real images get; parts that are unknown here too."""
    p = {key: value for key, value in protocol.items() if value is not None}
    metric, extractor = str(p.pop("metric", "")).upper(), p.pop("extractor", "-")
    features = [
        f"{metric} by {extractor} ({short(str(p.pop('weights', '-')))})",
        f"resize {p.pop('resize', '-')}",
    ]
    features += [str(settings)] if (settings := p.pop("settings", "")) else []
    generator = "averaged" if p.pop("ema", False) else "plain"
    fakes = [
        f"{part(p.pop('fakes', None))} fakes" + (f" of seed {p.pop('seed')}" if "seed" in p else ""),
        f"{p.pop('quantisation', '-')}",
    ]
    fakes.append(f"{generator} generator")
    fakes += [f"truncation {p.pop('truncation')}"] if "truncation" in p else []
    fakes += [f"standing statistics of {p.pop('standing')} batches"] if "standing" in p else []
    fingerprint = short(str(p.pop("data", "-")))
    reals = [f"{part(p.pop('reals', None))} reals of {data} ({fingerprint}): {p.pop('reference', '-')}"]
    if floor is not None and floor.floor is not None and floor.floor_images:
        reals.append(f"real against real {floor.floor:.4g} at {floor.floor_images:,} images")
    rest = [
        f"protocol version {p.pop('version', '-')}",
        *(f"{key} {part(value)}" for key, value in p.items()),
    ]
    return [", ".join(said) for said in (features, fakes, reals, rest)]


def decimals(values: Sequence[float], least: int = 0) -> int:
    """How many decimals show two digits of the smallest value worth its digits; `least` where all are whole."""
    sizes = [abs(value) for value in values if value]
    if not sizes or all(float(value).is_integer() for value in values):
        return least
    smallest = min(size for size in sizes if size >= max(sizes) / 1000)
    return max(least, min(MOST_DECIMALS, 1 - math.floor(math.log10(smallest))))


def number(value: float, digits: int) -> str:
    """With thousands separators, and without a minus before a zero."""
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if not text.strip("-0.,") else text
