"""What `lit-gan list` and `lit-gan config` print, without importing torch."""

from __future__ import annotations

from collections.abc import Iterator

from lit_gan import schema
from lit_gan.config import Config, configs_folder, describe, names
from lit_gan.errors import UserError
from lit_gan.metrics import ABOUT, EXTRACTORS, METRICS

GROUPS = {
    "archs": "arch", "data": "data", "experiments": "experiment", "protocols": "protocol", "metrics": "", "extractors": "",
}  # fmt: skip


def listing(what: str | None = None) -> Iterator[str]:
    """A heading and a line each for the archs, data sources, experiments, protocols, metrics and extractors."""
    chosen = [g for g in GROUPS if what in (None, g, g.rstrip("s"))]
    if not chosen:
        raise UserError(f"nothing to list called '{what}': {', '.join(GROUPS)}")
    for group in chosen:
        yield f"{group}:"
        yield from (f"  {name:<24} {text}" for name, text in _entries(group))


def _entries(group: str) -> Iterator[tuple[str, str]]:
    if folder := GROUPS[group]:
        yield from ((name, describe(folder, name)) for name in names(folder))
    else:
        table = METRICS if group == "metrics" else EXTRACTORS
        yield from ((name, ABOUT.get(name) or schema.summary(target)) for name, target in table.items())


def origins(config: Config) -> Iterator[str]:
    """The resolved configuration as `key = value`, each with where the value comes from."""
    lines = [(f"{key} = {_show(config.get(key))}", origin) for key, origin in config.origins.items()]
    width = min(max(len(line) for line, _ in lines), 60)
    yield f"# {configs_folder()}"
    yield from (f"{line:<{width}}  # {origin}" for line, origin in lines)


def _show(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_show, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
