"""`python -m lit_gan.preflight`: build what runs would build, and say what is wrong, without training any of it.

Reads a list of `[name, "key=value", ...]` as JSON from standard input. The exit code is 0, or 2 after one line on standard
error about the first that is wrong. A sweep asks it before it starts: its fourth cell must not fail after three hours.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from lit_gan.config import Config, compose
from lit_gan.errors import UserError
from lit_gan.train import assemble, quiet, resolve_machine
from lit_gan.transfer import begin, origin_of


def main() -> int:
    """Check what standard input names; cells that differ in their seed alone are built once."""
    quiet()
    seen: list[dict[str, Any]] = []
    for name, *arguments in json.load(sys.stdin):
        config = compose(arguments)
        alike = {**config.values, "seed": 0}
        if alike in seen:
            continue
        seen.append(alike)
        try:
            check(config)
        except UserError as error:
            print(f"cell {name}: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
    return 0


def check(config: Config) -> None:
    """Raise the `UserError` that `lit-gan train` would raise before its first step."""
    resolve_machine(config)
    origin = origin_of(config)
    _, module, _ = assemble(config)
    if origin is not None:
        begin(module, origin)


if __name__ == "__main__":
    sys.exit(main())
