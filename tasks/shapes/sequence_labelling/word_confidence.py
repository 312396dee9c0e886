"""Probabilities of the tags of words, and whether the tags are right: their calibration."""

import array
from collections.abc import Mapping, Sequence

from tasks.core.evaluation import Calibration, Table


class WordConfidence:
    """Probabilities of the predicted tags of one annotation, in nine bytes a word.

    Args:
        temperature: Temperature of the served probabilities; None if there is none.
        prefix: Start of the names of the outputs, such as "lemma_".
    """

    def __init__(self, temperature: float | None, prefix: str = ""):
        self._temperature, self._prefix = temperature, prefix
        self._before, self._after = array.array("f"), array.array("f")
        self._correct = array.array("b")

    def add(self, response: Mapping, correct: Sequence[bool]) -> None:
        """Adds the words of a sentence.

        Args:
            response: The response, perhaps without probabilities; those at the temperature 1, if
                they are known, are in `uncalibrated_probability`.
            correct: Whether the tag of each word is right.
        """
        name = f"{self._prefix}probability"
        if name not in response:
            return
        self._after.extend(map(float, response[name]))
        self._before.extend(map(float, response.get(f"uncalibrated_{name}", ())))
        self._correct.extend(correct)

    def calibration(self) -> Calibration | None:
        """Returns the calibration of the tags; None without any."""
        if not self._correct:
            return None
        before = self._before if len(self._before) == len(self._after) else None
        return Calibration.of(before, self._after, self._correct, self._temperature)


def table(confidences: Mapping[str, WordConfidence]) -> Table:
    """Returns the calibration of each of several annotations, by name."""
    rows = []
    for name, confidence in confidences.items():
        if calibration := confidence.calibration():
            errors = calibration.errors()
            before = "" if errors["before"] is None else errors["before"]
            rows.append([name, calibration.temperature or 1.0, before, errors["after"]])
    columns = ["annotation", "temperature", "error at temperature 1", "error as served"]
    return Table("Expected calibration error of each annotation", columns, rows)
