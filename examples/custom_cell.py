"""A cell of your own, as data: an LSTM with two peepholes, a ReLU and layer normalisation."""

import keras
import numpy as np
from gated_rnn import CellSpec, GatedRNN, equations

spec = CellSpec(
    "lstm",
    bias={"forget": "chrono:200", "input": "-chrono:200"},
    peepholes=["forget", "output"],
    output_activation="relu",
    layer_norm="products",
)
print(*equations(spec), sep="\n")

features = keras.Input((None, 4))
network = keras.Model(features, keras.layers.Dense(1)(GatedRNN(16, spec)(features)))
network.compile("adam", "mse")

numbers = np.random.default_rng(0).normal(size=(64, 20, 4)).astype("float32")
sums = numbers[:, :, 0].sum(axis=1, keepdims=True)
network.fit(numbers, sums, epochs=2, verbose=2)
