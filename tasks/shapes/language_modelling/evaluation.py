"""Scores of language modelling: perplexity, and bits per character."""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from models import metrics
from models.text.subwords import MARKS
from models.text.tokens import UNKNOWN_MARK
from tasks.core import evaluation
from tasks.core.evaluation import Evaluation, Table
from tasks.core.examples import Example, Splits

if TYPE_CHECKING:
    from tasks.shapes.language_modelling.task import LanguageModelling

_MISTAKES = 20  # shown in the report
_SHOWN_CHARACTERS = 500  # of a text in the report
_LN2 = math.log(2)
_END = MARKS[2].encode()


class Evaluator(evaluation.Evaluator):
    """Perplexity and bits per character, and the texts that are least expected.

    Both are over all tokens of all texts, with the end of each. A text that is longer than a
    request is scored up to there, and a warning counts these.
    """

    def preview(self) -> Evaluation:
        return self.evaluate(())

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        from tasks.shapes.language_modelling import baselines

        return {
            method: {name: score(sums) for name, score in _SCORES.items()}
            for method, sums in baselines.sums(self.task, splits).items()
        }

    def evaluate(self, responses: Iterable[tuple[Example, dict]]) -> Evaluation:
        rows, worst, unknown, cut = [], [], 0, 0
        for number, (example, response) in enumerate(responses):
            loss, count, size = self._sums(example, response)
            if not count:
                continue
            cut += not _is_whole(response)
            unknown += int(np.sum(response["tokens"][:count] == UNKNOWN_MARK.encode()))
            rows.append([loss, count, size])
            entry = (loss / count, -number, float(response["perplexity"]), example)
            heapq.heappush(worst, entry)
            if len(worst) > _MISTAKES:
                heapq.heappop(worst)
        sums = np.array(rows, float).reshape(-1, 3)
        totals = sums.sum(axis=0)
        scores = {name: score(totals) for name, score in _SCORES.items()} if rows else {}
        intervals = {name: metrics.bootstrap_interval(sums, _SCORES[name]) for name in scores}
        unit = self.task.config.token
        counts = [[unit, int(totals[1])], ["characters", int(totals[2])]]
        if self.task.words is not None:
            counts.append(["unknown words", unknown])
        return Evaluation(
            count=len(rows),
            scores=scores,
            intervals=intervals,
            tables=[Table("Size, with the end of each text", ["unit", "count"], counts)],
            mistakes=Table(
                "The least expected texts",
                ["perplexity", "text", "origin"],
                [
                    [perplexity, _shortened(example.values["text"]), example.origin]
                    for _, _, perplexity, example in sorted(worst, reverse=True)
                ],
            ),
            warnings=self._warnings(len(rows), int(totals[1]), unknown, cut),
        )

    def _sums(self, example: Example, response: Mapping) -> tuple[float, int, int]:
        """Returns the loss, the tokens and the characters of a response."""
        loss, count = -float(response["log_probability"]), int(response["lengths"])
        if not count:
            return 0.0, 0, 0
        return loss, count, characters(self.task, example.values["text"], _is_whole(response))

    def statistics(self, example: Example, response: Mapping) -> dict[str, Sequence[float]]:
        return dict.fromkeys(_SCORES, self._sums(example, response))

    def score_of(self, name: str, sums: np.ndarray) -> float:
        return _SCORES[name](sums)

    def _warnings(self, texts: int, tokens: int, unknown: int, cut: int) -> list[str]:
        limit, warnings = self.task.config.max_length, []
        if cut:
            warnings.append(
                f"{cut} of {texts} texts are longer than {limit} tokens, of which only the "
                f"first {limit} are scored: raise --max-length, or divide the texts."
            )
        if unknown:
            warnings.append(
                f"{unknown / tokens:.1%} of the words are unknown, and each is predicted as one "
                "word: the scores cannot be compared with those of another vocabulary; --token "
                "subwords has no unknown words."
            )
        return warnings


def _is_whole(response: Mapping) -> bool:
    """Returns whether a response with tokens reaches the end of its text."""
    return response["tokens"][int(response["lengths"]) - 1] == _END


def perplexity(sums: np.ndarray) -> float:
    """Returns the perplexity of summed losses, tokens and characters, (3,)."""
    return math.exp(min(sums[0] / sums[1], 700.0)) if sums[1] else math.nan


def bits_per_character(sums: np.ndarray) -> float:
    """Returns the bits per character of summed losses, tokens and characters, (3,)."""
    return float(sums[0] / _LN2 / sums[2]) if sums[2] else math.nan


_SCORES = {"perplexity": perplexity, "bits_per_character": bits_per_character}


def characters(task: "LanguageModelling", text: str, is_whole: bool) -> int:
    """Returns the number of characters that were scored; the end of a text counts as one.

    Args:
        task: The task.
        text: The text.
        is_whole: Whether it was scored to its end.
    """
    if is_whole:
        return len(text) + 1
    ids = task.ids([text]).to_tensor(0)
    return len(task.tokens.decode(ids).numpy()[0].decode("utf-8"))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ..."
