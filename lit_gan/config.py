"""Load, merge and check a configuration: `base <- arch <- data <- experiment <- command line`, without importing torch.

Every value knows where it came from; an unknown key or a wrong type is one line that names the place, the value and the
nearest right name. Nothing in a configuration can name code to run.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lit_gan import schema
from lit_gan.data import DATA
from lit_gan.errors import UserError
from lit_gan.schema import Keyword
from lit_gan.settings import AT_LEAST, AT_MOST, BELOW, SECTIONS
from lit_gan.variants import VARIANTS

TOP = {
    "arch": Keyword("str", "dcgan", "a name that `lit-gan list archs` shows, or a path to a YAML"),
    "experiment": Keyword("str | None", None, "a published row: arch + data + overrides"),
    "seed": Keyword("int", 0, "of everything random"),
    "resume": Keyword("str | None", None, "a run, a checkpoint, or auto: the newest run"),
    "variant": Keyword("str", "", "the class behind the arch; set by the arch's YAML"),
    "data.name": Keyword(
        "str", "digits", "data=NAME; a name that `lit-gan list data` shows, or a path to a YAML"
    ),
    "data.source": Keyword("str", "", "the kind of source behind the data; set by the data's YAML"),
}
SHORT = {  # data=cifar10, augment=ada and logger=[csv,wandb] select
    "data": "data.name",
    "augment": "augment.name",
    "logger": "logger.names",
}


@dataclass
class Config:
    """A resolved configuration: nested plain values, and the origin of each by its dotted key."""

    values: dict[str, Any]
    origins: dict[str, str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)  # the keys that were given as ${...}

    def __getitem__(self, section: str) -> Any:
        return self.values[section]

    def get(self, key: str) -> Any:
        """The value of a dotted key."""
        value: Any = self.values
        for part in key.split("."):
            value = value[part]
        return value

    def yaml(self) -> str:
        """The configuration as a YAML text that `compose` reads back.

        References stay references: a schedule over ${run.images} stretches with a budget that is raised later.
        """
        return str(
            OmegaConf.to_yaml(
                OmegaConf.create(_nest({**{key: self.get(key) for key in self.origins}, **self.references}))
            )
        )


@dataclass(frozen=True)
class Layer:
    """One source of values: dotted keys, and the name that error lines give it."""

    origin: str
    values: dict[str, Any]
    typed: dict[str, str] = field(
        default_factory=dict
    )  # as typed: 007 is a number to YAML, and may be a name


def configs_folder() -> Path:
    """The YAMLs: inside the package in a wheel, at the top level in a checkout."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "configs"


def names(group: str) -> list[str]:
    """What can be chosen in `group`: arch, data, experiment or protocol."""
    return sorted(path.stem for path in (configs_folder() / group).glob("*.yaml"))


def describe(group: str, name: str) -> str:
    """The comment in the first line of a YAML."""
    first = (configs_folder() / group / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip()


def parse(arguments: Sequence[str]) -> Layer:
    """`key=value` arguments as a layer; values are read as YAML."""
    values: dict[str, Any] = {}
    typed: dict[str, str] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise UserError(
                f"command line: '{argument}' is not of the form key=value, such as run.images=100000"
            )
        try:
            parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
            value = parsed["value"] if isinstance(parsed, dict) else text
            if isinstance(value, dict) and not text.lstrip().startswith("{"):
                value = text  # `a: b` is a mapping to YAML, and may be a file
        except Exception:  # text that is no YAML, such as a path with a colon, is itself
            value = text
        values.update(_flatten({key: value}) if isinstance(value, dict) else {SHORT.get(key, key): value})
        typed[SHORT.get(key, key)] = text
    return Layer("command line", values, typed)


def preset(group: str, name: str) -> list[str]:
    """The values of `configs/<group>/<name>.yaml` as `key=value` arguments, to stand before those of a user."""
    return [f"{key}={json.dumps(value)}" for key, value in _select(group, name).values.items()]


def compose(arguments: Sequence[str], *, saved: Path | None = None) -> Config:
    """The configuration of a run from command line arguments; `saved` is the config.yaml of a run that goes on.

    Raises `UserError` with one line for whatever is wrong.
    """
    command = parse(arguments)
    layers = [_read(saved)] if saved is not None else [_read(configs_folder() / "base.yaml")]
    experiment = command.values.get(
        "experiment", layers[0].values.get("experiment") if saved is None else None
    )
    chosen = [*layers, command]
    if experiment is not None:
        layers.append(_select("experiment", str(experiment)))
        chosen = [*layers, command]
    if saved is None:
        arch = _select("arch", str(_last(chosen, "arch")))
        data = _select("data", str(_last(chosen, "data.name")))
        layers[1:1] = [arch, data]
    layers.append(command)
    variant = _known(_last(layers, "variant"), VARIANTS, "variant", layers)
    source = _known(_last(layers, "data.source"), DATA, "data.source", layers)
    known = known_keys(variant, source)
    return _merge(layers, known, VARIANTS[variant], variant)


def explicit(arguments: Sequence[str]) -> dict[str, Any]:
    """What `arguments` set by themselves, by dotted key: the values of their experiment below those of the command line."""
    given = parse(arguments).values
    experiment = given.get("experiment")
    below = _select("experiment", str(experiment)).values if experiment is not None else {}
    return {**below, **given}


def known_keys(variant: str, source: str) -> dict[str, Keyword]:
    """Every dotted key that a configuration may hold, for the variant and the data source of these names."""
    known = dict(TOP)
    for name, cls in SECTIONS.items():
        known.update({f"{name}.{key}": keyword for key, keyword in schema.section(cls)})
    model = schema.keywords(VARIANTS[variant])
    known.update({f"model.{k}": v for k, v in model.items() if k not in (*schema.GIVEN_BY_DATA, "optim")})
    known.update({f"data.{k}": v for k, v in schema.keywords(DATA[source]).items()})
    return known


def _merge(layers: list[Layer], known: dict[str, Keyword], target: str, variant: str) -> Config:
    values = {key: keyword.default for key, keyword in known.items()}
    origins = dict.fromkeys(known, "default")
    for key, value in schema.optim_defaults(target).items():
        values[f"optim.{key}"] = value
        origins[f"optim.{key}"] = f"{variant}'s paper"
    for key in known:
        if key.startswith("model."):
            origins[key] = f"{variant}'s paper"
    for layer in layers:
        for key, value in layer.values.items():
            if key not in known:
                raise UserError(
                    f"{layer.origin}: unknown key '{key}' (= {value}){_owners(key) or _nearest(key, known)}"
                )
            if known[key].annotation in ("str", "str | None") and isinstance(value, (bool, int, float)):
                value = layer.typed.get(key, value)
            values[key], origins[key] = value, layer.origin
    nested = _nest(values)
    try:
        resolved = _flatten(OmegaConf.to_container(OmegaConf.create(nested), resolve=True), known)
    except OmegaConfBaseException as error:
        where = origins.get(str(error.full_key), "configuration")
        raise UserError(f"{where}: {error.full_key}: {str(error).splitlines()[0]}") from None
    checked = {key: _check(key, resolved[key], keyword, origins[key]) for key, keyword in known.items()}
    references = {key: value for key, value in values.items() if isinstance(value, str) and "${" in value}
    return Config(_nest(checked), origins, references)


def _check(key: str, value: Any, keyword: Keyword, origin: str) -> Any:
    try:
        value = schema.convert(value, keyword.annotation)
    except TypeError as expected:
        raise UserError(f"{origin}: {key} = {value!r} is not {expected}") from None
    if value is not None and not value >= AT_LEAST.get(key, value):
        raise UserError(f"{origin}: {key} = {value} must be at least {AT_LEAST[key]}")
    if value is not None and not value <= AT_MOST.get(key, value):
        raise UserError(f"{origin}: {key} = {value} must be at most {AT_MOST[key]}")
    if key in BELOW and not value < BELOW[key]:
        raise UserError(f"{origin}: {key} = {value} must be below {BELOW[key]}")
    return value


def _read(path: Path) -> Layer:
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; give a name that `lit-gan list` shows, or a YAML that exists"
        ) from None
    except Exception as error:
        raise UserError(f"{path}: not a YAML file: {str(error).splitlines()[0]}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: must hold keys and values")
    base = configs_folder()
    origin = f"configs/{path.relative_to(base)}" if path.is_relative_to(base) else str(path)
    return Layer(origin, dict(_flatten({str(k): v for k, v in loaded.items()})))


def _select(group: str, name: str) -> Layer:
    if name.endswith((".yaml", ".yml")):
        return _read(Path(name))
    if name not in names(group):
        near = difflib.get_close_matches(name, names(group), 1, 0.5)
        meant = f"did you mean {group}={near[0]}? " if near else ""
        raise UserError(f"unknown {group} '{name}': {meant}there are {', '.join(names(group))}")
    return _read(configs_folder() / group / f"{name}.yaml")


def _last(layers: Sequence[Layer], key: str) -> Any:
    found = [layer.values[key] for layer in layers if key in layer.values]
    return found[-1] if found else TOP[key].default


def _known(name: Any, table: Mapping[str, str], what: str, layers: Sequence[Layer]) -> str:
    if name not in table:
        where = next((layer.origin for layer in reversed(layers) if what in layer.values), layers[1].origin)
        raise UserError(f"{where}: {what} = {name!r} is not one of {', '.join(table)}")
    return str(name)


def _owners(key: str) -> str:
    """The other variants or data sources that have this very key."""
    section, _, name = key.partition(".")
    table = {"model": VARIANTS, "data": DATA}.get(section, {})
    owners = [owner for owner, target in table.items() if name in schema.keywords(target)]
    if not owners or name in (*schema.GIVEN_BY_DATA, "optim"):
        return ""
    return f": it belongs to {'arch' if section == 'model' else 'data'}={' or '.join(owners)}"


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    name = key.rpartition(".")[2]
    near = difflib.get_close_matches(key, known, 1, 0.85)
    near = near or [k for k in known if k.rpartition(".")[2] == name]  # the right name in the wrong section
    near = near or difflib.get_close_matches(key, known, 1, 0.6)
    if not near:
        tails = {k.rpartition(".")[2]: k for k in known}
        near = [tails[t] for t in difflib.get_close_matches(name, tails, 1, 0.7)]
    return f"; did you mean {' or '.join(near)}?" if near else "; `lit-gan config` shows every key"


def _flatten(nested: Any, known: Mapping[str, Any] | None = None, prefix: str = "") -> dict[str, Any]:
    """Dotted keys of a nested mapping; `data: cifar10` and `logger: [csv]` count as their `SHORT` forms."""
    return dict(_leaves(nested, known or {}, prefix))


def _leaves(nested: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key not in known:
            yield from _leaves({str(k): v for k, v in value.items()}, known, f"{key}.")
        else:
            yield SHORT.get(key, key), value


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        inside = nested
        for parent in parents:
            inside = inside.setdefault(parent, {})
        inside[leaf] = value
    return nested
