"""Requests and responses of the page, in JSON.

Nothing of a request is kept: the functions return the response and store nothing.
"""

import base64
import binascii
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from app.core.console import printable
from app.report import heatmaps
from app.serving import responses
from app.serving.demo import curl
from app.serving.demo.catalogue import CellDescription, DemoModel, examples
from tasks.core.errors import UserError
from tasks.core.evaluation import Alignment
from tasks.core.inspection import Reading, Saliency, relative

MAX_ROWS = 64  # of a request
_MAX_ITEMS = 4096  # of a list
_MAX_MESSAGE = 300  # characters of an error
_MAX_UNITS = 64  # that a heat map shows
_DIGITS = 3  # of the values of a heat map


class RequestError(Exception):
    """A request that is not valid; the message is for its sender."""


def describe(models: Mapping[str, DemoModel], views: Sequence[str]) -> dict[str, Any]:
    """Returns what the page shows before the first request.

    Args:
        models: The models by name.
        views: Names of the files in `page/views`.
    """
    return {"models": [_describe(model) for model in models.values()], "views": list(views)}


def _describe(model: DemoModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "mayInspect": model.may_inspect,
        "cell": _cell(model.cell),
        "signatures": {
            name: {
                "inputs": {key: _tensor(info) for key, info in sorted(definition.inputs.items())},
                "outputs": sorted(definition.outputs),
            }
            for name, definition in sorted(model.signatures.items())
        },
        "examples": [
            {name: _example_value(value) for name, value in row.items()} for row in examples(model)
        ],
    }


def _cell(cell: CellDescription | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    return {"name": cell.name, "equations": list(cell.equations), "note": cell.note}


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {"dtype": tf.as_dtype(info.dtype).name, "rank": len(info.tensor_shape.dim)}


def _example_value(value: object) -> object:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    return list(value) if isinstance(value, tuple) else value


def predict(models: Mapping[str, DemoModel], request: object) -> dict[str, Any]:
    """Returns the responses to the rows of a request.

    Args:
        models: The models by name.
        request: JSON object with `model`, `signature` and `rows`, each with a value for every
            input: a text, a number, `{"b64": ...}`, or a list of them.

    Raises:
        RequestError: The request is not valid.
        UserError: The server of the model reports an error.
    """
    model, signature = _model(models, request), request.get("signature", "serving_default")
    if not isinstance(signature, str) or signature not in model.signatures:
        raise RequestError(f"signature must be one of {sorted(model.signatures)}.")
    rows = request.get("rows")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_ROWS:
        raise RequestError(f"rows must be a list of 1 to {MAX_ROWS} requests.")
    definition = model.signatures[signature]
    rows = [_row(definition, row) for row in rows]
    start = time.perf_counter()
    try:
        predicted = model.predict(rows, signature)
    except (tf.errors.OpError, ValueError, TypeError, OverflowError) as error:
        raise RequestError(_message(error)) from error
    return {
        "rows": [_finite(responses.decoded(row)) for row in predicted],
        "milliseconds": round(1000 * (time.perf_counter() - start), 1),
        "version": model.version,
        "curl": curl.line(model.url, model.name, model.version, signature, _for_curl(rows[0])),
    }


def inspect(models: Mapping[str, DemoModel], request: object) -> dict[str, Any]:
    """Returns gates, states, saliency and attention of a network for a request.

    Args:
        models: The models by name.
        request: JSON object with `model`, and `row`, a row of the default signature.

    Raises:
        RequestError: The request is not valid, or cannot be inspected.
    """
    model = _model(models, request)
    if not model.may_inspect:
        raise RequestError(f"{model.name} cannot be inspected on this machine.")
    row = _row(model.signatures["serving_default"], request.get("row"))
    start = time.perf_counter()
    try:
        inspection = model.inspect(row)
    except (UserError, tf.errors.OpError) as error:
        raise RequestError(_message(error)) from error
    return {
        "readings": [_reading(reading) for reading in inspection.readings],
        "saliency": _saliency(inspection.saliency),
        "notes": list(inspection.notes),
        "milliseconds": round(1000 * (time.perf_counter() - start), 1),
    }


def _model(models: Mapping[str, DemoModel], request: object) -> DemoModel:
    if not isinstance(request, dict):
        raise RequestError("the request must be a JSON object.")
    name = request.get("model")
    if not isinstance(name, str) or name not in models:
        raise RequestError(f"model must be one of {list(models)}.")
    return models[name]


def _row(definition: SignatureDef, row: object) -> dict[str, Any]:
    """Returns a row for a signature.

    Raises:
        RequestError: It does not fit the signature.
    """
    if not isinstance(row, dict) or row.keys() != set(definition.inputs):
        raise RequestError(f"a request must have the inputs {sorted(definition.inputs)}.")
    return {name: _value(name, info, row[name]) for name, info in definition.inputs.items()}


def _value(name: str, info: TensorInfo, value: object) -> object:
    dtype, rank = tf.as_dtype(info.dtype), len(info.tensor_shape.dim)
    if rank == 1:
        return _scalar(name, dtype, value)
    if rank != 2 or not isinstance(value, list) or len(value) > _MAX_ITEMS:
        raise RequestError(f"{name} must be a list of at most {_MAX_ITEMS} values.")
    return [_scalar(name, dtype, item) for item in value]


def _scalar(name: str, dtype: tf.DType, value: object) -> object:
    if dtype == tf.string:
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode("utf-8")
        if isinstance(value, dict) and isinstance(value.get("b64"), str):
            try:
                return base64.b64decode(value["b64"], validate=True)
            except (binascii.Error, ValueError) as error:
                raise RequestError(f"{name} is not valid base64.") from error
        raise RequestError(f'{name} must be a string or {{"b64": ...}}.')
    if dtype == tf.bool:
        if not isinstance(value, bool):
            raise RequestError(f"{name} must be true or false.")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{name} must be a number.")
    if dtype.is_integer and not (isinstance(value, int) and dtype.min <= value <= dtype.max):
        raise RequestError(f"{name} must be an integer that fits {dtype.name}.")
    return value


def _for_curl(row: Mapping) -> dict[str, Any]:
    """Returns a row for a curl line, with arrays of bytes as texts."""
    return {
        name: [_text(item) for item in value] if isinstance(value, list) else value
        for name, value in row.items()
    }


def _text(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _reading(reading: Reading) -> dict[str, Any]:
    """Returns the heat maps of a reading: the first steps, and the units that vary most."""
    steps = list(reading.steps)[: heatmaps.MAX_STEPS]
    plotted, orders = [], {}
    for title, values in heatmaps.maps(reading).items():
        values = np.asarray(values)
        width = values.shape[1]
        if width not in orders:  # values of equally many units share an order
            orders[width] = _units(np.asarray(reading.trace.states["h"]), values)
        order = orders[width]
        shown = values[: len(steps)][:, order]
        plotted.append(
            {
                "title": title,
                "isGate": title.removesuffix(" gate") in reading.trace.gates,
                "units": order.tolist(),
                "of": width,
                "values": np.round(shown.astype(float), _DIGITS).tolist(),
                "mean": np.round(values[: len(steps)].mean(axis=1).astype(float), 3).tolist(),
            }
        )
    return {
        "name": reading.name,
        "steps": steps,
        "of": len(reading.steps),
        "maps": _finite(plotted),
    }


def _units(h: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the units that are shown, similar ones side by side."""
    basis = h if h.shape[1] == values.shape[1] else values
    most_varied = np.sort(np.argsort(-basis.std(axis=0), kind="stable")[:_MAX_UNITS])
    return most_varied[heatmaps.unit_order(basis[:, most_varied])]


def _saliency(saliency: Saliency) -> dict[str, Any] | None:
    """Returns the contributions of tokens, relative to the greatest of each output.

    None stands for those of pixels, which the page does not show.
    """
    alignment = saliency.contributions
    if not isinstance(alignment, Alignment):
        return None
    weights = relative(np.asarray(alignment.weights, float))
    return {
        "source": list(alignment.source),
        "target": list(alignment.target),
        "weights": _finite(np.round(weights, _DIGITS).tolist()),
        "quantity": saliency.quantity,
    }


def _finite(value: object) -> object:
    """Returns nested values with None in place of numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _message(error: Exception) -> str:
    return printable((str(error).strip() or type(error).__name__).splitlines()[0], _MAX_MESSAGE)
