"""Layers over the grid of an image: recurrent sweeps and position embeddings.

Shapes: B batch, H and W height and width of the grid, F features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from ..cells import specs
from ..cells.cell import Tensor
from ..cells.recurrent import GatedRNN

AXES = ("rows", "columns")


@keras.saving.register_keras_serializable(package="gated")
class Sweep(keras.layers.Layer):
    """Recurrent sweep over a grid (B, H, W, F), added to it.

    A bidirectional `GatedRNN` with F / 2 units per direction and one set of weights reads
    every row, or every column (ReNet, Visin et al. 2015, which has no residual sum). If F
    is odd, or the outputs of the cell are narrower than its units, a dense layer restores
    F features.

    Args:
        cell: Cell spec or name, as accepted by `models.cells.specs.find`.
        along: Axis that is read, one of `AXES`.
        implementation: Implementation of `GatedRNN`.
        **kwargs: `name` and `dtype` of a Keras layer.

    Raises:
        ValueError: `along` is not in `AXES`.
    """

    def __init__(
        self,
        cell: specs.CellSpec | Mapping | str = "gru",
        along: str = "rows",
        implementation: str = "auto",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if along not in AXES:
            raise ValueError(f"along must be one of {list(AXES)}, got {along!r}.")
        self.spec, self.along, self.implementation = specs.find(cell), along, implementation

    def build(self, shape: Sequence[int | None]) -> None:
        features = shape[-1]
        common = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.rnn = GatedRNN(
            (features + 1) // 2,
            self.spec,
            direction="both",
            return_sequences=True,
            implementation=self.implementation,
            name="rnn",
            **common,
        )
        self.rnn.build((None, None, features))
        self.fit = None
        if self.rnn.output_size != features:
            self.fit = keras.layers.Dense(features, name="fit", **common)
            self.fit.build((None, None, self.rnn.output_size))
        self.built = True

    def call(self, grid: Tensor) -> Tensor:
        rows = self._to_rows(grid)
        _, lines, steps, features = rows.shape
        outputs = self.rnn(ops.reshape(rows, (-1, steps, features)))
        if self.fit:
            outputs = self.fit(outputs)
        return grid + self._to_rows(ops.reshape(outputs, (-1, lines, steps, features)))

    def _to_rows(self, grid):
        """The grid with the axis that is read as its rows; its own inverse."""
        return ops.transpose(grid, (0, 2, 1, 3)) if self.along == "columns" else grid

    def compute_output_shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "cell": self.spec.to_json(),
            "along": self.along,
            "implementation": self.implementation,
        }


@keras.saving.register_keras_serializable(package="gated")
class Places(keras.layers.Layer):
    """Flattens a grid and adds a learnt position embedding: (B, H, W, F) to (B, H * W, F).

    Attention has no notion of order, so each position gets a vector of its own.

    Weights:
        where: (H * W, F), the position embeddings.
    """

    def build(self, shape: Sequence[int | None]) -> None:
        self.where = self.add_weight(
            name="where",
            shape=(shape[1] * shape[2], shape[3]),
            initializer=keras.initializers.RandomNormal(stddev=0.2),  # distinct from the start
        )

    def call(self, grid: Tensor) -> Tensor:
        positions, features = self.where.shape
        flat = ops.reshape(grid, (-1, positions, features))
        return flat + ops.cast(self.where, flat.dtype)

    def compute_output_shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return shape[0], shape[1] * shape[2], shape[3]
