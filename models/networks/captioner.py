"""The network of 1→N: an image in, the logits of the next ids of its captions out.

Shapes: B batch, C captions of an image, T steps, V ids, S places of the memory.
"""

import keras

from ..layers.decoder import Decoder
from ..layers.grid import AXES, Places, Sweep

ATTENTIONS = ("grid", "none")


def captioner(
    *,
    image: tuple[int, int, int],
    vocabulary: int,
    cell,
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
    output of the layer "memory", (B, S, units), is what the layer "decoder" (`Decoder`)
    looks at: the places of the grid that the image is read into, or, without attention, all
    of them as one (vec2seq).

    Args:
        image: Height, width and channels: of pixels of 0 to 255 where there are filters,
            else of what another network made of them.
        vocabulary: One more than the largest id.
        cell: What `models.cells.specs.find` takes.
        units: Of each layer of the decoder, and features of a place.
        layers: Of the decoder.
        embedding: Features of an embedded token.
        filters: Of the first of the convolutions that read pixels; 0 for what has been read.
        sweeps: How many times gated cells read the grid, along its rows and then its columns:
            what a convolution sees is near, and to count is to look everywhere.
        attention: One of `ATTENTIONS`.
        input_feeding: As `Decoder` has it.
        dropout: Share of features dropped while training.
        implementation: That of `GatedRNN`.
        dtype: A Keras dtype policy, such as "mixed_bfloat16".
    """
    if attention not in ATTENTIONS:
        raise ValueError(f"attention must be one of {list(ATTENTIONS)}, got {attention!r}.")
    pixels = keras.Input(image, dtype="uint8" if filters else "float32", name="image")
    before = keras.Input((None, None), dtype="int32", name="before")
    x = convolutions(pixels, filters, dtype) if filters else pixels
    grid = keras.layers.Conv2D(units, 1, dtype=dtype, name="grid")(x)
    for at in range(sweeps):
        for along in AXES:
            if dropout:
                grid = keras.layers.Dropout(dropout, dtype=dtype, name=f"dropout_{along}_{at}")(
                    grid
                )
            told = {"implementation": implementation, "dtype": dtype, "name": f"{along}_{at}"}
            grid = Sweep(cell, along, **told)(grid)
    places = Places(dtype=dtype, name="places")(grid)
    if attention == "none":
        flat = keras.layers.Flatten(dtype=dtype, name="flat")(places)
        one = keras.layers.Dense(units, dtype=dtype, name="vector")(flat)
        # All places together would soon saturate the first states, which nothing comes back from.
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


def convolutions(pixels, filters: int, dtype: str = "float32"):
    """Reads pixels (B, H, W, 3) of 0 to 255 into a grid of an eighth of their height and width.

    The first convolution sees every pixel: of what is ten pixels across, a stride would
    leave too little to tell a star from a diamond of a colour never seen on it.
    """
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, dtype=dtype, name="rescaled")(pixels)
    for at, wide in enumerate((1, 2, 4, 4)):
        if at:
            x = keras.layers.MaxPooling2D(2, dtype=dtype, name=f"pooled_{at}")(x)
        x = keras.layers.Conv2D(
            wide * filters,
            3,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            dtype=dtype,
            name=f"convolution_{at}",
        )(x)
    return x
