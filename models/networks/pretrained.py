"""Frozen networks of `keras.applications` as encoders of images.

Shapes: B images, H and W their height and width, h and w those of a grid, F its features.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import keras


def names() -> list[str]:
    """Returns the names of the available networks."""
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def frozen_encoder(
    name: str, weights: Path | str, height: int, width: int
) -> tuple[Callable, keras.Model]:
    """Builds a network without its classification layers, with weights from a file.

    Args:
        name: Name of the network, one of `names()`.
        weights: File of the weights without the classification layers: .weights.h5 as
            written by `save_weights`, or .h5 as published by Keras.
        height: Height of the images.
        width: Width of the images.

    Returns:
        A function from pixels (B, H, W, 3), from 0 to 255, to a grid (B, h, w, F) float32,
        and the network that it calls.

    Raises:
        ValueError: There is no such network, the images are too small for it, or the file
            does not hold its weights.
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
    scaled = sys.modules[build.__module__].preprocess_input  # specific to each network

    def grid(pixels):
        return network(scaled(keras.ops.cast(pixels, "float32")), training=False)

    return grid, network
