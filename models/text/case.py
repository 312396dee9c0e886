"""Lower and upper case of words, independent of the locale of the process that runs the graph.

TensorFlow's ops follow the locale of the process: in Turkish and Azerbaijani the lower case of "I"
is a dotless "ı", and the upper case of "i" is a dotted "İ". A served graph must not depend on the
machine, so these letters are replaced before.
"""

import tensorflow as tf


def lower(words: tf.Tensor) -> tf.Tensor:
    """Returns words in lower case.

    Args:
        words: Strings of any shape, UTF-8.
    """
    words = tf.strings.regex_replace(words, "I", "i")
    words = tf.strings.regex_replace(words, "İ", "i\u0307")
    return tf.strings.lower(words, encoding="utf-8")


def upper(words: tf.Tensor) -> tf.Tensor:
    """Returns words in upper case.

    Args:
        words: Strings of any shape, UTF-8.
    """
    return tf.strings.upper(tf.strings.regex_replace(words, "i", "I"), encoding="utf-8")
