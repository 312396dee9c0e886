"""The setting of the direction in which a network reads."""

from typing import Any

from tasks.core.settings import setting

BOTH, FORWARD = "both", "forward"


def direction_setting() -> Any:
    """Returns the field `direction` of a `Config`."""
    return setting(
        BOTH,
        "direction in which the network reads: both; or forward, which also exports the signatures "
        "start, feed and finish for texts that arrive in pieces",
        choices=(BOTH, FORWARD),
        affects="training",
    )
