"""Network of 1→N: the logits of the next ids of captions, from an image.

Shapes: B batch, C captions per image, T steps, V ids, S positions of the memory.
"""

from collections.abc import Mapping

import keras

from ..cells.specs import CellSpec
from ..layers.decoder import Decoder
from ..layers.grid import AXES, Places, Sweep

ATTENTIONS = ("grid", "none")


def captioner(
    *,
    image: tuple[int, int, int],
    vocabulary: int,
    cell: CellSpec | Mapping | str,
    units: int,
    layers: int,
    embedding: int,
    filters: int = 0,
    sweeps: int = 0,
    attention: str = "grid",
    input_feeding: bool = False,
    dropout: float = 0.0,
    implementation: str = "auto",
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of {"image": (B, *image), "before": (B, C, T)} to logits (B, C, T, V) float32.

    "before" holds, at each step, the token before the one to predict, 0 at padding. The
    layer "decoder" (`Decoder`) attends to the output of the layer "memory", (B, S, units):
    the positions of the grid into which the image is encoded, or, without attention, a
    single vector of the whole image (vec2seq).

    Args:
        image: Height, width and channels: of pixels from 0 to 255 if there are filters,
            otherwise of the features of another network.
        vocabulary: One more than the largest id.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`.
        units: Units of each decoder layer, and features of a position.
        layers: Number of decoder layers.
        embedding: Features of an embedded token.
        filters: Filters of the first convolution; 0 if the input is already encoded.
        sweeps: Number of recurrent sweeps over the rows and then the columns of the grid.
            Convolutions have a local view, but counting objects needs a global one.
        attention: Memory of the decoder, one of `ATTENTIONS`.
        input_feeding: Whether a step reads the previous attentional state.
        dropout: Share of features dropped in training.
        implementation: Implementation of `GatedRNN`.
        dtype: A Keras dtype policy, such as "mixed_bfloat16".

    Raises:
        ValueError: `attention` is not in `ATTENTIONS`.
    """
    if attention not in ATTENTIONS:
        raise ValueError(f"attention must be one of {list(ATTENTIONS)}, got {attention!r}.")
    pixels = keras.Input(image, dtype="uint8" if filters else "float32", name="image")
    before = keras.Input((None, None), dtype="int32", name="before")
    x = convolutions(pixels, filters, dtype) if filters else pixels
    grid = keras.layers.Conv2D(units, 1, dtype=dtype, name="grid")(x)
    for number in range(sweeps):
        for along in AXES:
            if dropout:
                grid = keras.layers.Dropout(dropout, dtype=dtype, name=f"dropout_{along}_{number}")(
                    grid
                )
            grid = Sweep(cell, along, implementation, dtype=dtype, name=f"{along}_{number}")(grid)
    places = Places(dtype=dtype, name="places")(grid)
    if attention == "none":
        flat = keras.layers.Flatten(dtype=dtype, name="flat")(places)
        one = keras.layers.Dense(units, dtype=dtype, name="vector")(flat)
        # Unnormalised, the vector soon saturates the initial states, where gradients vanish.
        one = keras.layers.LayerNormalization(dtype=dtype, name="normed_vector")(one)
        places = keras.layers.Reshape((1, units), dtype=dtype, name="one_place")(one)
    if dropout:
        places = keras.layers.Dropout(dropout, dtype=dtype, name="dropout_memory")(places)
    memory = keras.layers.Identity(dtype=dtype, name="memory")(places)
    logits, _ = Decoder(
        vocabulary,
        embedding,
        units,
        cell,
        layers=layers,
        attention="multiplicative" if attention == "grid" else "none",
        input_feeding=input_feeding,
        dropout=dropout,
        implementation=implementation,
        dtype=dtype,
        name="decoder",
    )(before, memory)
    return keras.Model({"image": pixels, "before": before}, logits, name="captioner")


def convolutions(
    pixels: keras.KerasTensor, filters: int, dtype: str = "float32"
) -> keras.KerasTensor:
    """Encodes pixels (B, H, W, 3) from 0 to 255 as a grid of an eighth of their size.

    The first convolution has no stride: small shapes of about ten pixels would lose the
    details that distinguish a star from a diamond.
    """
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, dtype=dtype, name="rescaled")(pixels)
    for number, factor in enumerate((1, 2, 4, 4)):
        if number:
            x = keras.layers.MaxPooling2D(2, dtype=dtype, name=f"pooled_{number}")(x)
        x = keras.layers.Conv2D(
            factor * filters,
            3,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            dtype=dtype,
            name=f"convolution_{number}",
        )(x)
    return x
