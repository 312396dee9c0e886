"""Parsing of JSON that a user wrote."""

import json

from tasks.core.errors import UserError


def parse_json(text: str, origin: object) -> object:
    """Parses JSON.

    Args:
        text: The JSON.
        origin: File and line, flag or variable, for the message.

    Raises:
        UserError: It is not valid, or nested too deeply; the message begins with `origin`.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{origin}: not valid JSON: {error}.") from error
    except RecursionError:
        raise UserError(f"{origin}: not valid JSON: it is nested too deeply.") from None
