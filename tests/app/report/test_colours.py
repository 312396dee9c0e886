"""Colour scales are uniform, and can be read by colour-blind people."""

import numpy as np
import pytest

from app.report import colours, heatmaps

# Of the cones that are missing, by Machado et al. (2009), at full severity; linear sRGB.
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def linear(rgb):
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB of linear sRGB (N, 3), for the white of D65."""
    ratio = rgb @ XYZ.T / XYZ.sum(axis=1)
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


def scale_values(scale, count=65):
    return linear(scale(np.linspace(0, 1, count))[:, :3])


@pytest.mark.parametrize("scale", [colours.WEIGHTS, colours.DIVERGING], ids=lambda s: s.name)
def test_equal_steps_look_equal(scale):
    steps = np.linalg.norm(np.diff(lab(scale_values(scale)), axis=0), axis=1)
    assert steps.max() / steps.min() < 2


def test_lightness_tells_the_order_of_weights_and_the_distance_from_the_centre():
    assert (np.diff(lab(scale_values(colours.WEIGHTS))[:, 0]) < 0).all()
    lightness = lab(scale_values(colours.DIVERGING))[:, 0]
    assert (np.diff(lightness[:33]) > 0).all() and (np.diff(lightness[32:]) < 0).all()


@pytest.mark.parametrize("kind", BLINDNESS)
def test_both_sides_of_the_centre_can_be_told_apart(kind):
    seen = np.clip(scale_values(colours.DIVERGING) @ np.array(BLINDNESS[kind]).T, 0, 1)
    values = lab(seen)
    for distance in (8, 16, 32):
        assert np.linalg.norm(values[32 - distance] - values[32 + distance]) > 10, distance
    seen = np.clip(
        linear(np.array([colours.to_rgb(c) for c in colours.SERIES])) @ np.array(BLINDNESS[kind]).T,
        0,
        1,
    )
    for index, one in enumerate(lab(seen)):
        others = np.delete(lab(seen), index, axis=0)
        assert np.linalg.norm(others - one, axis=1).min() > 10


def drawn(values):
    """Colours of gates at some values, in the scale of gates that have these values."""
    low, high = heatmaps.gate_limits(np.array(values))
    return lab(linear(colours.DIVERGING((np.array(values) - low) / (high - low))[:, :3]))


def test_gates_near_one_half_can_be_told_apart():
    steps = np.linalg.norm(np.diff(drawn([0.46, 0.48, 0.5, 0.52, 0.54]), axis=0), axis=1)
    assert steps.min() > 20
    steps = np.linalg.norm(np.diff(drawn([0.0, 0.45, 0.5, 0.55, 1.0]), axis=0), axis=1)
    assert steps.min() > 5


def test_the_scale_of_gates_is_around_one_half_and_covers_nearly_all():
    rng = np.random.default_rng(0)
    for spread in (0.01, 0.07, 0.2, 0.4):
        values = np.clip(rng.normal(0.5, spread, [50, 60]), 0, 1)
        low, high = heatmaps.gate_limits(values)
        assert low + high == pytest.approx(1) and low >= 0
        assert np.mean((values >= low) & (values <= high)) >= 0.97
    assert heatmaps.gate_limits(np.zeros([2, 3])) == (0, 1)


def test_texts_are_legible_on_every_colour():
    for scale in (colours.WEIGHTS, colours.DIVERGING):
        for value in np.linspace(0, 1, 41):
            colour = scale(value)
            background = linear(np.array(colour[:3])) @ XYZ[1]
            text = 0.0 if colours.text_on(colour) == "black" else 1.0
            light, dark = max(text, background), min(text, background)
            assert (light + 0.05) / (dark + 0.05) > 4.4, value
