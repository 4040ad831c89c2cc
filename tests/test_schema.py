"""What a configuration may say is what the code says: read from its text, held against its imported self."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
from importlib import import_module
from typing import Any

import pytest
from omegaconf import OmegaConf

from lit_gan import schema
from lit_gan.config import configs_folder
from lit_gan.data import DATA
from lit_gan.listing import listing
from lit_gan.metrics import EXTRACTORS, METRICS
from lit_gan.settings import AT_LEAST, BELOW, SECTIONS, Optim
from lit_gan.variants import VARIANTS

TARGETS = {**VARIANTS, **DATA}
target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())


def imported(target: str) -> type:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def normal(annotation: Any) -> str:
    return ast.unparse(ast.parse(str(annotation), mode="eval"))


@target
def test_keywords_read_from_the_text_are_those_of_the_class(target):
    signature = inspect.signature(imported(target).__init__)

    read = schema.keywords(target)

    parameters = {n: p for n, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert list(read) == list(parameters)
    for name, parameter in parameters.items():
        assert normal(read[name].annotation) == normal(parameter.annotation), name
        assert read[name].default == parameter.default, name


@target
def test_every_default_is_of_its_own_type(target):
    for name, keyword in schema.keywords(target).items():
        if name not in (*schema.GIVEN_BY_DATA, "optim"):
            assert schema.convert(keyword.default, keyword.annotation) == keyword.default, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_optimiser_of_the_paper_is_read_as_the_class_has_it(variant):
    read = schema.optim_defaults(VARIANTS[variant])

    assert Optim(**read) == imported(VARIANTS[variant]).optim_defaults


def test_comment_is_found_where_a_keyword_is_spread_over_lines():
    comment = schema.keywords(DATA["hub"])["image_size"].comment

    assert "null: as the first image" in comment


def test_every_metric_is_listed_with_a_text_of_its_own():
    lines = [line.split(maxsplit=1) for line in list(listing("metrics"))[1:]]

    assert [name for name, _ in lines] == list(METRICS)
    assert len({text for _, text in lines}) == len(METRICS)


@pytest.mark.parametrize("target", [*METRICS.values(), *EXTRACTORS.values()])
def test_whatever_is_listed_has_a_summary(target):
    assert schema.summary(target)


@pytest.mark.parametrize("name", SECTIONS)
def test_section_is_its_dataclass(name):
    def leaves(settings: Any, prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            inside = dataclasses.is_dataclass(value)
            found.update(leaves(value, f"{field.name}.") if inside else {prefix + field.name: value})
        return found

    read = dict(schema.section(SECTIONS[name]))

    assert {key: keyword.default for key, keyword in read.items()} == leaves(SECTIONS[name]())
    assert all(schema.convert(k.default, k.annotation) == k.default for k in read.values())


def test_limits_are_of_keys_that_exist_and_admit_the_defaults():
    known = {f"{name}.{key}": k for name, cls in SECTIONS.items() for key, k in schema.section(cls)}
    known.update({f"data.{key}": k for key, k in schema.keywords(DATA["digits"]).items()})

    for key, least in AT_LEAST.items():
        if key != "seed":
            assert known[key].default is None or known[key].default >= least, key
    assert set(BELOW) <= set(AT_LEAST)


def test_base_yaml_says_the_defaults_of_the_code():
    base = OmegaConf.to_container(OmegaConf.load(configs_folder() / "base.yaml"))
    assert isinstance(base, dict)
    stated_otherwise = {"logger.names": ["csv", "wandb"]}  # W&B is for people, not for `Logger()` in a script

    assert set(base) == {"arch", "data", "seed", *SECTIONS} - {"optim"}
    for name, cls in SECTIONS.items():
        if name == "optim":  # the paper's, by variant
            continue
        section = base[name]
        for key, keyword in schema.section(cls):
            value = section
            for part in key.split("."):
                value = value[part]
            assert value == stated_otherwise.get(f"{name}.{key}", keyword.default), f"{name}.{key}"


def test_every_key_of_base_yaml_is_explained():
    lines = (configs_folder() / "base.yaml").read_text().splitlines()
    values = [line for line in lines if ":" in line.partition("#")[0] and not line.rstrip().endswith(":")]

    assert len(values) > 30
    assert [line for line in values if "#" not in line] == []


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, "int", 3),
        (1e5, "int", 100_000),
        ("150_000", "int", 150_000),
        (3, "float", 3.0),
        ("1e-4", "float", 1e-4),
        (7, "str", "7"),
        (True, "bool", True),
        (None, "int | None", None),
        (5, "int | None", 5),
        ("hinge", "Literal['hinge', 'minimax']", "hinge"),
        ("auto", "int | Literal['auto']", "auto"),
        (2, "int | Literal['auto']", 2),
        ([1, 2], "list[int]", [1, 2]),
        (1, "list[int]", [1]),
        ("fid,kid", "list[str]", ["fid", "kid"]),
        ("64,32", "list[int] | None", [64, 32]),
        ([16, 24], "int | tuple[int, int] | None", (16, 24)),
        (16, "int | tuple[int, int] | None", 16),
    ],
)
def test_value_becomes_what_its_annotation_says(value, annotation, expected):
    converted = schema.convert(value, annotation)

    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "words"),
    [
        (1.5, "int", "an integer"),
        (math.inf, "int", "an integer"),
        (math.nan, "int", "an integer"),
        (True, "int", "an integer"),
        (True, "float", "a number"),
        ([1.0], "float", "a number"),
        ("yes", "bool", "true or false"),
        (1, "bool", "true or false"),
        (None, "str", "a text"),
        (True, "str", "a text"),
        (None, "int", "an integer"),
        ("hing", "Literal['hinge', 'minimax']", "hinge or minimax"),
        (None, "list[str]", "a list of a text"),
        (["csv", "x"], "list[Literal['csv', 'wandb']]", "a list of csv or wandb"),
        ([1, 2, 3], "int | tuple[int, int] | None", "an integer or a list of 2 numbers or null"),
        ({"a": 1}, "int", "an integer"),
    ],
)
def test_value_of_another_type_is_refused_in_words(value, annotation, words):
    with pytest.raises(TypeError) as error:
        schema.convert(value, annotation)

    assert str(error.value) == words
