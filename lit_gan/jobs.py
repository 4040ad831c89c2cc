"""Commands one after another, or several at a time; a signal is passed on to all of them, and they are waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

POLL = 0.1  # seconds between two looks at the processes
TAIL = 65536  # bytes of a log that are searched for its last line
# what is passed on: a run knows SIGTERM and SIGINT; a terminal that is closed is no reason to lose anything
PASSED_ON = {signal.SIGTERM: signal.SIGTERM, signal.SIGINT: signal.SIGINT, signal.SIGHUP: signal.SIGTERM}


@dataclass(frozen=True)
class Job:
    """A command, and the file that gets what it prints, below what is there."""

    name: str
    command: Sequence[str]
    log: Path


@dataclass(frozen=True)
class Ended:
    """How a job ended: its exit code (minus the signal, where one killed it) and the last line that it printed."""

    code: int
    said: str
    seconds: float


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    slot: Mapping[str, str]
    printed_from: int
    started: float


def run_jobs(
    jobs: Sequence[Job],
    slots: Sequence[Mapping[str, str]],
    *,
    on_start: Callable[[Job, int], None],
    on_end: Callable[[Job, Ended], None],
) -> int:
    """Run `jobs` in their order, as many at a time as there are `slots`: environment variables for who holds one.

    Calls `on_start(job, pid)` and `on_end(job, ended)`. Returns 0 when all have ended, however, or the signal that made
    it stop: then no further job was started, those running were sent it and have ended.
    """
    waiting, free = deque(jobs), deque(slots)
    running: list[_Running] = []
    with _signals() as received:
        passed_on = 0
        try:
            while running or (waiting and not received):
                while free and waiting and not received:
                    running.append(_start(waiting.popleft(), free.popleft()))
                    on_start(running[-1].job, running[-1].process.pid)
                for number in received[passed_on:]:
                    passed_on += 1
                    for one in running:
                        one.process.send_signal(PASSED_ON[signal.Signals(number)])
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    free.append(one.slot)
                    on_end(one.job, _ended(one))
                time.sleep(POLL)
        finally:  # empty, unless a callback has failed
            for one in running:
                one.process.terminate()
            for one in running:
                one.process.wait()
    return received[0] if received else 0


def _start(job: Job, slot: Mapping[str, str]) -> _Running:
    # unbuffered: else what a run says on its standard output would come into the log after the error that ended it
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **slot}
    with job.log.open("ab") as log:
        printed_from = log.tell()
        process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C would reach it twice, and the second means: end at once
        )
    return _Running(job, process, slot, printed_from, time.monotonic())


def _ended(one: _Running) -> Ended:
    code: int = one.process.returncode
    said = last_line(one.job.log, one.printed_from)
    if code < 0:
        killed = f"killed by {signal.Signals(-code).name}"
        said = f"{killed}; its last line: {said}" if said else killed
    return Ended(code, said, time.monotonic() - one.started)


def last_line(path: Path, start: int = 0) -> str:
    """The last line of a file, from `start` on, that is not blank; empty if there is none."""
    with path.open("rb") as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(start, size - TAIL))
        lines = handle.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that came meanwhile, instead of their effect; what was ignored before (nohup) stays ignored."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before: dict[signal.Signals, Any] = {}
    with contextlib.suppress(ValueError):  # in a thread other than the main one: signals stay as they are
        for one in PASSED_ON:
            if signal.getsignal(one) != signal.SIG_IGN:
                before[one] = signal.signal(one, remember)
    try:
        yield received
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
