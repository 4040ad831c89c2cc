"""The one kind of error that is the user's to fix: printed as a line, exit code 2, never a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

USER_ERROR = 2  # exit code
SHOWN = 10  # names in a line


class UserError(Exception):
    """One line that says what is wrong, where, and what to do."""


class NonFiniteError(UserError):
    """A loss term or a gradient became NaN or infinite; names the term and the images seen."""


def nearest(name: str, known: Collection[str]) -> str:
    """What to say of a name that is not `known`: the one that was meant, or else all there are."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def listed(names: Sequence[str], between: str = ", ") -> str:
    """The first of many names, such as of files, and how many there are more, on one line."""
    more = len(names) - SHOWN
    return between.join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
