"""`GatedTree`: any gated cell over trees instead of sequences.

Shapes: B batch, N nodes of the largest tree, D input features, H units, P width of h. At one
depth of all trees together: M nodes, with E children in total.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from . import specs
from .cell import (
    GatedCell,
    StepContext,
    Tensor,
    TensorFunctions,
    by_map,
    positive_integer,
    standardize,
)
from .specs import CellSpec


@keras.saving.register_keras_serializable(package="gated")
class GatedTree(keras.layers.Layer):
    """Runs a cell over trees, from the leaves to the root; for the TensorFlow backend.

    A node reads its own input and the states of its children. Gates and candidate read the sum of
    the products of the children's outputs. Where an equation multiplies a gate by a state, each
    child has a gate of its own, computed as if the node had no other child, and the products
    are summed. With the cell "lstm" these are the Tree-LSTMs of Tai et al. (2015): child-sum,
    and N-ary with zeros off the diagonal of the forget gates. In a chain every node has one
    child, and the layer computes what `GatedRNN` does.

    The nodes of one depth are computed together, so a batch takes as many steps as its deepest tree
    has levels.

    Args:
        units: H.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`. It must not have
            zoneout or recurrent dropout.
        arity: Largest number of children, each with recurrent matrices of its own, in the order
            of their nodes; None for any number of children that share them.
        return_sequences: Whether to return the outputs of all nodes instead of the root's.
        kernel_initializer: Initializer of the input kernel.
        recurrent_initializer: Initializer of the recurrent kernels.
        use_bias: Whether there are biases.
        bias_initializer: Initializer of the biases to which the spec gives none.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        inputs: (B, N, D), a row for each node, in any order.
        parents: (B, N) int32, the index of each node's parent, -1 for the root.
        mask: (B, N) bool, false where there is no node.

    Returns:
        (B, P), the output of each root; or (B, N, P), with zeros where there is no node. Called
        in a graph, the layer returns zeros for rows that are not trees (see `valid_trees`).

    Raises:
        ValueError: The backend is not TensorFlow, an argument is invalid, or a row is not a tree
            (eager execution only).

    Example:
        >>> import numpy as np
        >>> from models import GatedTree
        >>> parents = np.array([[2, 2, -1], [1, -1, 0]])  # two leaves of a root; a chain
        >>> tuple(GatedTree(4, "lstm")(np.ones((2, 3, 5)), parents).shape)
        (2, 4)
    """

    def __init__(
        self,
        units: int,
        cell: CellSpec | Mapping | str = "lstm",
        arity: int | None = None,
        return_sequences: bool = False,
        *,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        use_bias: bool = True,
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ):
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                f"GatedTree needs the TensorFlow backend, got {keras.backend.backend()!r}."
            )
        super().__init__(autocast=False, **kwargs)
        self.arity = None if arity is None else positive_integer("arity", arity)
        self.return_sequences = bool(return_sequences)
        self.supports_masking = True
        spec = specs.find(cell)
        if spec.random:
            raise ValueError(
                "GatedTree does not support zoneout and recurrent dropout; put a "
                f"keras.layers.Dropout before or after it. Got the cell {spec.to_json()}."
            )
        self.cell = _TreeCell(
            self.arity or 1,
            units,
            spec,
            kernel_initializer,
            recurrent_initializer,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name="cell",
        )

    @property
    def output_size(self) -> int:
        """P."""
        return self.cell.output_size

    def build(
        self, inputs_shape: Sequence[int | None], parents_shape: Sequence[int | None] | None = None
    ) -> None:
        self.cell.build((None, inputs_shape[-1]))
        self.built = True

    def call(self, inputs: Tensor, parents: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:  # Keras passes an attached mask itself only to layers with one input
            mask = getattr(inputs, "_keras_mask", None)
        parents = tf.cast(parents, tf.int32)
        present = tf.ones_like(parents, tf.bool) if mask is None else tf.cast(mask, tf.bool)
        valid = valid_trees(parents, present, self.arity)
        if tf.executing_eagerly() and not tf.reduce_all(valid):
            rows = np.flatnonzero(~valid.numpy()).tolist()
            limit = "" if self.arity is None else f" with at most {self.arity} children"
            raise ValueError(
                f"each row of parents must be a tree{limit}: one root, -1, and all other nodes "
                f"below it; got other rows: {rows}."
            )
        trees = _Trees(parents, present & valid[:, None])
        outputs = self._run(inputs, trees)
        if self.return_sequences:
            return outputs
        roots = tf.cast((trees.depths == 1)[..., None], outputs.dtype)
        return tf.reduce_sum(outputs * roots, axis=1)

    def _run(self, inputs, trees):
        """The outputs of all nodes, (B, N, P)."""
        cell = self.cell
        rows = tf.reshape(inputs, (-1, cell.features))
        projected = cell.project(rows, cell.input_weights())
        weights = cell.tree_weights()
        positions = None if self.arity is None else trees.positions()
        total = tf.shape(rows)[0]

        def step(depth, first, states, order, outputs):
            """Computes the nodes of a depth from `states`, those of the nodes one deeper."""
            nodes = tf.gather(trees.order, tf.range(first, first + trees.counts[depth]))
            place = tf.tensor_scatter_nd_update(
                tf.zeros([total], tf.int32), nodes[:, None], tf.range(tf.size(nodes))
            )
            parent = tf.gather(place, tf.gather(trees.parents, order))
            children = _Children(parent, tf.size(nodes))
            ranks = None if positions is None else tf.gather(positions, order)
            after = _step(
                cell,
                tf.gather(projected, nodes),
                [children.state(functools.partial(tf.identity, state)) for state in states],
                ranks,
                weights,
                children,
            )
            outputs = tf.tensor_scatter_nd_update(outputs, nodes[:, None], after[0])
            return depth - 1, first + tf.size(nodes), after, nodes, outputs

        leaves = [tf.zeros([0, size], cell.state_dtype) for size in cell.state_size]
        outputs = tf.zeros([total, self.output_size], cell.state_dtype)
        states = tf.while_loop(
            lambda depth, *_: depth > 0,
            step,
            (trees.deepest, 0, leaves, tf.zeros([0], tf.int32), outputs),
            (
                tf.TensorShape([]),
                tf.TensorShape([]),
                [tf.TensorShape([None, size]) for size in cell.state_size],
                tf.TensorShape([None]),
                outputs.shape,
            ),
        )
        shape = tf.concat([tf.shape(inputs)[:2], [self.output_size]], axis=0)
        outputs = tf.reshape(states[-1], shape)
        outputs.set_shape((*inputs.shape[:2], self.output_size))
        return tf.cast(outputs, self.compute_dtype)

    def compute_mask(
        self,
        inputs: Tensor,
        previous_mask: Tensor | None = None,
        parents: Tensor | None = None,
    ) -> Tensor | None:
        if isinstance(previous_mask, (list, tuple)):
            previous_mask = previous_mask[0]
        return previous_mask if self.return_sequences else None

    def compute_output_shape(
        self, inputs_shape: Sequence[int | None], parents_shape: Sequence[int | None] | None = None
    ) -> tuple[int | None, ...]:
        nodes = tuple(inputs_shape[1:2]) if self.return_sequences else ()
        return (inputs_shape[0], *nodes, self.output_size)

    def get_config(self) -> dict[str, Any]:
        cell = self.cell.get_config()
        names = ("kernel_initializer", "recurrent_initializer", "use_bias", "bias_initializer")
        return {
            **super().get_config(),
            "units": cell["units"],
            "cell": cell["spec"],
            "arity": self.arity,
            "return_sequences": self.return_sequences,
            **{name: cell[name] for name in names},
        }


@dataclasses.dataclass(frozen=True)
class _Weights:
    """Weights of a cell as its steps use them.

    Attributes:
        kernels: Recurrent kernels of all positions of a child, one above the other.
        matrices: Result of `GatedCell.matrices`.
        vectors: Result of `GatedCell.vectors`.
    """

    kernels: Tensor | None
    matrices: Mapping[str, Tensor]
    vectors: Mapping[str, Tensor]


class _TreeCell(GatedCell):
    """A cell with a recurrent kernel for each position of a child."""

    def __init__(self, arity: int, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.arity = arity

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.further_kernels = []
        if maps := self.spec.recurrent_maps:
            self.further_kernels = [
                self._add_recurrent(f"recurrent_kernel_{number}", self.output_size, maps)
                for number in range(2, self.arity + 1)
            ]

    def tree_weights(self) -> _Weights:
        """Returns the weights of a step."""
        matrices, kernels = self.matrices(self.inference_noise()), None
        if self.spec.recurrent_maps:
            kernels = [matrices["recurrent"], *map(self._whole, self.further_kernels)]
            kernels = tf.concat([tf.cast(kernel, self.compute_dtype) for kernel in kernels], axis=0)
        return _Weights(kernels, matrices, self.vectors())


def valid_trees(parents: Tensor, mask: Tensor | None = None, arity: int | None = None) -> Tensor:
    """Returns which rows are trees: one root, and all other nodes below it.

    Args:
        parents: (B, N) int32, the index of each node's parent, -1 for the root.
        mask: (B, N) bool, false where there is no node.
        arity: Largest number of children of a node; None for any number.

    Returns:
        (B,) bool. False for rows without nodes, with several roots, with cycles, or with parents
        that are out of range or masked.
    """
    parents = tf.cast(parents, tf.int32)
    present = tf.ones_like(parents, tf.bool) if mask is None else tf.cast(mask, tf.bool)
    count = tf.shape(parents)[1]
    in_range = (parents >= 0) & (parents < count)
    safe = tf.where(in_range, parents, 0)
    of_nodes = tf.where(in_range, tf.gather(present, safe, batch_dims=1), parents == -1)
    trees = _Trees(parents, present & in_range & of_nodes)  # of other nodes the depth is 0
    depths = tf.where(present & (parents == -1), 1, trees.depths)
    valid = tf.reduce_all(of_nodes | ~present, axis=1)
    valid &= tf.reduce_all((depths <= count) | ~present, axis=1)
    valid &= tf.reduce_sum(tf.cast(present & (parents == -1), tf.int32), axis=1) == 1
    if arity is not None:
        few = tf.reshape(trees.positions(), tf.shape(parents)) < arity
        valid &= tf.reduce_all(few | ~present | (parents < 0), axis=1)
    return valid


class _Trees:
    """The nodes of a batch of trees, ordered by depth.

    Args:
        parents: (B, N) int32.
        present: (B, N) bool, false for nodes to leave out.

    Attributes:
        parents: (B * N,), index of the parent among all nodes of the batch; B * N for roots.
        depths: (B, N), 1 for a root; 0 for nodes left out; above N below a cycle.
        order: (B * N,), indices of the nodes, the deepest first.
        deepest: The largest depth.
        counts: Number of nodes of each depth up to the largest.
    """

    def __init__(self, parents: Tensor, present: Tensor):
        rows, count = tf.unstack(tf.shape(parents))
        total = rows * count
        in_range = present & (parents >= 0) & (parents < count)
        flat = tf.where(in_range, parents + tf.range(rows)[:, None] * count, total)
        self.parents = tf.reshape(flat, [-1])
        self.depths = tf.where(present, _depths(self.parents, count, tf.shape(parents)), 0)
        every = tf.reshape(self.depths, [-1])
        self.order = tf.argsort(every, direction="DESCENDING", stable=True)
        self.deepest = tf.minimum(tf.reduce_max(tf.concat([every, [0]], 0)), count)
        self.counts = tf.math.unsorted_segment_sum(
            tf.ones_like(every), tf.minimum(every, count), count + 1
        )

    def positions(self) -> Tensor:
        """Returns the number of siblings that come before each node, (B * N,)."""
        keys = tf.cast(self.parents, tf.int64) * tf.cast(tf.size(self.parents) + 1, tf.int64)
        by_parent = tf.argsort(keys + tf.range(tf.size(self.parents), dtype=tf.int64))
        ordered = tf.gather(self.parents, by_parent)
        rank = tf.range(tf.size(ordered)) - tf.searchsorted(ordered, ordered)
        return tf.scatter_nd(by_parent[:, None], rank, tf.shape(rank))


def _depths(parents, count, shape):
    """Number of nodes from each to its root, found by jumps of doubled length; ≥ 2 N in a cycle."""
    total = tf.size(parents)
    ancestors = tf.concat([parents, [total]], axis=0)
    depths = tf.concat([tf.ones_like(parents), [0]], axis=0)

    def jump(length, ancestors, depths):
        depths = depths + tf.gather(depths, ancestors)
        return 2 * length, tf.gather(ancestors, ancestors), depths

    unknown = tf.TensorShape([None])
    _, _, depths = tf.while_loop(
        lambda length, *_: length < 2 * count,
        jump,
        (1, ancestors, depths),
        (tf.TensorShape([]), unknown, unknown),
    )
    return tf.reshape(depths[:-1], shape)


class _Children:
    """The children of M nodes.

    Args:
        parent: (E,), the place of each child's parent among the nodes.
        count: M.
    """

    def __init__(self, parent: Tensor, count: Tensor):
        self.parent, self.count = parent, count

    def sum(self, values: Tensor) -> Tensor:
        """Returns the sum over the children of each node, (M, H), of values (E, H)."""
        return tf.math.unsorted_segment_sum(values, self.parent, self.count)

    def state(self, values: Callable[[], Tensor]) -> _Value:
        """Returns what a function gives for children, (E, H), as a state."""
        child = functools.cache(values)
        return _Value(self, lambda: self.sum(child()), child, is_state=True)

    def input(self, values: Tensor) -> _Value:
        """Returns what is read by nodes alone, (M, H)."""
        return _Value(self, lambda: values, lambda: tf.gather(values, self.parent))


class _Value:
    """What the text of an equation computes with: a value of each node, and one of each child.

    That of a child is what the node's would be if it had no other child. Either is computed when it
    is needed.

    Args:
        children: Children of the nodes.
        node: Function that returns (M, H).
        child: Function that returns (E, H).
        is_state: Whether it is a state or a product of states: that of a node is the sum
            over its children.
    """

    def __init__(
        self,
        children: _Children,
        node: Callable[[], Tensor],
        child: Callable[[], Tensor],
        is_state: bool = False,
    ):
        self.children, self.is_state = children, is_state
        self.node, self.child = functools.cache(node), functools.cache(child)

    def map(self, function: Callable[..., Tensor], *others: Any) -> _Value:
        """Returns a function of this and other values, which may be numbers or vectors."""
        both = (self, *others)
        return _Value(
            self.children,
            lambda: function(*(_part(value, "node") for value in both)),
            lambda: function(*(_part(value, "child") for value in both)),
        )

    def _scaled(self, function, other):
        """This value times or divided by another one."""
        states = [value.is_state for value in (self, other) if isinstance(value, _Value)]
        if not any(states):
            return self.map(function, other)
        result = self.map(function, other)
        result.is_state = True
        if isinstance(other, _Value):
            result.node = functools.cache(lambda: self.children.sum(result.child()))
        return result

    def __add__(self, other):
        result = self.map(operator.add, other)
        result.is_state = self.is_state and isinstance(other, _Value) and other.is_state
        return result

    def __radd__(self, other):
        return self.map(lambda a, b: b + a, other)

    def __sub__(self, other):
        result = self.map(operator.sub, other)
        result.is_state = self.is_state and isinstance(other, _Value) and other.is_state
        return result

    def __rsub__(self, other):
        return self.map(lambda a, b: b - a, other)

    def __neg__(self):
        return self._scaled(operator.mul, -1.0)

    def __mul__(self, other):
        return self._scaled(operator.mul, other)

    def __rmul__(self, other):
        return self._scaled(lambda a, b: b * a, other)

    def __truediv__(self, other):
        if isinstance(other, _Value) and other.is_state and not self.is_state:
            return self.map(operator.truediv, other)
        return self._scaled(operator.truediv, other)

    def __rtruediv__(self, other):
        return self.map(lambda a, b: b / a, other)

    # A vector of weights on the left: NumPy and TensorFlow leave the operation to this class.
    __array_priority__ = 1000


def _part(value, name):
    return getattr(value, name)() if isinstance(value, _Value) else value


class _Functions:
    """`Functions` on `_Value`s."""

    def __init__(self, functions: TensorFunctions, product_maps: Mapping[str, tuple[str, ...]]):
        self._functions, self._product_maps = functions, product_maps

    def activation(self, name: str, z: _Value) -> _Value:
        return z.map(lambda tensor: self._functions.activation(name, tensor))

    def maximum(self, a: Any, b: Any) -> _Value:
        if not isinstance(a, _Value):
            a, b = b, a
        return a.map(self._functions.maximum, b)

    def clip(self, z: _Value, limit: float) -> _Value:
        return z.map(lambda tensor: self._functions.clip(tensor, limit))

    def standardize(self, z: _Value) -> _Value:
        return z.map(self._functions.standardize)

    def product(self, name: str, values: tuple) -> dict[str, _Value]:
        (first, *_) = (value for value in values if isinstance(value, _Value))
        blocks = first.map(lambda _, *tensors: self._functions.product(name, tensors), *values)
        return {m: blocks.map(lambda by_map, m=m: by_map[m]) for m in self._product_maps[name]}


def _step(
    cell: _TreeCell,
    projected: Tensor,
    states: Sequence[_Value],
    positions: Tensor | None,
    weights: _Weights,
    children: _Children,
) -> list[Tensor]:
    """Returns the states of M nodes.

    Args:
        cell: The cell.
        projected: Their block of `GatedCell.project`, (M, F * H).
        states: The states of their children.
        positions: (E,), the number of siblings before each child; None if they do not matter.
        weights: Weights of the cell.
        children: Their children.
    """
    functions = TensorFunctions(cell, weights.matrices)
    context = StepContext(
        cell.spec,
        {m: children.input(z) for m, z in by_map(cell.projected_maps, projected).items()},
        _recurrent(cell, states[0], positions, weights, children),
        weights.vectors,
        _Functions(functions, cell.product_maps),
        {},
    )
    after = []
    for value, width in zip(context.advance(states), cell.state_size, strict=True):
        if not isinstance(value, _Value):  # a pinned gate as a state
            value = children.input(
                tf.fill([children.count, width], tf.cast(value, cell.state_dtype))
            )
        after.append(value.node())
    return after


def _recurrent(cell, h, positions, weights, children):
    """h U of each map that reads h; of a node it is the sum over its children."""
    spec = cell.spec
    if not spec.recurrent_maps:
        return {}

    def of_children():
        rows = h.child()
        if positions is not None:
            places = tf.one_hot(positions, cell.arity, dtype=rows.dtype)
            rows = tf.reshape(places[:, :, None] * rows[:, None], (-1, cell.arity * rows.shape[1]))
        return cell.multiply(rows, weights.kernels)

    product = children.state(of_children)
    product.is_state = False
    if spec.layer_norm == "products":
        gain = weights.vectors["recurrent_gain"]
        product = product.map(lambda z: standardize(z)[0] * gain)
    blocks = product.map(lambda z: by_map(spec.recurrent_maps, z))
    return {m: blocks.map(lambda parts, m=m: parts[m]) for m in spec.recurrent_maps}
