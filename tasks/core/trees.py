"""The setting of texts that are labelled trees."""

from typing import Any

from tasks.core.settings import setting


def trees_setting() -> Any:
    """Returns the field `trees` of a `Config` and of a corpus."""
    return setting(
        False,
        "whether texts are trees with a label at each node, as in the Stanford Sentiment Treebank: "
        "(3 (2 It) (4 (2 's) (4 good)))",
        absent=False,
    )
