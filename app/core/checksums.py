"""Checksums inside files, so that a damaged file is reported instead of read."""

import hashlib
import json
from typing import IO, Any

_SIZE = hashlib.sha256().digest_size


class DamagedFile(ValueError):
    """The content of a file does not have the checksum that the file contains."""


def append(file: IO[bytes]) -> None:
    """Appends the SHA-256 of a file, which must be open for reading and writing, to it."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").digest()
    file.seek(0, 2)
    file.write(digest)


def strip(data: bytes) -> bytes:
    """Returns the content of a file without the checksum that `append` wrote.

    Raises:
        DamagedFile: The content or the checksum is damaged.
    """
    content, digest = data[:-_SIZE], data[-_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        raise DamagedFile("its checksum is wrong")
    return content


def dump_json(record: Any) -> str:
    """Returns a record as a JSON object that contains its checksum."""
    record = json.loads(json.dumps(record))  # as it will be read: keys are strings
    return json.dumps({"record": record, "sha256": _json_checksum(record)})


def load_json(text: str | bytes) -> Any:
    """Returns the record in the text that `dump_json` returned.

    Raises:
        DamagedFile: The text is damaged.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFile("it is not valid JSON") from error
    is_whole = isinstance(content, dict) and content.keys() == {"record", "sha256"}
    if not is_whole or content["sha256"] != _json_checksum(content["record"]):
        raise DamagedFile("its checksum is wrong")
    return content["record"]


def _json_checksum(record: Any) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
