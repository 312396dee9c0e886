"""The request of the page as a curl line for TensorFlow Serving."""

import json
import shlex
from collections.abc import Mapping
from urllib.parse import quote

DEFAULT_URL = "http://localhost:8501"  # where `app.deploy` has the server listen
_IMAGE = "photo.jpg"
_PLACEHOLDER = "base64 of the file"


def line(url: str, model: str, version: int | None, signature: str, row: Mapping) -> str:
    """Returns the line that sends a row to a signature over REST.

    Args:
        url: URL of the server.
        model: Name of the model.
        version: Version of the model; None for the latest on the server.
        signature: Name of the signature.
        row: Value of each input, by name. Bytes are taken for a file, which the line reads.
    """
    path = f"/v1/models/{quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{version}"
    address = shlex.quote(f"{url.rstrip('/')}{path}:predict")
    files = [name for name, value in row.items() if isinstance(value, bytes)]
    values = {name: {"b64": _PLACEHOLDER} if name in files else row[name] for name in row}
    body = {"instances": [values]}
    if signature != "serving_default":
        body = {"signature_name": signature, **body}
    text = json.dumps(body, ensure_ascii=False)
    if not files:
        # curl reads a file where its data begins with @, which JSON never does.
        return f"curl -d {shlex.quote(text)} {address}"
    # One file at most, since no signature has two; a photograph is too long for an argument.
    escaped = text.translate({ord(character): f"\\{character}" for character in '\\"$`'})
    read = f"$(base64 < {_IMAGE} | tr -d '\\n')"
    return f'curl -d @- {address} <<< "{escaped.replace(_PLACEHOLDER, read)}"'
