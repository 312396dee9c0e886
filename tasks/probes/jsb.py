"""JSB chorales: prediction of the next chord (Boulanger-Lewandowski et al. 2012)."""

import dataclasses
import functools

import numpy as np

from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import setting

NOTES = 88


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """Next chord of a chorale; the score is the negative log-likelihood per step, in nats."""

    kind, per_step, greater_is_better = "bits", True, False
    steps, batch, learning_rate = 500, 16, 1e-2
    features, outputs = NOTES, NOTES

    data: str = setting("", "path of JSB_Chorales.mat, with traindata and testdata of 88 notes")

    @functools.cached_property
    def _songs(self) -> dict[str, list[np.ndarray]]:
        """Chorales by part, each (T, 88)."""
        if not self.data:
            raise UserError("jsb requires --data, the path of JSB_Chorales.mat.")
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        try:
            arrays = loadmat(self.data)
            songs = {part: list(arrays[f"{part}data"][0]) for part in ("train", "test")}
        except (MatReadError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(f"{self.data}: not a .mat file of chorales: {error}.") from error
        for part, part_songs in songs.items():
            for index, song in enumerate(part_songs):
                if song.ndim != 2 or song.shape[1] != NOTES or len(song) < 2:
                    raise UserError(
                        f"{self.data}: song {index} of {part} must have the shape (steps, {NOTES}) "
                        f"with at least 2 steps, got {song.shape}."
                    )
        return songs

    def _batch(self, songs: list[np.ndarray]) -> probes.Batch:
        steps = max(map(len, songs)) - 1
        inputs, targets = np.zeros((2, len(songs), steps, NOTES), "float32")
        weights = np.zeros((len(songs), steps), "float32")
        for index, song in enumerate(songs):
            length = len(song) - 1
            inputs[index, :length], targets[index, :length] = song[:-1], song[1:]
            weights[index, :length] = 1.0
        return probes.Batch(inputs, targets, weights)

    def draw(self, rng: np.random.Generator, count: int) -> probes.Batch:
        songs = self._songs["train"]
        return self._batch([songs[index] for index in rng.integers(0, len(songs), count)])

    def test(self) -> probes.Batch:
        return self._batch(self._songs["test"])

    def score(self, batch: probes.Batch, outputs: np.ndarray) -> dict[str, float]:
        likelihood = batch.targets * outputs - np.logaddexp(0.0, outputs)
        total = (likelihood.sum(axis=-1) * batch.weights).sum()
        return {"nll": float(-total / batch.weights.sum())}

    def chance(self) -> dict[str, float]:
        """Returns the score of predicting every note by its frequency in train."""
        share = np.concatenate([song[1:] for song in self._songs["train"]]).mean(axis=0)
        share = np.clip(share, 1e-4, 1 - 1e-4)
        test = self.test()
        logits = np.broadcast_to(np.log(share / (1 - share)), test.targets.shape)
        return self.score(test, logits)
