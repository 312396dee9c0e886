"""Networks of `keras.applications` that read images and are not trained further.

Shapes: B images, H and W their height and width, h and w those of a grid, F its features.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import keras


def names() -> list[str]:
    """Every network there is."""
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def frozen(name: str, weights: Path | str, height: int, width: int) -> tuple[Callable, keras.Model]:
    """Builds a network without its last layers, with the weights of a file.

    Args:
        name: One of `names`.
        weights: Of the network without its last layers: as `save_weights` writes them, in a
            .weights.h5, or as Keras has them for download, in an .h5.
        height, width: Of the images.

    Returns:
        What makes the grid (B, h, w, F) float32 of pixels (B, H, W, 3) of 0 to 255, and
        the network in it.

    Raises:
        ValueError: There is no such network, it has no room for such images, or the file
            holds other weights.
    """
    if name not in names():
        raise ValueError(f"the network must be one of {names()}, got {name!r}.")
    build = getattr(keras.applications, name)
    network = build(include_top=False, weights=None, input_shape=(height, width, 3))
    try:
        network.load_weights(str(weights))
    except (ValueError, OSError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{weights} has no weights of {name} without its top: {reason}") from error
    network.trainable = False
    scaled = sys.modules[build.__module__].preprocess_input  # each network has a way of its own

    def grid(pixels):
        return network(scaled(keras.ops.cast(pixels, "float32")), training=False)

    return grid, network
