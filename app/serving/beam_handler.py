"""Published version as the model of Apache Beam's `RunInference`.

    from apache_beam.ml.inference.base import RunInference
    handler = SavedModelHandler("saved_models/sentiment/1")
    rows | RunInference(handler)    # elements: PredictionResult(row, response)

Every worker needs this project and the folder of the version, under the same path.
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

from app import cli
from tasks.core.lines import check_length, strip_line
from tasks.core.predictor import Predictor
from tasks.core.task import RequestFormat

_MIN_BATCH = 64  # rows
_MAX_BATCH = 1024  # rows that are sorted by size, so that similar ones share a session run


class SavedModelHandler(ModelHandler[Mapping, PredictionResult, Predictor]):
    """Predicts rows with a published version; a response is a row of the outputs, by name.

    Args:
        folder: Folder of the version, as the workers see it.
        signature: Name of the signature.
    """

    def __init__(self, folder: str, signature: str = "serving_default"):
        super().__init__(min_batch_size=_MIN_BATCH, max_batch_size=_MAX_BATCH)
        self._folder, self._signature = folder, signature

    def load_model(self) -> Predictor:
        with cli.with_tensorflow():
            from app.serving.session import SavedModelSession
        return SavedModelSession(Path(self._folder))

    def run_inference(
        self, batch: Sequence[Mapping], model: Predictor, inference_args: Mapping | None = None
    ) -> Iterator[PredictionResult]:
        from app.serving import payloads
        from app.serving.session import PREDICT_BATCH

        responses = payloads.predict_in_batches(model, batch, self._signature, PREDICT_BATCH)
        return map(PredictionResult, batch, responses)

    def get_num_bytes(self, batch: Sequence[Mapping]) -> int:
        from app.serving import payloads

        return sum(map(payloads.row_size, batch))


def predict_files(
    pattern: str, prefix: str, request_format: RequestFormat, folder: Path, options: PipelineOptions
) -> None:
    """Predicts each line of some files, and writes requests and responses as JSON, in any order.

    Args:
        pattern: Pattern of the input files, which are decompressed if they end in `.gz`.
        prefix: Prefix of the names of the output files.
        request_format: The task's format of requests and responses.
        folder: Folder of the version.
        options: Options of Beam, among them the runner.
    """
    handler = SavedModelHandler(str(folder.resolve()), request_format.signature)
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | "Read" >> beam.io.ReadFromText(pattern, coder=BytesCoder())
            | "Parse" >> beam.FlatMap(_requests, request_format)
            | "Predict" >> RunInference(KeyedModelHandler(handler))
            | "Format" >> beam.Map(_json_line, request_format)
            | "Write" >> beam.io.WriteToText(prefix, file_name_suffix=".jsonl")
        )


def _requests(line: bytes, request_format: RequestFormat) -> Iterable[tuple[object, dict]]:
    """Parses a line; returns the request with its context as the key.

    Raises:
        UserError: The line is longer than one of `app.predict` may be.
    """
    check_length(line, f"--from: a line that begins with {line[:40]!r}")
    requests = request_format.requests([strip_line(line, number=1)])  # of one of the files
    return [(context, row) for row, context in requests]


def _json_line(keyed: tuple[object, PredictionResult], request_format: RequestFormat) -> str:
    from app.serving import responses

    context, result = keyed
    return responses.as_json(request_format, result.example, context, result.inference)
