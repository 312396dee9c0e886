"""Jacobians of the steps of a cell, and the norms of their products.

With s_t all states after step t, concatenated (h, and c if there is one), and
J_t = ds_t / ds_(t-1), the chain rule is

    ds_T / ds_(T-k) = J_T J_(T-1) ... J_(T-k+1).

Backpropagation multiplies the gradient of the last state by this product. Its norm, the largest
singular value, is the largest factor by which a gradient can grow over the lag k. If every J_t
has a norm below some q < 1, it is at most q^k and gradients vanish; they can explode only where
norms exceed 1 (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013). In the linear case
s_t = s_(t-1) U it is the norm of U^k, which grows in the limit like the k-th power of the
largest absolute eigenvalue of U.

Shapes: B sequences, T steps, D features, H units, S numbers in all states of a step.
"""

import numpy as np
import tensorflow as tf

from .cell import GatedCell, by_map


def of_steps(cell: GatedCell, inputs: np.ndarray) -> np.ndarray:
    """Returns the Jacobian of each step of a cell, by differentiating `GatedCell.step`.

    The initial states are zeros. Dropout is not applied.

    Args:
        cell: A built cell.
        inputs: (B, T, D).

    Returns:
        (B, T, S, S) float64: a row for each number after the step, a column for each before.

    Example:
        >>> cell = GatedCell(4, "lstm")
        >>> cell.build((None, 3))
        >>> of_steps(cell, np.ones((2, 5, 3), "float32")).shape
        (2, 5, 8, 8)
    """
    noise = cell.inference_noise()

    @tf.function(autograph=False)
    def step(x, before):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(before)
            states = tf.split(before, cell.state_size, axis=-1)
            after = tf.concat(cell.step(x, states, noise), axis=-1)
        return after, tape.batch_jacobian(after, before)

    state, jacobians = tf.concat(cell.get_initial_state(len(inputs)), axis=-1), []
    for x in np.swapaxes(inputs, 0, 1):
        state, jacobian = step(tf.constant(x, cell.compute_dtype), state)
        jacobians.append(jacobian.numpy().astype("float64"))
    return np.stack(jacobians, axis=1)


def log_norms(jacobians: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the norm of ds_T / ds_(T-k) for each lag k from 0 to T.

    The norms themselves may exceed the range of a float.

    Args:
        jacobians: Jacobians of the steps, (B, T, S, S).

    Returns:
        (B, T + 1) float64; -inf where a norm is 0.
    """
    batch, length, size, _ = jacobians.shape
    product = np.broadcast_to(np.eye(size), (batch, size, size))
    logs = [np.zeros(batch)]
    for step in reversed(range(length)):
        product = product @ jacobians[:, step]
        norm = np.linalg.norm(product, ord=2, axis=(1, 2))
        with np.errstate(divide="ignore"):
            logs.append(logs[-1] + np.log(norm))
        product = product / np.where(norm, norm, 1.0)[:, None, None]
    return np.stack(logs, axis=1)


def recurrent_matrices(cell: GatedCell) -> dict[str, np.ndarray]:
    """Returns the matrices by which the maps of a cell multiply h and further recurrent operands.

    Args:
        cell: A built cell.

    Returns:
        (H, H) float64 by map; if h is projected, the projection times the matrix. Further
        matrices of a map are named by their operand, as "input of forget".
    """
    spec, matrices = cell.spec, {}
    weights = cell.matrices(cell.inference_noise())
    if spec.recurrent_maps:
        kernel = weights["recurrent"]
        if spec.projection:
            kernel = tf.matmul(cell.projection, kernel)
        matrices = by_map(spec.recurrent_maps, kernel)
    for product, maps in spec.products.items():
        operands = spec.definition.products[product][0]
        rows = tf.split(weights[product], len(operands))
        for operand, row in zip(operands, rows, strict=True):
            for map_name, matrix in by_map(maps, row).items():
                is_only = map_name not in matrices and len(operands) == 1
                matrices[map_name if is_only else f"{map_name} of {operand}"] = matrix
    return {name: np.asarray(matrix, "float64") for name, matrix in matrices.items()}
