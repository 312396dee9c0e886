"""Bytes of images to pixels, in core TensorFlow ops: the same in training and in serving.

Shapes: B images.
"""

import tensorflow as tf

LARGEST = 25_000_000  # pixels of an image that is decoded, so that one cannot fill the memory
_BIG_ENDIAN = [2.0**24, 2.0**16, 2.0**8, 1.0]
_PNG = b"\x89PNG\r\n\x1a\n"


def pixels(image_bytes: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes JPEG and PNG (B,), and scales each to one size, whatever its own proportions.

    Returns:
        RGB, (B, height, width, 3) uint8; and whether it was such an image, (B,) bool. One
        that was not, is truncated or has more than `LARGEST` pixels is black.
    """

    def decoded(place, image):
        picture = tf.cond(tf.io.is_jpeg(image), lambda: _jpeg(image), lambda: _png(image))
        scaled = tf.image.resize(picture, [height, width], antialias=True)
        return place, tf.cast(tf.round(scaled), tf.uint8)

    # An op that decodes fails on what is no image, and with it all who share the batch.
    # Only a data set can go on after an error; the place -1 is there so that it is not empty.
    count = tf.shape(image_bytes, tf.int64)[0]
    none = (tf.constant(-1, tf.int64), tf.zeros([height, width, 3], tf.uint8))
    images = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    images = images.filter(lambda _, image: _is_small_enough(image))
    images = images.map(decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    images = images.ignore_errors().concatenate(tf.data.Dataset.from_tensors(none))
    place, found = images.batch(count + 1).get_single_element()
    place, shape = place[:, None] + 1, [count + 1, height, width, 3]
    valid = tf.scatter_nd(place, tf.ones_like(place[:, 0], tf.int32), shape[:1])
    found = tf.reshape(tf.scatter_nd(place, tf.cast(found, tf.int32), shape), [-1, *shape[1:]])
    return tf.cast(found[1:], tf.uint8), tf.cast(valid[1:], tf.bool)


def _jpeg(image):
    return tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE")


def _png(image):
    return tf.io.decode_png(image, channels=3)


def _is_small_enough(image):
    """Whether it is a JPEG or PNG by its first bytes, of no more than `LARGEST` pixels."""

    def of_jpeg():
        return tf.cast(tf.io.extract_jpeg_shape(image)[:2], tf.float32)

    def of_png():
        size = tf.io.decode_raw(tf.strings.substr(image, 16, 8), tf.uint8)  # two numbers
        return tf.linalg.matvec(tf.reshape(tf.cast(size, tf.float32), [2, 4]), _BIG_ENDIAN)

    is_jpeg = tf.io.is_jpeg(image)
    size = tf.cond(is_jpeg, of_jpeg, of_png)
    is_png = tf.strings.substr(image, 0, len(_PNG)) == _PNG
    return (is_jpeg | is_png) & (tf.reduce_prod(size) <= LARGEST)
