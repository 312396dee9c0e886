"""One of K classes for each node of a tree; the class of a text is that of its root."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.layers.losses import StepAccuracy
from models.text.words import max_bytes
from tasks.core.errors import UserError
from tasks.core.examples import Example
from tasks.corpora import treebank
from tasks.shapes.classification.settings import Config
from tasks.shapes.classification.targets import classes
from tasks.shapes.classification.targets.classes import Classes
from tasks.shapes.classification.targets.nodes_evaluation import Evaluator
from tasks.shapes.classification.targets.target import Explanation


class Learner(classes.Learner):
    """Counts the classes of nodes."""

    def __init__(self, config: Config):
        super().__init__(config)
        self._roots = set()

    def add(self, example: Example) -> None:
        children = self.config.tree_arity or None
        tree = treebank.parse_line(example.values["text"], example.origin, children)
        self._counts.update(tree.labels)
        self._roots.add(tree.labels[0])

    def write(self, folder: Path) -> None:
        if len(self._roots) < 2:
            raise UserError(
                "the roots of the train part need at least two labels, got "
                f"{len(self._roots)}: {sorted(self._roots)}."
            )
        super().write(folder)


class Nodes(Classes):
    """One of K classes for each node: all of them in the loss, the root in every score.

    A batch has logits (B, N, K), targets (B, N), and a sample weight for each node.
    """

    Learner = Learner
    Evaluator = Evaluator
    reduction = "mean_with_sample_weight"
    accuracy = StepAccuracy

    def rejection_reason(self, example: Example) -> str | None:
        return _tree_reason(self.config, example) or super().rejection_reason(example)

    def explain(self, response: Mapping) -> Explanation:
        explanation = super().explain(response)
        return explanation._replace(value=functools.partial(_of_root, explanation.value))

    def limits(self) -> Sequence[str]:
        return (
            *super().limits(),
            "Training uses the labels of all nodes; validation, and all scores except "
            "node_accuracy, use those of the roots.",
        )


def _of_root(value, logits):
    """Returns the value of the logits of roots, (B, K), of those of all nodes, (B, N, K)."""
    return value(logits[:, 0])


def _tree_reason(config, example: Example) -> str | None:
    """Returns why a tree cannot be read; None if it can."""
    text, limit = example.values["text"], config.max_length
    tree = treebank.parse_line(text, example.origin)
    if len(tree.labels) > limit or len(text.encode("utf-8")) > max_bytes(limit):
        return f"the tree has more than {limit} nodes (--max-length)"
    if config.tree_arity and tree.most_children > config.tree_arity:
        return f"a node has more than {config.tree_arity} children (--tree-arity)"
    return None
