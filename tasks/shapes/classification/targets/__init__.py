"""What a classifier predicts from a text: a class, labels, or a number.

    classes.py   one of K classes: softmax, cross-entropy, temperature, threshold of confidence
    labels.py    any of K labels: sigmoids, binary cross-entropy, a threshold for each label
    number.py    a number: one output in units of the standard deviation, Huber loss
    nodes.py     with --trees, one of K classes for each node of a tree

Each module has one `Target`, which owns whatever differs: its assets, the encoding of the field
`label`, the loss, what is fitted on the validation part, the outputs of the signature, and its
evaluator. The rest of the shape does not ask which one it has.
"""

from tasks.core import targets
from tasks.shapes.classification.settings import Config
from tasks.shapes.classification.targets.classes import LABELS_FILE, Classes
from tasks.shapes.classification.targets.labels import Labels
from tasks.shapes.classification.targets.nodes import Nodes
from tasks.shapes.classification.targets.number import Number, continue_unit
from tasks.shapes.classification.targets.target import Target

__all__ = ["LABELS_FILE", "Target", "continue_unit", "find"]

_TARGETS: dict[str, type[Target]] = {
    targets.AUTO: Classes,  # settings that no corpus has completed
    targets.CLASSES: Classes,
    targets.LABELS: Labels,
    targets.NUMBER: Number,
}


def find(config: Config) -> type[Target]:
    """Returns the target of some settings."""
    return Nodes if config.trees else _TARGETS[config.target]
