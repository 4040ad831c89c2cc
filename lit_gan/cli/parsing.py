"""How words become values: groups that answer a slip, a grid among options, and types of parameters."""

from __future__ import annotations

import difflib
from contextlib import suppress
from typing import Any, cast

import click

from lit_gan.errors import UserError

OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")


class Commands(click.Group):
    """Answers an unknown command with the nearest right one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands:
            near = difflib.get_close_matches(name, self.commands, 1, 0.5)
            meant = f"did you mean `{ctx.command_path} {near[0]}`? " if near else ""
            raise UserError(f"unknown command '{name}': {meant}there are {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


class Sweep(click.Command):
    """`--grid` takes every word up to the next option: axes look like overrides, and the place tells them apart."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words: list[str] = []
        in_grid = False
        for word in args:
            if word == "--grid":
                in_grid = True
            elif word.startswith("-"):
                in_grid = word.startswith("--grid=")
                words.append(word)
            else:
                words += ["--grid", word] if in_grid else [word]
        return super().parse_args(ctx, words)


class Label(click.ParamType[int | tuple[float, ...]]):
    """A class, or the numbers of a vector with commas between them."""

    name = "label"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | tuple[float, ...]:
        if not isinstance(value, str):
            return cast("int | tuple[float, ...]", value)
        with suppress(ValueError):
            return int(value)
        try:
            return tuple(float(word) for word in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is neither a class nor numbers with commas between them", param, ctx)


class TileSide(click.ParamType[int | str]):
    """A side in pixels, auto or none."""

    name = "tile"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        if value in ("auto", "none"):
            return str(value)
        if not str(value).isdigit() or int(value) == 0:
            self.fail(f"{value!r} is neither auto, none nor a number of pixels", param, ctx)
        return int(value)


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        try:
            return value if isinstance(value, tuple) else tuple(float(word) for word in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a number, or several with commas between them", param, ctx)
