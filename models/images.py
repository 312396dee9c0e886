"""Decoding of images in core TensorFlow ops, the same in training and in serving.

Shapes: B images.
"""

import tensorflow as tf

LARGEST = 25_000_000  # pixels; larger images are not decoded, to bound the memory
_BIG_ENDIAN = [2**24, 2**16, 2**8, 1]
_PNG = b"\x89PNG\r\n\x1a\n"


def pixels(image_bytes: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes JPEG and PNG images, and scales each to one size without keeping proportions.

    Args:
        image_bytes: (B,) strings, the content of image files.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        RGB pixels, (B, height, width, 3) uint8, and a flag, (B,) bool, that is false for
        images that are neither JPEG nor PNG, are truncated, or have more than `LARGEST`
        pixels; those are black.
    """

    def decoded(place, image):
        picture = tf.cond(tf.io.is_jpeg(image), lambda: _jpeg(image), lambda: _png(image))
        scaled = tf.image.resize(picture, [height, width], antialias=True)
        return place, tf.cast(tf.round(scaled), tf.uint8)

    # A decoding op that fails would fail the whole batch. Only a data set can continue after
    # an error; the position -1 keeps it from being empty.
    count = tf.shape(image_bytes, tf.int64)[0]
    none = (tf.constant(-1, tf.int64), tf.zeros([height, width, 3], tf.uint8))
    images = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    images = images.filter(lambda _, image: _is_small_enough(image))
    images = images.map(decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    images = images.ignore_errors().concatenate(tf.data.Dataset.from_tensors(none))
    place, pictures = images.batch(count + 1).get_single_element()
    place, shape = place[:, None] + 1, [count + 1, height, width, 3]
    valid = tf.scatter_nd(place, tf.ones_like(place[:, 0], tf.int32), shape[:1])
    pictures = tf.reshape(
        tf.scatter_nd(place, tf.cast(pictures, tf.int32), shape), [-1, *shape[1:]]
    )
    return tf.cast(pictures[1:], tf.uint8), tf.cast(valid[1:], tf.bool)


def _jpeg(image):
    return tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE")


def _png(image):
    return tf.io.decode_png(image, channels=3)


def _is_small_enough(image):
    """Whether the first bytes are those of a JPEG or PNG of at most `LARGEST` pixels."""

    def of_jpeg():
        return tf.cast(tf.io.extract_jpeg_shape(image)[:2], tf.int64)

    def of_png():
        size = tf.io.decode_raw(tf.strings.substr(image, 16, 8), tf.uint8)  # two numbers
        bytes_ = tf.reshape(tf.cast(size, tf.int64), [2, 4])
        return tf.reduce_sum(bytes_ * tf.constant(_BIG_ENDIAN, tf.int64), axis=1)

    is_jpeg = tf.io.is_jpeg(image)
    size = tf.cond(is_jpeg, of_jpeg, of_png)
    is_png = tf.strings.substr(image, 0, len(_PNG)) == _PNG
    # The product of two sides could overflow if one were larger.
    sides_fit = tf.reduce_all(size <= LARGEST)
    return (is_jpeg | is_png) & sides_fit & (tf.reduce_prod(size) <= LARGEST)
