"""The string of a state is read back exactly, and any other string is not valid."""

import base64

import numpy as np
import pytest
import tensorflow as tf

from models.streaming import MAX_TEXT, State, StateCodec, fingerprint

NUMBERS, INTEGERS, ROWS = 11, 2, 7
INITIAL = State(
    tf.fill([1, NUMBERS], 0.5), tf.constant([[0, 3]], tf.int32), tf.constant([b"first"])
)


def codec(weights=b"weights", cell="lstm"):
    return StateCodec(fingerprint([weights]), cell, INITIAL)


@pytest.fixture(scope="module")
def functions():
    made = codec()
    spec = tf.TensorSpec([None], tf.string)
    return tf.function(made.pack), tf.function(made.unpack, input_signature=[spec])


def states(rows=ROWS, seed=0):
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, NUMBERS)).astype("float32")
    if rows:
        numbers[0, :4] = [0.0, -0.0, 1e-45, np.finfo("float32").max]
    integers = random.integers(-(2**31), 2**31, (rows, INTEGERS), "int64").astype("int32")
    text = [random.bytes(3 * row) for row in range(rows)]
    return State(tf.constant(numbers), tf.constant(integers), strings(text))


def strings(values):
    return tf.constant(np.array(values, object), tf.string)


def assert_equal(state, expected):
    for value, reference in zip(state, expected, strict=True):
        assert value.numpy().tobytes() == reference.numpy().tobytes() or (
            value.dtype == tf.string and value.numpy().tolist() == reference.numpy().tolist()
        )


def test_a_state_is_read_back_exactly(functions):
    pack, unpack = functions
    packed = pack(states())
    assert all(len(each) == len(each.decode("ascii")) for each in packed.numpy())
    state, valid = unpack(packed)
    assert valid.numpy().all()
    assert_equal(state, states())


def test_the_format_is_the_documented_one(functions):
    pack, _ = functions
    [packed] = pack(State(*[each[2:3] for each in states()])).numpy()
    data = base64.urlsafe_b64decode(packed + b"=" * (-len(packed) % 4))
    header = b"GRS\x01" + fingerprint([b"weights"]) + b"\x04lstm"
    assert data.startswith(header)
    rest = data[len(header) :]
    np.testing.assert_array_equal(np.frombuffer(rest[:8], "<i4"), states().integers[2])
    np.testing.assert_array_equal(np.frombuffer(rest[8:52], "<f4"), states().numbers[2])
    assert rest[52:-8] == states().text[2].numpy()


def test_the_initial_state_is_that_of_every_start(functions):
    _, unpack = functions
    state, valid = unpack(codec().start(tf.constant(3)))
    assert valid.numpy().all()
    assert_equal(state, State(*[tf.repeat(each, 3, axis=0) for each in INITIAL]))


@pytest.mark.parametrize("other", [{"weights": b"others"}, {"cell": "gru"}, {"cell": "x" * 99}])
def test_a_state_of_another_version_is_not_valid(functions, other):
    _, unpack = functions
    state, valid = unpack(codec(**other).pack(states()))
    assert not valid.numpy().any()
    assert_equal(state, State(*[tf.repeat(each, ROWS, axis=0) for each in INITIAL]))


def test_numbers_that_are_not_finite_are_not_valid(functions):
    pack, unpack = functions
    for number in (np.nan, np.inf, -np.inf):
        numbers = states().numbers.numpy()
        numbers[1, 3] = number
        _, valid = unpack(pack(states()._replace(numbers=tf.constant(numbers))))
        assert valid.numpy().tolist() == [row != 1 for row in range(ROWS)]


def test_no_rows_have_no_states(functions):
    pack, unpack = functions
    assert pack(states(0)).shape == (0,)
    state, valid = unpack(strings([]))
    assert valid.shape == (0,) and state.numbers.shape == (0, NUMBERS)


def _damaged(good, random):
    """Yields strings that are not states, made from one."""
    yield from (b"", b"A", b"AB", b"ABC", b"\0", b"\xff" * 9, "é".encode(), b"A" * 3 * MAX_TEXT)
    yield from (good + b"\n", good + b"=", good + b"A", good + b"AAAA", b" " + good, good * 2)
    yield from (good[:length] for length in range(0, len(good), 5))
    for _ in range(400):
        damaged = bytearray(good)
        for position in random.integers(len(good), size=random.integers(1, 4)):
            damaged[position] = random.choice(list(b"ABCxyz019-_\0\xff="))
        if bytes(damaged) != good:
            yield bytes(damaged)


def test_a_damaged_state_is_not_valid_and_changes_no_neighbour(functions):
    pack, unpack = functions
    first, second = pack(states(2)).numpy()
    damaged = list(_damaged(second, np.random.default_rng(0)))
    assert len(damaged) > 400
    state, valid = unpack(strings([first, *damaged, second]))
    assert valid.numpy().tolist() == [True, *[False] * len(damaged), True]
    ends = State(*[tf.gather(each, [0, len(damaged) + 1]) for each in state])
    assert_equal(ends, states(2))
    alone, _ = unpack(strings([first]))
    assert_equal(alone, State(*[each[:1] for each in states(2)]))


def test_a_fingerprint_depends_on_every_part_and_their_order():
    made = {fingerprint(parts) for parts in ([b"a", b"b"], [b"b", b"a"], [b"ab"], [b"a", b"c"])}
    assert len(made) == 4
    with pytest.raises(ValueError, match="fingerprint must have 8 bytes, got 1"):
        StateCodec(b"x", "lstm", INITIAL)
