"""Decoding and validation of the responses of a server, which is not trusted.

Whatever a server sends becomes the arrays that the signature promises, one value per row, or an
`InvalidResponseError`.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.types_pb2 import DataType
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

_MAX_DIMENSION = 2**31 - 1
_MAX_SHOWN = 8  # items of a list that a message shows
_MAX_SHOWN_CHARACTERS = 60  # of a text
# The field of a TensorProto with the values of each dtype that a signature may have.
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}
_DTYPES = {dtype.as_datatype_enum: dtype for dtype in _FIELDS}


class InvalidResponseError(Exception):
    """A response that does not match the signature or the request."""


def from_json(definition: SignatureDef, outputs: object, rows: int) -> dict[str, np.ndarray]:
    """Converts the outputs of a JSON response.

    Args:
        definition: The signature.
        outputs: Value of the key `outputs`: nested lists by name, or those of the only output.
        rows: Number B of rows of the request.

    Returns:
        The outputs by name, each of shape (B, ...).

    Raises:
        InvalidResponseError: They do not match the signature or the number of rows.
    """
    if len(definition.outputs) == 1:  # the server omits the name of a single output
        outputs = dict.fromkeys(definition.outputs, outputs)
    if not isinstance(outputs, dict):
        raise InvalidResponseError(f"outputs must be a JSON object, got {_excerpt(outputs)}")
    _check_names(definition, outputs)
    arrays = {
        name: _array_of_json(name, info, outputs[name]) for name, info in definition.outputs.items()
    }
    return _validate(definition, arrays, rows)


def from_protos(
    definition: SignatureDef, outputs: Mapping[str, TensorProto], rows: int
) -> dict[str, np.ndarray]:
    """Converts the outputs of a gRPC response; see `from_json`.

    A tensor is rejected before it is allocated if its shape exceeds its content, which
    TensorFlow would repeat.
    """
    _check_names(definition, outputs)
    arrays = {
        name: _array_of_proto(name, info, outputs[name])
        for name, info in definition.outputs.items()
    }
    return _validate(definition, arrays, rows)


def _check_names(definition: SignatureDef, outputs: Mapping[str, object]) -> None:
    if set(outputs) != set(definition.outputs):
        raise InvalidResponseError(
            f"the outputs must be {_names(definition.outputs)}, got {_names(outputs)}"
        )


def _validate(
    definition: SignatureDef, arrays: dict[str, np.ndarray], rows: int
) -> dict[str, np.ndarray]:
    """Checks the dtypes, ranks, sizes and lengths of outputs, and the number of rows."""
    for name, array in arrays.items():
        info = definition.outputs[name]
        expected = _dtype(name, info).as_numpy_dtype
        if array.dtype != expected:
            raise _invalid(name, f"must have the dtype {np.dtype(expected)}, got {array.dtype}")
        if not info.tensor_shape.unknown_rank:
            sizes = [dim.size for dim in info.tensor_shape.dim]
            matches = len(sizes) == array.ndim and all(
                size in (-1, actual) for size, actual in zip(sizes, array.shape, strict=True)
            )
            if not matches:
                raise _invalid(
                    name, f"must have the shape {_shape(sizes)}, got {_shape(array.shape)}"
                )
        if not array.ndim or len(array) != rows:
            actual = f"{len(array)} rows" if array.ndim else "a scalar"
            raise _invalid(name, f"must have {rows} rows, like the request, got {actual}")
    if "lengths" in arrays:
        _check_lengths(arrays["lengths"])
    return arrays


def _check_lengths(lengths: np.ndarray) -> None:
    """Checks the lengths by which rows are truncated; they may exceed the width."""
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
        raise _invalid("lengths", "must be one integer of at least 0 per row")


def _array_of_json(name: str, info: TensorInfo, value: object) -> np.ndarray:
    """Converts nested lists to an array, level by level, because they may be nested deeply."""
    dtype = _dtype(name, info)
    shape, values = [], [value]
    while isinstance(values[0], list):
        size = len(values[0])
        if not all(isinstance(item, list) and len(item) == size for item in values):
            raise _invalid(name, "has lists of different lengths")
        shape.append(size)
        values = [item for parent in values for item in parent]
        if not values:
            # The empty list does not show the sizes of the dimensions after it.
            shape += [max(dim.size, 0) for dim in info.tensor_shape.dim[len(shape) :]]
            break
    flat = [_scalar(name, dtype, item) for item in values]
    try:
        with np.errstate(over="ignore"):  # a large number becomes infinite
            array = np.array(flat, dtype.as_numpy_dtype)
        return array.reshape(shape)
    except (OverflowError, ValueError) as error:
        raise _invalid(name, f"cannot be converted to {dtype.name}: {error}") from error


def _scalar(name: str, dtype: tf.DType, value: object) -> object:
    """Returns a JSON value that is of a dtype; text and base64 become bytes."""
    if dtype == tf.string:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
            try:
                return base64.b64decode(value["b64"], validate=True)
            except ValueError as error:
                raise _invalid(name, f"has invalid base64: {error}") from error
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif isinstance(value, bool):
        pass  # a bool is an int in Python
    elif dtype.is_floating:
        if isinstance(value, int | float):
            return value
    elif isinstance(value, int) and dtype.min <= value <= dtype.max:
        return value
    raise _invalid(name, f"must hold {dtype.name} values, got {_excerpt(value)}")


def _array_of_proto(name: str, info: TensorInfo, tensor: TensorProto) -> np.ndarray:
    dtype = _dtype(name, info)
    if tensor.dtype != info.dtype:
        raise _invalid(name, f"must have the dtype {dtype.name}, got {_dtype_name(tensor.dtype)}")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or not all(0 <= n <= _MAX_DIMENSION for n in shape):
        raise _invalid(name, f"has the invalid shape {_shape(shape)}")
    size = math.prod(shape)
    values = len(getattr(tensor, _FIELDS[dtype]))
    if dtype != tf.string and tensor.tensor_content:
        actual, expected, unit = len(tensor.tensor_content), size * dtype.size, "bytes"
    else:
        actual, expected, unit = values, size, "values"
    if actual != expected:
        raise _invalid(name, f"of shape {_shape(shape)} must have {expected} {unit}, got {actual}")
    try:
        return tf.make_ndarray(tensor)
    except (OverflowError, TypeError, ValueError) as error:
        raise _invalid(name, f"cannot be converted: {error}") from error


def _dtype(name: str, info: TensorInfo) -> tf.DType:
    if info.dtype not in _DTYPES:
        raise _invalid(name, f"has the dtype {_dtype_name(info.dtype)}, which no client can read")
    return _DTYPES[info.dtype]


def _dtype_name(number: int) -> str:
    return DataType.Name(number) if number in DataType.values() else f"number {number}"


def _names(outputs: Mapping[str, object]) -> str:
    names = sorted(outputs)
    return _excerpt(names) if names else "none"


def _shape(sizes: Sequence[int]) -> str:
    texts = ["None" if size == -1 else str(size) for size in sizes[:_MAX_SHOWN]]
    return f"({', '.join(texts)}{', ...' if len(sizes) > _MAX_SHOWN else ''})"


def _excerpt(value: object) -> str:
    """Returns a short description of a JSON value for messages."""
    if isinstance(value, list):
        shown = value[:_MAX_SHOWN]
        items = ["[...]" if isinstance(item, list) else _excerpt(item) for item in shown]
        return f"[{', '.join(items)}{', ...' if len(value) > _MAX_SHOWN else ''}]"
    if isinstance(value, dict):
        return f"an object with the keys {_excerpt(list(value))}"
    if isinstance(value, str):
        return repr(value[:_MAX_SHOWN_CHARACTERS]) + "..." * (len(value) > _MAX_SHOWN_CHARACTERS)
    return json.dumps(value)


def _invalid(name: str, reason: str) -> InvalidResponseError:
    return InvalidResponseError(f"output {name!r} {reason}")
