"""Requests for tests: rows of the samples, unusual rows of every kind, malformed requests."""

import io
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import tasks
from app.serving import payloads, session, streaming
from tests.support import untrained

MEGABYTE = 2**20


class Odd(NamedTuple):
    """An unusual row.

    Attributes:
        row: The row.
        nothing: Whether it is empty, so that the response must be empty too.
    """

    row: Mapping
    nothing: bool


def good_rows(version: Path, count: int) -> list[dict]:
    """Returns rows of a task's sample, with every input of every signature."""
    task = tasks.find(version.parent.name).restore(version / "assets")
    examples = untrained.examples(version.parent.name, count)
    rows = [task.row(example.values) for example in examples]
    if streaming.FEED not in session.signatures(version):
        return rows
    return streaming.with_states(session.SavedModelSession(version), rows)


def odd_rows(signature) -> dict[str, Odd]:
    """Returns unusual rows for a signature, by description; its input names decide which."""
    return _ODD[frozenset(signature.inputs)]()


def malformed(signature, good: list[dict]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields malformed requests to a signature: a description and the arrays."""
    request = payloads.columns(signature, good)
    for name, array in request.items():
        rest = {other: array for other, array in request.items() if other != name}
        yield f"no {name}", rest
        for dtype in (np.float32, np.float64, np.int32, np.int64, np.bool_, object):
            if dtype != array.dtype:
                filling = b"1" if dtype is object else 1
                yield (
                    f"{name} is {np.dtype(dtype)}",
                    {
                        **rest,
                        name: np.full(array.shape, filling, dtype),
                    },
                )
        yield f"{name} has no batch dimension", {**rest, name: np.array(array.flat[0], array.dtype)}
        yield f"{name} has an extra dimension", {**rest, name: array[..., None]}
        if array.ndim > 1:
            yield f"{name} lacks a dimension", {**rest, name: array[:, 0]}
        if rest:
            yield f"{name} has an extra row", {**rest, name: np.concatenate([array, array[:1]])}
            yield f"{name} has one row alone", {**rest, name: array[:1]}


def _texts() -> dict[str, Odd]:
    blanks = {"blanks of Unicode": " \u00a0\u3000\u2028".encode()}
    return {
        kind: Odd({"text": text}, not text or text.decode("utf-8", "replace").isspace())
        for kind, text in (_STRINGS | blanks).items()
    }


def _tokens() -> dict[str, Odd]:
    words = [b"dull", b"film"]
    odd = {
        "no tokens": Odd({"tokens": [], "lengths": 0}, True),
        "all padding": Odd({"tokens": [b"", b"", b""], "lengths": 0}, True),
        "a length below 0": Odd({"tokens": words, "lengths": -5}, True),
        "the smallest length": Odd({"tokens": words, "lengths": -(2**31)}, True),
        "a length beyond the tokens": Odd({"tokens": words, "lengths": 9}, False),
        "the largest length": Odd({"tokens": words, "lengths": 2**31 - 1}, False),
        "empty tokens": Odd({"tokens": [b"", b""], "lengths": 2}, False),
        "many tokens": Odd({"tokens": words * 2500, "lengths": 5000}, False),
    }
    for kind, text in _STRINGS.items():
        odd[kind] = Odd({"tokens": [b"a", text], "lengths": 2}, False)
    return odd


_STRINGS = {
    "empty": b"",
    "blanks": b" \t\r\n\x0b\x0c ",
    "invalid UTF-8": b"\xff\xfe dull \xc3",
    "surrogates and more than four bytes": b"\xed\xa0\x80\xf8\x88\x80\x80\x80\xc0\x80",
    "NUL bytes": b"\0a dull\0 film\0",
    "other planes, joiners and marks": "𝒳 \U0010ffff 👩‍👩‍👧 \u202eabc e\u0301\u0301\u0301".encode(),
    "a word of 1 MB": b"a" * MEGABYTE,
    "1 MB of short words": b"dull " * (MEGABYTE // 5),
    "1 MB of invalid UTF-8": b"\xff" * MEGABYTE,
}


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    """Returns the file of an image of fixed noise."""
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, kind)
    return file.getvalue()


def _images() -> dict[str, Odd]:
    png, jpeg = picture("PNG"), picture("JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5  # position of height and width in a JPEG
    invalid = {
        "empty": b"",
        "text": b"not an image",
        "1 MB of zeros": bytes(MEGABYTE),
        "GIF": picture("GIF"),
        "BMP": picture("BMP"),
        "the first bytes of a PNG": png[:8],
        "a PNG without its size": png[:20],
        "a PNG without its pixels": png[:33],
        "half a PNG": png[: len(png) // 2],
        "a PNG with a wrong checksum": png[:60] + bytes([png[60] ^ 1]) + png[61:],
        "a PNG of 3.6 billion pixels": png[:16] + struct.pack(">II", 60_000, 60_000) + png[24:],
        "a PNG of the largest size": png[:16] + b"\xff" * 8 + png[24:],
        "a PNG of size 0": png[:16] + bytes(8) + png[24:],
        "the first bytes of a JPEG": jpeg[:3],
        "a JPEG without its pixels": jpeg[: frame + 10],
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "a JPEG of 4 billion pixels": jpeg[:frame] + b"\xff" * 4 + jpeg[frame + 4 :],
        "a JPEG of size 0": jpeg[:frame] + bytes(4) + jpeg[frame + 4 :],
    }
    valid = {
        "a grey PNG": picture("PNG", "L"),
        "a black and white PNG": picture("PNG", "1"),
        "a PNG with a palette": picture("PNG", "P"),
        "a transparent PNG": picture("PNG", "RGBA"),
        "a PNG of one pixel": picture("PNG", size=(1, 1)),
        "a PNG 1 pixel high": picture("PNG", size=(3000, 1)),
        "a grey JPEG": picture("JPEG", "L"),
        "a CMYK JPEG": picture("JPEG", "CMYK"),
    }
    return {
        kind: Odd({"image_bytes": image}, images is invalid)
        for images in (invalid, valid)
        for kind, image in images.items()
    }


def _batches() -> dict[str, Odd]:
    return {str(value): Odd({"batch": value}, False) for value in (0, -1, 2**31 - 1)}


def _states() -> dict[str, Odd]:
    """States that are not valid, so that the row has no tokens."""
    others = {
        "half a header": b"R1JTAd",
        "a header and zeros": b"R1JT" + b"A" * 400,
        "padded base64": b"QUJD" * 90 + b"QQ==",
        "base64 of another alphabet": b"+/+/" * 90,
        "a length that base64 does not have": b"A" * 401,
    }
    return {kind: Odd({"state": state}, True) for kind, state in (_STRINGS | others).items()}


def _pieces() -> dict[str, Odd]:
    return {kind: Odd({**odd.row, "text": b"the old man"}, True) for kind, odd in _states().items()}


def _sampled() -> dict[str, Odd]:
    """Texts that are continued, with unusual numbers; what follows no text is the start of one."""
    plain = {"text": b"the old man", "seed": 1, "temperature": 1.0, "length": 3}
    numbers = {
        "the smallest numbers": {"seed": -(2**31), "temperature": -np.inf, "length": -(2**31)},
        "the largest numbers": {"seed": 2**31 - 1, "temperature": np.inf, "length": 2**31 - 1},
        "no temperature": {"temperature": np.nan},
        "nothing to write": {"length": 0},
    }
    odd = {kind: Odd({**plain, "text": text}, False) for kind, text in _STRINGS.items()}
    for kind, values in numbers.items():
        odd[kind] = Odd({**plain, **values}, values.get("length", 1) <= 0)
    return odd


_ODD = {
    frozenset(["batch"]): _batches,
    frozenset(["state"]): _states,
    frozenset(["state", "text"]): _pieces,
    frozenset(["text"]): _texts,
    frozenset(["text", "seed", "temperature", "length"]): _sampled,
    frozenset(["tokens", "lengths"]): _tokens,
    frozenset(["image_bytes"]): _images,
}
