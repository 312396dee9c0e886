"""A published version in a pipeline of Apache Beam, as the model of its `RunInference`.

    from apache_beam.ml.inference.base import RunInference
    rows | RunInference(Handler("saved_models/sentiment/1"))    # PredictionResult(row, answer)

Every worker needs this project, and the folder of the version under the same path.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    ModelHandler,
    PredictionResult,
    RunInference,
)
from apache_beam.options.pipeline_options import PipelineOptions

from app import cli, predict
from tasks.core.task import RequestFormat

_AT_ONCE = 1024  # most rows of which those of like size share a batch
_LEAST = 64  # what is worth a batch


class Handler(ModelHandler[Mapping, PredictionResult, object]):
    """Asks rows of a published version; the answer to each is a row of each output, by name.

    Args:
        folder: That of the version, as workers see it.
        signature: The signature to ask.
    """

    def __init__(self, folder: str, signature: str = "serving_default"):
        super().__init__(min_batch_size=_LEAST, max_batch_size=_AT_ONCE)
        self._folder, self._signature = folder, signature

    def load_model(self):
        with cli.quiet():
            from app.serving.session import SavedModelSession
        return SavedModelSession(Path(self._folder))

    def run_inference(
        self, batch: Sequence[Mapping], model, inference_args: Mapping | None = None
    ) -> Iterator[PredictionResult]:
        from app.serving import payloads
        from app.serving.session import BATCH

        answers = payloads.answered(model.predict, batch, self._signature, BATCH)
        return map(PredictionResult, batch, answers)

    def get_num_bytes(self, batch: Sequence[Mapping]) -> int:
        from app.serving import payloads

        return sum(map(payloads.size, batch))


def answer_files(
    pattern: str, to: str, exchange: RequestFormat, folder: Path, options: PipelineOptions
) -> None:
    """Answers each line of some files by an object in JSON, with the request, in any order.

    Args:
        pattern: The files; those that end in `.gz` are unpacked.
        to: What the names of the files of answers begin with.
        exchange: How the task is asked.
        folder: That of the version.
        options: Those of Beam, with the runner.
    """
    handler = Handler(str(folder.resolve()), exchange.signature)
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | "Lines" >> beam.io.ReadFromText(pattern, coder=BytesCoder())
            | "Requests" >> beam.FlatMap(_requests, exchange)
            | "Answers" >> RunInference(KeyedModelHandler(handler))
            | "Told" >> beam.Map(_told, exchange)
            | "Files" >> beam.io.WriteToText(to, file_name_suffix=".jsonl")
        )


def _requests(line: bytes, exchange: RequestFormat) -> Iterable[tuple[object, dict]]:
    """The request of a line, by what `told` wants to know of it."""
    return [(asked, row) for row, asked in exchange.requests([line.rstrip(b"\r\n")])]


def _told(answered: tuple[object, PredictionResult], exchange: RequestFormat) -> str:
    """The line that tells a request and its answer."""
    asked, result = answered
    return predict.told(exchange, result.example, asked, result.inference, machines=True)
