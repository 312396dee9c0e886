"""Sequential MNIST: digits read pixel by pixel, in order or permuted (Le et al. 2015)."""

import dataclasses
import functools
import gzip
from pathlib import Path

import numpy as np

from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import setting

ORDER = 92  # seed of the permutation of pixels


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """Class of a digit from a sequence of its pixels; the score is the accuracy."""

    kind, steps = "class", 3000
    features, outputs = 1, 10

    data: str = setting("", "folder of the four idx files of MNIST, which may be .gz")
    permuted: bool = setting(False, "read the pixels in a fixed random order")
    shrink: int = setting(
        1, "factor by which both sides of the images are reduced, by averaging", at_least=1
    )

    @functools.cached_property
    def _parts(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {name: self._read(name) for name in ("train", "t10k")}

    def _read(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the pixels (N, T, 1) and labels (N,) of a part."""
        images = _idx(self.data, f"{part}-images-idx3-ubyte", 3)
        labels = _idx(self.data, f"{part}-labels-idx1-ubyte", 1)
        if len(images) != len(labels):
            raise UserError(
                f"{self.data}: {part} must have as many labels as images, got {len(images)} "
                f"images and {len(labels)} labels."
            )
        side, factor = images.shape[1] // self.shrink, self.shrink
        cropped = images[:, : side * factor, : side * factor]
        blocks = cropped.reshape(-1, side, factor, side, factor)
        pixels = blocks.mean(axis=(2, 4)).reshape(len(images), -1) / 255.0
        if self.permuted:
            pixels = pixels[:, np.random.default_rng(ORDER).permutation(pixels.shape[1])]
        return pixels.astype("float32")[..., None], labels.astype("int32")

    def _batch(self, images: np.ndarray, labels: np.ndarray) -> probes.Batch:
        return probes.Batch(images, labels, np.ones(len(labels), "float32"))

    def draw(self, rng: np.random.Generator, count: int) -> probes.Batch:
        images, labels = self._parts["train"]
        rows = rng.integers(0, len(labels), count)
        return self._batch(images[rows], labels[rows])

    def test(self) -> probes.Batch:
        return self._batch(*self._parts["t10k"])

    def score(self, batch: probes.Batch, outputs: np.ndarray) -> dict[str, float]:
        return {"accuracy": probes.accuracy(batch, outputs)}

    def chance(self) -> dict[str, float]:
        """Returns the frequency of the commonest digit in the test part."""
        labels = self._parts["t10k"][1]
        return {"accuracy": float(np.bincount(labels).max() / len(labels))}


def _idx(folder: str, name: str, axes: int) -> np.ndarray:
    """Reads an idx file of bytes: a magic number, one size per axis, and the values."""
    if not folder:
        raise UserError("mnist requires --data, the folder of the four idx files of MNIST.")
    candidates = (Path(folder) / name, Path(folder) / f"{name}.gz")
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise UserError(f"--data: no such file: {candidates[0]}, with or without .gz.")
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from error
    header = 4 * (axes + 1)
    sizes = np.frombuffer(raw, ">u4", axes, 4) if len(raw) >= header else ()
    if raw[:4] != bytes([0, 0, 8, axes]) or len(raw) != header + np.prod(sizes):
        raise UserError(f"{path}: not an idx file of bytes with {axes} axes.")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(sizes)
