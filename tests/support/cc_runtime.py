"""A published version in TensorFlow's C++ runtime alone: no Python, nothing of this project.

`TF_LoadSessionFromSavedModel` is the loader and the session that TensorFlow Serving wraps.
`cc_runtime.c` calls it, and is compiled against the libraries of a TensorFlow wheel.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

_SOURCE = Path(__file__).with_name("cc_runtime.c")
_LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
_STRICT = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror")


class Died(RuntimeError):
    """The process of a probe has ended before it answered; the text is what it said last."""


class Answer(NamedTuple):
    """What a request got: a code of `tf.errors`, 0 if it went well, a message, and the outputs."""

    code: int
    message: str
    outputs: dict[str, np.ndarray]


def compiler() -> str | None:
    """The C compiler of this machine, if it has one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(program: Path, tensorflow: Path | None = None) -> Path:
    """Compiles the probe.

    Args:
        program: The file to be made.
        tensorflow: The folder `tensorflow` of an unpacked wheel; None for that in use.

    Returns:
        `program`.
    """
    tensorflow = (tensorflow or Path(tf.sysconfig.get_lib())).resolve()
    libraries = [str(tensorflow / name) for name in _LIBRARIES]
    command = [compiler(), *_STRICT, f"-I{tensorflow / 'include'}", str(_SOURCE), *libraries]
    if shutil.which("ld.gold"):  # it reads a library of a gigabyte in a fourth of the time
        command.append("-fuse-ld=gold")
    subprocess.run([*command, f"-Wl,-rpath,{tensorflow}", "-o", str(program)], check=True)
    return program


class Probe:
    """A version in a process of its own, in an empty environment and with XLA switched off.

    Args:
        program: What `build` made.
        version: The folder of a version.

    Attributes:
        signatures: Those that are asked, by name.
        runtime: The version of TensorFlow whose libraries run it.
        pid: That of the process.

    Raises:
        Died: It could not be loaded.
    """

    def __init__(self, program: Path, version: Path):
        saved = SavedModel.FromString((version / "saved_model.pb").read_bytes())
        told = saved.meta_graphs[0].signature_def.items()
        self.signatures = {name: signature for name, signature in told if name[:2] != "__"}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed where the process is
        self._process = subprocess.Popen(
            [str(program), str(version.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            cwd="/",
            env={},
            encoding="utf-8",
            errors="replace",
        )
        self.pid = self._process.pid
        _, code, self.runtime, message = self._line().split(" ", 3)
        if code != "0":
            self.close()
            raise Died(f"{version} cannot be loaded, code {code}: {message}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def ask(self, signature: str, request: Mapping[str, np.ndarray]) -> Answer:
        """Answers a request.

        Args:
            signature: Its name.
            request: Arrays by the names of inputs, of any type and shape; strings as
                objects. What is left out is not fed.

        Raises:
            Died: The process did not live to answer.
        """
        asked = self.signatures[signature]
        try:
            self._process.stdin.write(_request(asked, request))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        _, code, message = self._line().split(" ", 2)
        names = sorted(asked.outputs) if code == "0" else []
        return Answer(int(code), message, {name: _array(self._line()) for name in names})

    def _line(self) -> str:
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._death()
        return line[:-1]

    def _death(self) -> Died:
        code = self._process.wait()
        self._said.seek(0)
        said = self._said.read()[-2000:].decode("utf-8", "replace")
        return Died(f"the probe has ended with code {code}: {said}")


def _request(signature: SignatureDef, request: Mapping[str, np.ndarray]) -> str:
    """The lines of a request."""
    lines = [
        " ".join(["feed", *_place(signature.inputs[name]), *_words(array)])
        for name, array in request.items()
    ]
    lines += [
        " ".join(["get", *_place(signature.outputs[name])]) for name in sorted(signature.outputs)
    ]
    return "\n".join([*lines, "run", ""])


def _place(told) -> list[str]:
    """The operation and the index of a `TensorInfo`."""
    return told.name.rsplit(":", 1)


def _words(array: np.ndarray) -> list[str]:
    """An array as the words of a line."""
    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    told = [str(each) for each in (dtype.as_datatype_enum, array.ndim, *array.shape)]
    if dtype != tf.string:
        return told + [repr(value.item() + 0) for value in array.flat]  # + 0 has a bool a number
    return told + [f"x{tf.compat.as_bytes(value).hex()}" for value in array.flat]


def _array(line: str) -> np.ndarray:
    """An array of the words of a line."""
    kind, rank, *words = line.split(" ")
    shape, values = [int(size) for size in words[: int(rank)]], words[int(rank) :]
    dtype = tf.as_dtype(int(kind))
    if dtype == tf.string:
        found = np.array([None, *map(_string, values)], object)[1:]  # None keeps bytes objects
    elif dtype.is_floating:
        found = np.array(values, dtype.as_numpy_dtype)
    else:
        found = np.array([int(value) for value in values], dtype.as_numpy_dtype)
    return found.reshape(shape)


def _string(word: str) -> bytes:
    return bytes.fromhex(word[1:])
