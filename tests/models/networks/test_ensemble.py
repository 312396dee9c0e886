"""Ensembles of networks: means of predictions, weights, saving."""

import keras
import numpy as np
import pytest

import models
from models.networks.classifier import classifier
from models.networks.ensemble import MEANS, MeanPrediction, ensemble, is_ensemble, members

IDS = np.array([[3, 1, 4, 0], [5, 2, 0, 0]], "int32")


def network(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    sizes = {"vocabulary": 6, "classes": 3, "units": 3, "layers": 1, "embedding": 2}
    return classifier(cell="lstm", **sizes)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(-1, keepdims=True)


def test_labels_and_values_are_averaged():
    logits = np.random.default_rng(1).normal(scale=3, size=(3, 2, 4)).astype("float32")
    sigmoid = 1 / (1 + np.exp(-logits))
    mean = MeanPrediction("label_probabilities")(list(logits)).numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-mean)), sigmoid.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(MeanPrediction("values")(list(logits)), logits.mean(0), rtol=1e-5)


@pytest.mark.parametrize("mean", MEANS[:2])
def test_probabilities_are_the_mean_of_those_of_the_networks(mean):
    networks = [network(seed) for seed in range(3)]
    each = [softmax(100 * net(IDS).numpy()) for net in networks]
    for net in networks:
        net.get_layer("calibration").temperature.assign(0.01)  # so that the two means differ
    expected = (
        np.mean(each, axis=0) if mean == "probabilities" else softmax(np.mean(np.log(each), 0))
    )
    logits = ensemble(networks, mean)(IDS).numpy()
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-4)
    other = softmax(ensemble(networks, *(m for m in MEANS[:2] if m != mean))(IDS).numpy())
    assert np.abs(other - expected).max() > 1e-3


def test_an_ensemble_returns_its_members_and_is_saved_with_them(tmp_path):
    networks = [network(seed) for seed in range(11)]
    model = ensemble(networks, head=[keras.layers.Identity(name="head")])
    assert is_ensemble(model) and members(model) == networks
    assert not is_ensemble(networks[0]) and members(networks[0]) == [networks[0]]
    model.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    assert len(members(loaded)) == 11 and loaded.layers[-1].name == "head"
    np.testing.assert_allclose(loaded(IDS), model(IDS), atol=1e-6)


def test_an_unknown_mean_is_rejected():
    with pytest.raises(ValueError, match=r"mean must be one of .*'probabilities'.*got 'harmonic'"):
        MeanPrediction("harmonic")
