"""The error that commands print without a traceback."""


class UserError(Exception):
    """Something that the person at the keyboard can mend; its text says what and how."""
