"""Published version in TensorFlow's C++ runtime alone, without Python and without this project.

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
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

_SOURCE = Path(__file__).with_name("cc_runtime.c")
_LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
_STRICT = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror")


class ProcessDied(RuntimeError):
    """The process of a runtime ended before it responded; the message has its last output."""


class Response(NamedTuple):
    """Response to a request.

    Attributes:
        code: Code of `tf.errors`; 0 for success.
        message: Error message; empty on success.
        outputs: Arrays by name; none on failure.
    """

    code: int
    message: str
    outputs: dict[str, np.ndarray]


def compiler() -> str | None:
    """Returns the path of the C compiler, None if there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(program: Path, tensorflow: Path | None = None) -> Path:
    """Compiles the program.

    Args:
        program: Path of the executable.
        tensorflow: Folder `tensorflow` of an unpacked wheel; None for the installed one.

    Returns:
        `program`.
    """
    tensorflow = (tensorflow or Path(tf.sysconfig.get_lib())).resolve()
    libraries = [str(tensorflow / name) for name in _LIBRARIES]
    command = [compiler(), *_STRICT, f"-I{tensorflow / 'include'}", str(_SOURCE), *libraries]
    if shutil.which("ld.gold"):  # four times as fast with a library of a gigabyte
        command.append("-fuse-ld=gold")
    subprocess.run([*command, f"-Wl,-rpath,{tensorflow}", "-o", str(program)], check=True)
    return program


class Runtime:
    """Version in its own process, with an empty environment and XLA disabled.

    Args:
        program: Executable that `build` made.
        version: Folder of a version.

    Attributes:
        signatures: The public signatures by name.
        runtime: Version of the TensorFlow libraries that run it.
        pid: Process id.

    Raises:
        ProcessDied: The version could not be loaded.
    """

    def __init__(self, program: Path, version: Path):
        saved_model = SavedModel.FromString((version / "saved_model.pb").read_bytes())
        self.signatures = {
            name: signature
            for name, signature in saved_model.meta_graphs[0].signature_def.items()
            if not name.startswith("__")
        }
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [str(program), str(version.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd="/",
            env={},
            encoding="utf-8",
            errors="replace",
        )
        self.pid = self._process.pid
        _, code, self.runtime, message = self._line().split(" ", 3)
        if code != "0":
            self.close()
            raise ProcessDied(f"{version} cannot be loaded, code {code}: {message}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def run(self, signature: str, request: Mapping[str, np.ndarray]) -> Response:
        """Runs a request.

        Args:
            signature: Name of the signature.
            request: Arrays of any dtype and shape by input; strings as objects. Missing inputs
                are not fed.

        Raises:
            ProcessDied: The process ended before it responded.
        """
        definition = self.signatures[signature]
        try:
            self._process.stdin.write(_request(definition, request))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        _, code, message = self._line().split(" ", 2)
        names = sorted(definition.outputs) if code == "0" else []
        return Response(int(code), message, {name: _array(self._line()) for name in names})

    def _line(self) -> str:
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._death()
        return line[:-1]

    def _death(self) -> ProcessDied:
        code = self._process.wait()
        self._stderr.seek(0)
        output = self._stderr.read()[-2000:].decode("utf-8", "replace")
        return ProcessDied(f"the process ended with code {code}: {output}")


def _request(signature: SignatureDef, request: Mapping[str, np.ndarray]) -> str:
    """Returns the lines of a request."""
    lines = [
        " ".join(["feed", *_operation(signature.inputs[name]), *_words(array)])
        for name, array in request.items()
    ]
    lines += [
        " ".join(["get", *_operation(signature.outputs[name])])
        for name in sorted(signature.outputs)
    ]
    return "\n".join([*lines, "run", ""])


def _operation(info: TensorInfo) -> list[str]:
    """Returns the name of the operation and the index of its output."""
    return info.name.rsplit(":", 1)


def _words(array: np.ndarray) -> list[str]:
    """Returns an array as the words of a line."""
    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    header = [str(number) for number in (dtype.as_datatype_enum, array.ndim, *array.shape)]
    if dtype != tf.string:
        return header + [repr(value.item() + 0) for value in array.flat]  # + 0 converts a bool
    return header + [f"x{tf.compat.as_bytes(value).hex()}" for value in array.flat]


def _array(line: str) -> np.ndarray:
    """Returns the array in a line."""
    kind, rank, *words = line.split(" ")
    shape, values = [int(size) for size in words[: int(rank)]], words[int(rank) :]
    dtype = tf.as_dtype(int(kind))
    if dtype == tf.string:
        array = np.array([None, *map(_string, values)], object)[1:]  # None keeps bytes as objects
    elif dtype.is_floating:
        array = np.array(values, dtype.as_numpy_dtype)
    else:
        array = np.array([int(value) for value in values], dtype.as_numpy_dtype)
    return array.reshape(shape)


def _string(word: str) -> bytes:
    return bytes.fromhex(word[1:])
