"""Sequential MNIST: a digit, read pixel by pixel (Le et al. 2015), in order or permuted."""

import dataclasses
import functools
import gzip
from pathlib import Path

import numpy as np

from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import setting

ORDER = 92  # seed of the one order of pixels


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """A digit, of its pixels one after another; the score is the accuracy."""

    kind, steps = "class", 3000
    features, outputs = 1, 10

    data: str = setting("", "folder of the four idx files of MNIST, as they are or as .gz")
    permuted: bool = setting(False, "whether pixels come in one random order, always the same")
    shrink: int = setting(1, "pixels of each side that become one, by their mean", at_least=1)

    @functools.cached_property
    def _parts(self):
        return {name: self._read(name) for name in ("train", "t10k")}

    def _read(self, part):
        images = _idx(self.data, f"{part}-images-idx3-ubyte", 3)
        labels = _idx(self.data, f"{part}-labels-idx1-ubyte", 1)
        if len(images) != len(labels):
            raise UserError(f"{self.data}: {part} has {len(images)} images, {len(labels)} labels.")
        side, by = images.shape[1] // self.shrink, self.shrink
        cut = images[:, : side * by, : side * by].reshape(-1, side, by, side, by)
        pixels = cut.mean(axis=(2, 4)).reshape(len(images), -1) / 255.0
        if self.permuted:
            pixels = pixels[:, np.random.default_rng(ORDER).permutation(pixels.shape[1])]
        return pixels.astype("float32")[..., None], labels.astype("int32")

    def _batch(self, images, labels):
        return probes.Batch(images, labels, np.ones(len(labels), "float32"))

    def draw(self, rng, count):
        images, labels = self._parts["train"]
        rows = rng.integers(0, len(labels), count)
        return self._batch(images[rows], labels[rows])

    def test(self):
        return self._batch(*self._parts["t10k"])

    def score(self, batch, outputs):
        return {"accuracy": probes.accuracy(batch, outputs)}

    def chance(self):
        """The share of the commonest digit of the test part."""
        labels = self._parts["t10k"][1]
        return {"accuracy": float(np.bincount(labels).max() / len(labels))}


def _idx(folder, name, axes):
    """The array of an idx file, of bytes: a sign, a size for each axis, and the values."""
    if not folder:
        raise UserError("mnist needs --data, the folder of the four idx files of MNIST.")
    found = [path for path in (Path(folder) / name, Path(folder) / f"{name}.gz") if path.is_file()]
    if not found:
        raise UserError(f"{Path(folder) / name} is not there, nor is it as .gz.")
    try:
        raw = found[0].read_bytes()
        raw = gzip.decompress(raw) if found[0].suffix == ".gz" else raw
    except (OSError, EOFError) as error:
        raise UserError(f"{found[0]}: cannot be read: {error}.") from error
    sizes = np.frombuffer(raw, ">u4", axes, 4) if len(raw) >= 4 * (axes + 1) else ()
    if raw[:4] != bytes([0, 0, 8, axes]) or len(raw) != 4 * (axes + 1) + np.prod(sizes):
        raise UserError(f"{found[0]}: is no idx file of {axes} axes of bytes.")
    return np.frombuffer(raw, np.uint8, offset=4 * (axes + 1)).reshape(sizes)
