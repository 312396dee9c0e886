"""How far gradients reach: the Jacobians of a cell's steps, and what becomes of their products.

With s_t all states after step t side by side (h, and c where there is one), and
J_t = ds_t / ds_(t-1), the chain rule has

    ds_T / ds_(T-k) = J_T J_(T-1) ... J_(T-k+1).

Backpropagation multiplies what arrives at the last state by this product. Its largest singular
value, the norm, is the most that anything can be lengthened on its way back over the lag k. If
no J_t has a norm above some q < 1 it is at most q^k, so it vanishes; it can explode only where
norms are above 1 (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013). In the linear case
s_t = s_(t-1) U it is the norm of U^k, which in the end goes like the k-th power of the largest
absolute eigenvalue of U.

Shapes: B sequences, T steps, D features, S numbers in all states of a step.
"""

import numpy as np
import tensorflow as tf

from .cell import GatedCell, by_map


def of_steps(cell: GatedCell, inputs: np.ndarray) -> np.ndarray:
    """The Jacobian of each step of a cell that starts from zeros, by differentiating `cell.step`.

    What training drops is not dropped.

    Args:
        cell: The cell, built.
        inputs: What it reads, (B, T, D).

    Returns:
        (B, T, S, S) float64: a row for each number after the step, a column for each before.
    """
    noise = cell.inference_noise()

    @tf.function
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
    """The log of the norm of ds_T / ds_(T-k) for each lag k from 0 to T, (B, T + 1).

    Logs, for the norms themselves may be beyond what a float holds; -inf where one is 0.

    Args:
        jacobians: Those of the steps, (B, T, S, S).
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
    """What each map multiplies h by, or whatever else of the step before it sees.

    Returns:
        By map, (H, H): where h is projected, the projection goes before it. Where a map has
        several, the others are named by what they multiply.
    """
    spec, matrices = cell.spec, {}
    if spec.recurrent_maps:
        kernel = cell.recurrent_kernel
        if spec.projection:
            kernel = tf.matmul(cell.projection, kernel)
        matrices = by_map(spec.recurrent_maps, kernel)
    for product, maps in spec.products.items():
        operands = spec.definition.products[product][0]
        rows = tf.split(getattr(cell, f"{product}_product"), len(operands))
        for name, row in zip(operands, rows, strict=True):
            for map_name, matrix in by_map(maps, row).items():
                own = map_name not in matrices and len(operands) == 1
                matrices[map_name if own else f"{map_name} of {name}"] = matrix
    return {name: np.asarray(matrix, "float64") for name, matrix in matrices.items()}
