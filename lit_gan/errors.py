"""The one kind of error that is the user's to fix: printed as a line, exit code 2, never a traceback."""

USER_ERROR = 2  # exit code


class UserError(Exception):
    """One line that says what is wrong, where, and what to do."""


class NonFiniteError(UserError):
    """A loss term or a gradient became NaN or infinite; names the term and the images seen."""
