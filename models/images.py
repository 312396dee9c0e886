"""Decoding of images in core TensorFlow ops, the same in training and in serving.

Shapes: B images.
"""

import tensorflow as tf

MAX_PIXELS = 25_000_000  # pixels; larger images are not decoded, to bound the memory
MAX_SCANS = 64  # of a JPEG; each takes as long as all pixels, and few bytes. Encoders write 10.
_BIG_ENDIAN = [2**24, 2**16, 2**8, 1]
_PNG = b"\x89PNG\r\n\x1a\n"
# The header of a PNG. The decoder accepts other chunks before it, in which a size could be forged.
_PNG_START = _PNG + b"\0\0\0\rIHDR"
_EXIF_BYTES = 2**17  # at the start of a file, in which EXIF is read
# EXIF in a JPEG and in a PNG: a name, and a header of TIFF in one of its byte orders.
_FROM_EXIF = rb"(?:Exif\x00\x00|eXIf)(?:II\*\x00|MM\x00\*)\C*"
_ORIENTATION, _SHORT = 0x0112, 3  # tag and type of the entry of EXIF
_MAX_ENTRIES = 256  # of EXIF


def pixels(image_bytes: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes JPEG and PNG images, and scales each to one size without keeping proportions.

    Images are turned as their EXIF orientation says, as cameras intend and viewers do.

    Args:
        image_bytes: (B,) strings, the content of image files.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        RGB pixels, (B, height, width, 3) uint8, and a flag, (B,) bool, that is false for
        images that are neither JPEG nor PNG, are truncated, or have more than `MAX_PIXELS`
        pixels or `MAX_SCANS` scans; those are black.
    """

    @tf.autograph.experimental.do_not_convert
    def decoded(place, image):
        picture = tf.cond(tf.io.is_jpeg(image), lambda: _jpeg(image), lambda: _png(image))
        scaled = _scaled_and_turned(picture, height, width, _orientation(image))
        return place, tf.cast(tf.round(scaled), tf.uint8)

    # A decoding op that fails would fail the whole batch. Only a data set can continue after
    # an error; the position -1 keeps it from being empty.
    count = tf.shape(image_bytes, tf.int64)[0]
    none = (tf.constant(-1, tf.int64), tf.zeros([height, width, 3], tf.uint8))
    images = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    images = images.filter(lambda _, image: _is_affordable(image))
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


def _is_affordable(image):
    """Returns whether an image is a JPEG or PNG by its first bytes, within the limits."""

    def of_jpeg():
        return tf.cast(tf.io.extract_jpeg_shape(image)[:2], tf.int64)

    def of_png():
        size = tf.io.decode_raw(tf.strings.substr(image, 16, 8), tf.uint8)  # two numbers
        bytes_ = tf.reshape(tf.cast(size, tf.int64), [2, 4])
        return tf.reduce_sum(bytes_ * tf.constant(_BIG_ENDIAN, tf.int64), axis=1)

    is_jpeg = tf.io.is_jpeg(image)
    size = tf.cond(is_jpeg, of_jpeg, of_png)
    is_png = tf.strings.substr(image, 0, len(_PNG_START)) == _PNG_START
    # The product of two sides could overflow if one were larger.
    sides_fit = tf.reduce_all(size <= MAX_PIXELS)
    few_pixels = sides_fit & (tf.reduce_prod(size) <= MAX_PIXELS)
    return (is_png | (is_jpeg & (_scan_count(image) <= MAX_SCANS))) & few_pixels


def _scan_count(image):
    """Returns the number of scans of a JPEG, by their headers of 2n + 6 bytes for n components.

    A decoder accepts no other headers, and five bytes do not occur elsewhere by chance.
    """
    data = tf.cast(tf.io.decode_raw(image, tf.uint8), tf.int32)
    marker, code, high, low, components = (data[i : tf.size(data) - 4 + i] for i in range(5))
    is_header = (marker == 0xFF) & (code == 0xDA) & (high == 0) & (low == 2 * components + 6)
    is_header &= (components >= 1) & (components <= 4)
    return tf.reduce_sum(tf.cast(is_header, tf.int32))


# --- Orientation -----------------------------------------------------------------


def _scaled_and_turned(picture, height, width, orientation):
    """Scales a picture of any size, and turns it from its EXIF orientation to the upright one.

    Scaling comes first, since turning a large picture is slow.
    """
    sideways = orientation >= 5  # mirrored at the diagonal
    size = tf.where(sideways, [width, height], [height, width])
    scaled = tf.image.resize(picture, size, antialias=True)
    upright = tf.cond(sideways, lambda: tf.transpose(scaled, [1, 0, 2]), lambda: scaled)
    upright = tf.ensure_shape(upright, [height, width, 3])
    for axis, orientations in ((1, [2, 3, 6, 7]), (0, [3, 4, 7, 8])):
        mirrored = tf.reduce_any(orientation == tf.constant(orientations, tf.int64))
        upright = tf.where(mirrored, tf.reverse(upright, [axis]), upright)
    return upright


def _orientation(image):
    """Returns the EXIF orientation of a JPEG or PNG, from 1 to 8; 1, upright, if it has none."""
    start = tf.strings.substr(image, 0, _EXIF_BYTES)
    before = tf.strings.length(tf.strings.regex_replace(start, _FROM_EXIF, "", False))
    size = tf.strings.length(start)
    upright = tf.constant(1, tf.int64)
    return tf.cond(before < size, lambda: _orientation_in(start, before), lambda: upright)


def _orientation_in(start, before):
    """Returns the orientation in the EXIF after so many bytes of the start of a file."""
    data = tf.io.decode_raw(start, tf.uint8)[before:]
    data = tf.pad(data, [[0, 4]])  # zeros, in place of anything after the end
    last = tf.size(data, tf.int64) - 1
    # The name of EXIF in a JPEG is followed by two zeros, that in a PNG is not.
    tiff = tf.where(data[4] == 0, tf.constant(6, tf.int64), 4)
    is_big_endian = data[tiff] == ord("M")

    def number(position, length):
        """Returns the numbers of `length` bytes at positions."""
        places = position[..., None] + tf.range(length, dtype=tf.int64)
        digits = tf.cast(tf.gather(data, tf.minimum(places, last)), tf.int64)
        digits = tf.where(is_big_endian, digits, tf.reverse(digits, [-1]))
        return tf.reduce_sum(digits * tf.constant(_BIG_ENDIAN[-length:], tf.int64), axis=-1)

    directory = tiff + number(tiff + 4, 4)
    count = tf.minimum(number(directory, 2), _MAX_ENTRIES)
    entries = directory + 2 + 12 * tf.range(count)
    matches = (number(entries, 2) == _ORIENTATION) & (number(entries + 2, 2) == _SHORT)
    value = tf.reduce_max(tf.where(matches, number(entries + 8, 2), 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)
