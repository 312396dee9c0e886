"""Bytes to pixels, against Pillow; what is no image harms nobody."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from models import images

SIDE = 16


def picture(seed=0, side=SIDE):
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8))


def written(image, kind="png", **how):
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


PNG, JPEG = written(picture()), written(picture(), "jpeg", quality=95)
GOOD = {
    "png": (PNG, picture()),
    "palette": (written(picture().convert("P")), picture().convert("P").convert("RGB")),
    "grey": (written(picture().convert("L")), picture().convert("L").convert("RGB")),
    "jpeg": (JPEG, Image.open(io.BytesIO(JPEG))),
    "grey jpeg": (written(picture().convert("L"), "jpeg", quality=95), None),
    "progressive": (written(picture(), "jpeg", progressive=True), None),
}
BAD = {
    "nothing": b"",
    "text": b"hello",
    "gif": written(picture(), "gif"),
    "half a png": PNG[: len(PNG) // 2],
    "half a jpeg": JPEG[: len(JPEG) // 2],
    "a png without its end": PNG[:-14],
    "a jpeg without its end": JPEG[:-2],
    "the head of a png": PNG[:20],
    "the head of a jpeg": JPEG[:12],
    "a png with a broken row": PNG[:60] + b"\0\0\0\0" + PNG[64:],
}


def pixels(*all_bytes, height=SIDE, width=SIDE):
    read = tf.function(lambda given: images.pixels(given, height, width))
    return [each.numpy() for each in read(tf.constant(list(all_bytes), tf.string))]


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_image_is_read_as_another_library_reads_it(name):
    given, wanted = GOOD[name]
    wanted = Image.open(io.BytesIO(given)).convert("RGB") if wanted is None else wanted
    ((found,), valid) = pixels(given)
    assert valid.tolist() == [True] and found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), np.asarray(wanted).astype(int), atol=2)


def test_images_of_any_size_are_scaled_to_one():
    whole = np.zeros((40, 100, 3), np.uint8)
    whole[:, 50:] = 200
    tall = whole.transpose(1, 0, 2)
    found, valid = pixels(
        written(Image.fromarray(whole)), written(Image.fromarray(tall)), height=10, width=20
    )
    assert found.shape == (2, 10, 20, 3) and valid.all()
    assert (found[0, :, :9] == 0).all() and (found[0, :, 11:] == 200).all()
    assert (found[1, :4] == 0).all() and (found[1, 6:] == 200).all()


def test_what_is_no_image_is_black_and_its_neighbours_are_as_they_were():
    given = [PNG, *BAD.values(), JPEG]
    found, valid = pixels(*given)
    assert valid.tolist() == [True, *[False] * len(BAD), True]
    assert not found[1:-1].any()
    for at, alone in ((0, pixels(PNG)), (-1, pixels(JPEG))):
        np.testing.assert_array_equal(found[at], alone[0][0])


def test_an_image_too_large_is_not_decoded(monkeypatch):
    monkeypatch.setattr(images, "LARGEST", SIDE * SIDE)
    sizes = [
        written(picture(side=side), kind) for side in (SIDE, SIDE + 1) for kind in ("png", "jpeg")
    ]
    assert pixels(*sizes)[1].tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("width", "height", "fits"),
    [
        (5_000, 5_000, True),
        (25_000_001, 1, False),  # 25,000,000 as float32
        (5_001, 5_000, False),
        (2**32 - 1, 2**32 - 1, False),
        (2**31, 2**32 - 2, False),
    ],
)
def test_the_limit_of_pixels_is_exact(width, height, fits):
    header = PNG[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    assert bool(images._is_small_enough(tf.constant(header))) is fits


def test_no_images_are_no_pixels():
    found, valid = pixels()
    assert found.shape == (0, SIDE, SIDE, 3) and valid.shape == (0,)
