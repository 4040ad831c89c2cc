"""How far a long pass over images is, on stderr."""

from __future__ import annotations

import sys
import time


class Progress:
    """A line on stderr for what takes more than a second: rewritten on a terminal, rare in a log."""

    def __init__(
        self, name: str, total: int, done: int, *, doing: str = "decoding", did: str = "decoded"
    ) -> None:
        self.doing, self.did = doing, did
        self.name, self.total, self.first = name, total, done
        self.terminal = sys.stderr.isatty()
        self.every = 0.25 if self.terminal else 15.0
        self.start = time.monotonic()
        self.shown = self.start + (0.75 if self.terminal else 0.0)

    def show(self, done: int) -> None:
        now = time.monotonic()
        if now - self.shown < self.every:
            return
        rate = max(done - self.first, 1) / (now - self.start)
        left = (self.total - done) / rate
        line = (
            f"{self.doing} {self.name}: {done:,} of {self.total:,} images, {rate:,.0f}/s, {left:,.0f} s left"
        )
        sys.stderr.write(f"\r\x1b[K{line}" if self.terminal else f"{line}\n")
        sys.stderr.flush()
        self.shown = now

    def end(self, done: int, skipped: int = 0) -> None:
        seconds = time.monotonic() - self.start
        if seconds >= 1 or skipped:
            if self.terminal:
                sys.stderr.write("\r\x1b[K")
            say(
                f"{self.did} {done:,} images of {self.name} in {seconds:.1f} s"
                + f", {skipped:,} skipped" * bool(skipped)
            )


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
