"""Processes that train, started from a server that has imported everything: a start costs a tenth of a second."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["lit_gan.train", "lit_gan.build", "lit_gan.sample", "lit_gan.data.digits", "tiny"]
)


def start(
    arguments: Sequence[str], *, rank: int = 0, world: int = 1, port: int = 0, log: Path | None = None
) -> ForkServerProcess:
    """A process that runs `lit-gan train` with these arguments, as rank `rank` of `world`; `log` gets what it prints."""
    process = CONTEXT.Process(target=_train, args=(list(arguments), dict(os.environ), rank, world, port, log))
    process.start()
    return process


def on_ranks(world: int, function: Callable[..., None], *args: Any, timeout: float = 120) -> None:
    """Run `function(rank, *args)` on every rank of a gloo group that Lightning will make; raises if one fails."""
    port = free_port()
    processes = [
        CONTEXT.Process(target=_call, args=(function, args, dict(os.environ), rank, world, port))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * world, f"exit codes {codes}"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _environment(environment: dict[str, str], rank: int, world: int, port: int) -> None:
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    if world > 1:
        os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def _train(
    arguments: list[str], environment: dict[str, str], rank: int, world: int, port: int, log: Path | None
) -> None:
    from lit_gan.cli import main

    if log is not None:
        with log.open("ab") as handle:
            os.dup2(handle.fileno(), 1)
            os.dup2(handle.fileno(), 2)
    _environment(environment, rank, world, port)
    sys.exit(main(["train", *arguments]))


def _call(
    function: Callable[..., None], args: Any, environment: dict[str, str], rank: int, world: int, port: int
) -> None:
    _environment(environment, rank, world, port)
    function(rank, *args)
