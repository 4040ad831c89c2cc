"""`lit-gan sweep --wandb`: the same grid as a file for `wandb sweep`, whose agents run it on as many machines as join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lit_gan.best import BETTER
from lit_gan.config import SHORT
from lit_gan.errors import UserError
from lit_gan.run import check_free, write_text
from lit_gan.sweep import Sweep

FILE = "wandb.yaml"


def write_wandb_sweep(sweep: Sweep) -> list[str]:
    """Write the file into the sweep's folder; returns the two lines that a person types.

    Raises `UserError` where a cell would not log to W&B: the sweep would never hear of it.
    """
    for cell, config in sweep.cells.items():
        if "wandb" not in config.get("logger.names"):
            names = ",".join(config.get("logger.names"))
            raise UserError(
                f"cell {cell.name} has logger=[{names}]: a W&B sweep needs wandb in it, such as logger=[csv,wandb]"
            )
    check_free(sweep.folder, None)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    path = sweep.folder / FILE
    head = f"# wandb sweep {path}, from the folder in which this was written: its paths may be relative\n"
    write_text(
        path, head + yaml.safe_dump(wandb_sweep(sweep), sort_keys=False, allow_unicode=True, width=1000)
    )
    config = next(iter(sweep.cells.values()))
    project = "/".join(filter(None, (config.get("logger.wandb.entity"), config.get("logger.wandb.project"))))
    return [
        f"wandb sweep {path}",
        f"wandb agent {project}/ID   # the ID that it prints; once on each machine or GPU",
    ]


def wandb_sweep(sweep: Sweep) -> dict[str, Any]:
    """The sweep as W&B reads it. `${args_no_hyphens}` are the values of a run as `key=value`."""
    config = next(iter(sweep.cells.values()))
    about = {"name": sweep.folder.name, "project": config.get("logger.wandb.project")}
    if entity := config.get("logger.wandb.entity"):
        about["entity"] = entity
    metric = next((name for name in BETTER if name in config.get("eval.metrics")), None)
    goal = (
        {"name": f"best/{metric}", "goal": "minimize" if BETTER[metric] == "lower" else "maximize"}
        if metric
        else None
    )
    return {
        "program": "lit-gan",
        **about,
        "method": "grid",
        **({"metric": goal} if goal else {}),
        "parameters": {
            axis.key: {"values": [_value(sweep, axis.key, text) for text in axis.values]}
            for axis in sweep.axes
        },
        "command": [
            "${env}",
            "lit-gan",
            "train",
            *sweep.base,
            f"run.dir={Path(sweep.folder)}",
            "${args_no_hyphens}",
        ],
    }


def _value(sweep: Sweep, key: str, text: str) -> int | float | str:
    """A number where the configuration has one, so that W&B can sort and plot it; else the text as typed.

    A list or a `null` must come back as it was typed, and so must a folder called 007.
    """
    config = next(config for cell, config in sweep.cells.items() if f"{key}={text}" in cell.overrides)
    value = config.get(SHORT.get(key, key))
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else text
