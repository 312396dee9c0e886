"""State of a stream as one string per row, in core TensorFlow ops.

A server that keeps nothing can read an endless text if the client sends the state along: a
signature takes the state as a string and returns the next one. The string is opaque text of the
alphabet `A-Z a-z 0-9 - _` (base64 as in RFC 4648, section 5, without padding), so that it passes
through JSON unchanged. It encodes these bytes, integers and floats in little-endian order:

    4 bytes     b"GRS" and the version of this format, 1
    8 bytes     fingerprint of the weights, settings and vocabularies of the model version
    1 byte      length of the name of the cell
    n bytes     name of the cell
    4 * I bytes integers, int32
    4 * F bytes numbers, float32: the states of the cells, and whatever else is carried
    m bytes     text, such as the bytes of an incomplete token
    8 bytes     SipHash-2-4 of all bytes before, with the fingerprint in its key

A string that `StateCodec.pack` of the same version did not return is not valid: it is damaged,
truncated, invented or belongs to another version. The row then has the initial state in place of
it, so that nothing is read out of bounds and no other row is affected. That is no error, because
a server merges the requests of its clients to batches, which fail as a whole.

Shapes: B rows, F numbers, I integers.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

FORMAT = 1
MAX_PIECE = 2**14  # bytes of a text that a request reads
MAX_TEXT = 2**16  # bytes of text in a state, unless a codec allows more
_CHECKSUM_BYTES = 8
# Of objects, because strings of NumPy would lose the byte 0.
_BYTES = np.array([bytes([value]) for value in range(256)], object)
_BASE64 = "(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2,3})?"


class State(NamedTuple):
    """Values that a state string encodes.

    Attributes:
        numbers: (B, F) float32.
        integers: (B, I) int32.
        text: (B,) strings of any bytes.
    """

    numbers: tf.Tensor
    integers: tf.Tensor
    text: tf.Tensor


class StateCodec:
    """Converts the states of one model version to strings and back.

    Args:
        fingerprint: 8 bytes that identify the version; see `fingerprint`.
        cell: Name of the cell; of a longer one than 64 bytes, a hash is kept.
        initial: The state before the first step, of one row; F and I follow from it.
        max_text: Bytes of text that a state may hold.

    Example:
        >>> initial = State(tf.zeros([1, 3]), tf.zeros([1, 1], tf.int32), tf.constant([""]))
        >>> codec = StateCodec(fingerprint([b"weights"]), "lstm", initial)
        >>> strings = codec.pack(State(*[tf.repeat(value, 2, 0) for value in initial]))
        >>> _, valid = codec.unpack(tf.stack([strings[0], "damaged"]))
        >>> valid.numpy().tolist()
        [True, False]
    """

    def __init__(self, fingerprint: bytes, cell: str, initial: State, max_text: int = MAX_TEXT):
        if len(fingerprint) != 8:
            raise ValueError(f"fingerprint must have 8 bytes, got {len(fingerprint)}.")
        name = cell.encode()
        if len(name) > 64:
            name = hashlib.sha256(name).hexdigest()[:16].encode()
        self._header = b"GRS" + bytes([FORMAT]) + fingerprint + bytes([len(name)]) + name
        self._numbers, self._integers = initial.numbers.shape[1], initial.integers.shape[1]
        digest = hashlib.sha256(b"state of a stream" + fingerprint).digest()
        self._key = [int.from_bytes(part, "little", signed=True) for part in _halves(digest[:16])]
        self._key = [value & (2**63 - 1) for value in self._key]
        self._text_start = len(self._header) + 4 * (self._integers + self._numbers)
        self._max_bytes = self._text_start + max_text + _CHECKSUM_BYTES
        with tf.init_scope():
            self._initial_bytes = self._to_bytes(initial).numpy()[0]
        self._initial = tf.io.encode_base64(self._initial_bytes).numpy()

    def start(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the initial state for a number of rows, (B,) strings."""
        return tf.fill(tf.reshape(rows, [1]), self._initial)

    def start_signature(self) -> Callable:
        """Returns the signature `start`: batch, int32 (B,) of any values, -> state, string (B,)."""

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "batch")], autograph=False)
        def start(batch):
            rows = tf.shape(tf.ensure_shape(batch, [None]))[0]
            return {"state": self.start(rows)}

        return start

    def pack(self, state: State) -> tf.Tensor:
        """Returns the string of each row, (B,)."""
        return tf.io.encode_base64(self._to_bytes(state))

    def unpack(self, strings: tf.Tensor) -> tuple[State, tf.Tensor]:
        """Returns the values of strings (B,), and whether each is valid, (B,) bool.

        A row that is not valid has the values of the initial state.
        """
        longest = -(-self._max_bytes * 4 // 3)
        rows = tf.size(strings)
        valid = tf.strings.length(strings) <= longest
        valid &= tf.strings.regex_full_match(strings, _BASE64)
        data = tf.io.decode_base64(tf.where(valid, strings, self._initial))
        valid &= tf.strings.length(data) >= self._text_start + _CHECKSUM_BYTES
        data = tf.where(valid, data, self._initial_bytes)
        end = tf.strings.length(data) - _CHECKSUM_BYTES
        body = tf.strings.substr(data, tf.zeros_like(end), end)
        checksum = tf.strings.substr(data, end, tf.fill(tf.shape(end), _CHECKSUM_BYTES))
        valid &= checksum == self._checksum(body)
        valid &= tf.strings.substr(body, 0, len(self._header)) == self._header
        numbers = self._slice(data, len(self._header) + 4 * self._integers, self._numbers)
        numbers = tf.reshape(tf.io.decode_raw(numbers, tf.float32), [rows, self._numbers])
        valid &= tf.reduce_all(tf.math.is_finite(numbers), axis=1)
        # Everything is read again from data that is valid in every row.
        data = tf.where(valid, data, self._initial_bytes)
        numbers = tf.io.decode_raw(
            self._slice(data, len(self._header) + 4 * self._integers, self._numbers), tf.float32
        )
        integers = tf.io.decode_raw(self._slice(data, len(self._header), self._integers), tf.int32)
        length = tf.strings.length(data) - _CHECKSUM_BYTES - self._text_start
        text = tf.strings.substr(data, tf.fill(tf.shape(length), self._text_start), length)
        state = State(
            tf.reshape(numbers, [rows, self._numbers]),
            tf.reshape(integers, [rows, self._integers]),
            text,
        )
        return state, valid

    @staticmethod
    def _slice(data: tf.Tensor, start: int, values: int) -> tf.Tensor:
        """Returns the bytes of a number of values of 4 bytes."""
        return tf.strings.substr(data, start, 4 * values)

    def _to_bytes(self, state: State) -> tf.Tensor:
        body = tf.strings.join(
            [
                tf.fill(tf.shape(state.text), self._header),
                _bytes_of(tf.ensure_shape(state.integers, [None, self._integers])),
                _bytes_of(tf.ensure_shape(state.numbers, [None, self._numbers])),
                state.text,
            ]
        )
        return tf.strings.join([body, self._checksum(body)])

    def _checksum(self, body: tf.Tensor) -> tf.Tensor:
        """Returns a hash of strings (B,) as strings of 8 bytes."""
        hashed = tf.strings.to_hash_bucket_strong(body, 2**63 - 1, self._key)
        return _bytes_of(hashed[:, None])


def _halves(data: bytes) -> tuple[bytes, bytes]:
    middle = len(data) // 2
    return data[:middle], data[middle:]


def _bytes_of(values: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of numbers (B, N), as strings (B,).

    They are those of the machine, which is little-endian wherever TensorFlow Serving runs.
    """
    size = values.shape[1] * values.dtype.size
    values = tf.reshape(tf.bitcast(values, tf.uint8), [tf.shape(values)[0], size])
    return tf.strings.reduce_join(tf.gather(_BYTES, tf.cast(values, tf.int32)), axis=1)


def pieces_to_read(text: tf.Tensor, states: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of pieces that a request reads: at most `MAX_PIECE`, none without a state.

    Args:
        text: The pieces, (B,) strings.
        states: The strings of their states, (B,).
        valid: Whether each state is valid, (B,) bool.

    Raises:
        tf.errors.InvalidArgumentError: There are not as many pieces as states.
    """
    text = tf.ensure_shape(text, [None])  # because the comparison of shapes broadcasts
    tf.debugging.assert_equal(
        tf.shape(states), tf.shape(text), "state and text must have equal rows"
    )
    return tf.where(valid, tf.strings.substr(text, 0, MAX_PIECE), "")


def fingerprint_of(model: keras.Model, parts: Iterable[str]) -> bytes:
    """Returns 8 bytes that identify the weights of a network and other parts of its version.

    Args:
        model: The network.
        parts: Settings and vocabularies.
    """
    weights = sorted(model.weights, key=lambda weight: weight.path)
    values = (weight.numpy().tobytes() for weight in weights)
    return fingerprint(itertools.chain((part.encode() for part in parts), values))


def fingerprint(parts: Iterable[bytes]) -> bytes:
    """Returns 8 bytes that identify everything that a state depends on."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.digest()[:8]
