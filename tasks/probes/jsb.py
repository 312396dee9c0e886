"""JSB chorales: which notes sound next (Boulanger-Lewandowski et al. 2012)."""

import dataclasses
import functools

import numpy as np

from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import setting

NOTES = 88


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """The next chord of a chorale; the score is the negative log-likelihood of a step, in nats."""

    kind, each, greater = "bits", True, False
    steps, batch, learning_rate = 500, 16, 1e-2
    features, outputs = NOTES, NOTES

    data: str = setting("", "JSB_Chorales.mat, with traindata and testdata of 88 notes")

    @functools.cached_property
    def _songs(self):
        if not self.data:
            raise UserError("jsb needs --data, the file JSB_Chorales.mat.")
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        try:
            told = loadmat(self.data)
            songs = {part: list(told[f"{part}data"][0]) for part in ("train", "test")}
        except (MatReadError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(f"{self.data}: is no .mat of chorales: {error}.") from error
        for part, some in songs.items():
            for at, song in enumerate(some):
                if song.ndim != 2 or song.shape[1] != NOTES or len(song) < 2:
                    raise UserError(
                        f"{self.data}: song {at} of {part} must have two steps or more of "
                        f"{NOTES} notes, got {song.shape}."
                    )
        return songs

    def _batch(self, songs):
        steps = max(map(len, songs)) - 1
        inputs, answers = np.zeros((2, len(songs), steps, NOTES), "float32")
        weights = np.zeros((len(songs), steps), "float32")
        for at, song in enumerate(songs):
            inputs[at, : len(song) - 1], answers[at, : len(song) - 1] = song[:-1], song[1:]
            weights[at, : len(song) - 1] = 1.0
        return probes.Batch(inputs, answers, weights)

    def draw(self, rng, count):
        songs = self._songs["train"]
        return self._batch([songs[at] for at in rng.integers(0, len(songs), count)])

    def test(self):
        return self._batch(self._songs["test"])

    def score(self, batch, outputs):
        likelihood = batch.answers * outputs - np.logaddexp(0.0, outputs)
        total = (likelihood.sum(axis=-1) * batch.weights).sum()
        return {"nll": float(-total / batch.weights.sum())}

    def chance(self):
        """That of each note by its share of train, whatever sounded before."""
        share = np.concatenate([song[1:] for song in self._songs["train"]]).mean(axis=0)
        share = np.clip(share, 1e-4, 1 - 1e-4)
        test = self.test()
        logits = np.broadcast_to(np.log(share / (1 - share)), test.answers.shape)
        return self.score(test, logits)
