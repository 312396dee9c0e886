"""The training pipeline: from a corpus to an evaluated, published version.

    read                 corpus                      -> Prepared: task, splits, run
    encode               examples                    -> EncodedParts, cached on disk
    rehearse             names known so far          -> nothing: the last two steps in miniature
    pretrain             texts without labels        -> Prepared, with a language model as start
    fit                  encoded examples            -> Fitted: the model of the best epoch
    export_and_evaluate  model                       -> Evaluated: a draft and its scores
    publish              draft                       -> the folder of the version

Each step takes and returns a value; state that outlives the process is in the run
(`run_state`) and in the cache of encoded examples (`example_cache`).
"""

import collections
import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import keras
import numpy as np
import tensorflow as tf

import tasks
from app import report
from app.core.console import counted, encodable, output_to, say, show_progress, with_progress
from app.serving import comparison, export, versions
from app.serving.base_version import BaseVersion
from app.serving.comparison import Comparison
from app.serving.session import SavedModelSession
from app.serving.uncalibrated import add_uncalibrated
from app.training import (
    advice,
    continuation,
    distribution,
    ensembles,
    example_cache,
    loop,
    pretraining,
    run_state,
)
from app.training.batches import Batches
from app.training.continuation import ContinuedWeights
from app.training.ensembles import Fitted
from app.training.example_cache import EncodedExamples
from app.training.pretraining import PublishedEncoder, TrainedEncoder
from app.training.privacy import Folders, limit_examples
from app.training.run_state import Progress, Run
from tasks.core import summary
from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.evaluation import Alignment, AttentionMaps, Evaluation, Evaluator, Table
from tasks.core.examples import PARTS, Example, Splits, Stream
from tasks.core.settings import flag
from tasks.core.summary import PartSummary
from tasks.core.task import Config, Task

_REHEARSED_EXAMPLES = 20  # of the test part, as many as a report shows


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Options of a training that do not define the model.

    Attributes:
        saved_models: Folder of published models.
        runs: Folder of training state and of encoded examples.
        deterministic: Whether repeated runs compute the same bits, more slowly.
        tune: Whether implementations of recurrent layers are chosen by timing where training is
            neither short, deterministic nor distributed; see `app.training.tuning`.
        checkpoint_every: Number of steps of recurrent layers whose values are computed again at a
            time, which takes less memory; None for none.
        strategy: Name of the distribution strategy, one of `distribution.STRATEGIES`.
        base: Published version that the training continues from, or language model that gives the
            initial weights; None for none.
        freeze: Groups of layers that keep the weights of `base`; see `Task.layer_groups`.
        drop_labels: Whether classes and tags that only `base` has are dropped.
        report_examples: Most examples of the test part that each part of the report shows.
        model: Name under which the version is published; "" for that of the task.
        command: Command that repeats the run, for the record; "" if there is none.
        notes: Notes of the command for the user.
        output: Stream for everything that is printed; None for standard output.
    """

    saved_models: Path = Path("saved_models")
    runs: Path = Path("runs")
    deterministic: bool = False
    tune: bool = False
    checkpoint_every: int | None = None
    strategy: str = "none"
    base: BaseVersion | None = None
    freeze: Sequence[str] = ()
    drop_labels: bool = False
    report_examples: int = 20
    model: str = ""
    command: str = ""
    notes: Sequence[str] = ()
    output: TextIO | None = None


@dataclasses.dataclass(frozen=True)
class DataSummary:
    """The part of `run.json` that describes the data.

    Attributes:
        source: Value of --train, or else of --data.
        checksum: SHA-256 of all examples.
        examples: Number of examples that are used, by part.
        left_out: Number of examples that cannot be used, by part.
        notes: Notes of the corpus for the user.
        majority: The most frequent class or tag of the train part; None for tasks without them.
        remarks: What a user should know of the examples, such as duplicates.
    """

    source: str
    checksum: str
    examples: dict[str, int]
    left_out: dict[str, int]
    notes: tuple[str, ...]
    majority: str | None = None
    remarks: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A task, its examples and its run, ready for training.

    Attributes:
        name: Name of the task.
        model: Name under which the version is published.
        task: The task, restored from the assets of the run.
        splits: The examples that the task can predict.
        data: Summary of the data.
        run: The locked run, to be closed by the caller.
        cache: Folder of the encoded examples.
        seconds: Time that reading took.
        options: Options of the training.
        folders: Folders that the record and the report do not name.
        config: The settings as they were given, with the paths of files.
        start: Weights to start from; None for new ones.
    """

    name: str
    model: str
    task: Task
    splits: Splits
    data: DataSummary
    run: Run
    cache: Path
    seconds: float
    options: TrainOptions
    folders: Folders
    config: Config
    start: ContinuedWeights | TrainedEncoder | PublishedEncoder | None = None

    @property
    def continued(self) -> BaseVersion | None:
        """The version of the same task that is continued."""
        return self.start.base if isinstance(self.start, ContinuedWeights) else None

    @property
    def encoder(self) -> TrainedEncoder | PublishedEncoder | None:
        """The language model that gives the initial weights."""
        return None if isinstance(self.start, ContinuedWeights) else self.start


@dataclasses.dataclass(frozen=True)
class EncodedParts:
    """Encoded examples, the summary of the data with what encoding skipped, and the time taken."""

    train: EncodedExamples
    valid: EncodedExamples
    data: DataSummary
    seconds: float


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A draft, its evaluation on the test part, and illustrations for the report.

    `fitted_on_valid` is what `Task.fitted_on_valid` returned, as pairs; `comparison` is that with
    the version that was continued.
    """

    draft: Path
    evaluation: Evaluation
    illustrations: Sequence[Alignment | AttentionMaps]
    seconds: float
    fitted_on_valid: tuple[tuple[str, float], ...] = ()
    comparison: Comparison | None = None


def train(task: str, config: Config, corpus: Corpus, options: TrainOptions) -> Path | None:
    """Trains a task, evaluates it and publishes a version.

    An interrupted training continues from its last finished epoch. In a cluster the chief
    evaluates and publishes; the other processes only train, print nothing but errors, and
    keep what they need in a temporary folder.

    Args:
        task: Name of the task.
        config: Settings of the task.
        corpus: Location of the examples.
        options: Folders, devices and output.

    Returns:
        The folder of the version; None in the other processes of a cluster.

    Raises:
        UserError: The data, a setting or the environment is at fault.
    """
    strategy = distribution.strategy_of(options.strategy)  # before TensorFlow computes anything
    with contextlib.ExitStack() as stack:
        stack.enter_context(distribution.in_cluster(strategy))
        if not distribution.is_chief(strategy):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            options = dataclasses.replace(options, runs=folder, output=io.StringIO())
        stack.enter_context(output_to(options.output))
        stack.enter_context(_report_full_disk())
        if options.deterministic:
            tf.config.experimental.enable_op_determinism()
        if strategy.num_replicas_in_sync > 1:
            say(f"{strategy.num_replicas_in_sync} devices share each batch")
        prepared = read(task, config, corpus, options)
        stack.callback(prepared.run.close)
        distribution.broadcast_state(prepared.run, strategy)
        encoded = encode(prepared)
        if distribution.is_chief(strategy):
            rehearse(prepared, encoded, options.saved_models)
        prepared = pretrain(prepared, strategy)
        _warn_of_few_steps(prepared, encoded)
        fitted = fit(prepared, encoded, strategy)
        version = None
        if distribution.is_chief(strategy):
            evaluated = export_and_evaluate(prepared, fitted, options.saved_models)
            version = publish(prepared, encoded, fitted, evaluated, strategy)
        distribution.wait(strategy)
        return version


# --- Reading -----------------------------------------------------------------


def read(name: str, config: Config, corpus: Corpus, options: TrainOptions) -> Prepared:
    """Reads a corpus, learns the task from its training part, and opens the run.

    Args:
        name: Name of the task.
        config: Settings of the task.
        corpus: Location of the examples.
        options: Folders, and the version that is continued.

    Raises:
        UserError: The corpus is invalid, or another process trains the same run.
    """
    began, runs, model = time.monotonic(), options.runs, options.model or name
    task_class = tasks.find(name)
    unknown = sorted(set(options.freeze) - set(task_class.layer_groups))
    if unknown:
        raise UserError(
            f"--freeze: {name} has the groups {sorted(task_class.layer_groups)}, got {unknown}."
        )
    config, corpus, decisions = task_class.settle(config, corpus)
    splits = corpus.open()
    splits = dataclasses.replace(splits, notes=(*options.notes, *splits.notes, *decisions))
    say(*splits.notes)
    try:
        runs.mkdir(parents=True, exist_ok=True)
        draft = tempfile.TemporaryDirectory(prefix="draft-", dir=runs)
    except OSError as error:
        raise UserError(f"--runs: {runs} must be a folder that can be written: {error}.") from error
    with draft as folder:
        assets = Path(folder)
        data, resolved = _learn(task_class, config, corpus, splits, assets, options)
        run = _open_run(runs / model, name, resolved, data.checksum, assets)
    task = task_class.restore(run.assets)
    ops = example_cache.ops_fingerprint(task, next(iter(splits.train)))
    cache = runs / "encoded" / name
    cache /= example_cache.identity(resolved, data.checksum, run.assets, ops)
    run.record_cache(cache)
    start = None
    if options.base and options.base.is_language_model:
        restored = tasks.find(options.base.task).restore(options.base.folder / "assets")
        start = PublishedEncoder(options.base, restored)
        say(*start.sentences(task))
    elif options.base:
        restored = task_class.restore(options.base.folder / "assets")
        start = ContinuedWeights(options.base, restored, options.freeze)
        say(start.sentence(task))
    return Prepared(
        name,
        model,
        task,
        _evaluable(task, splits),
        data,
        run,
        cache,
        time.monotonic() - began,
        options,
        Folders([config, corpus], [options.saved_models, options.runs]),
        config,
        start,
    )


class _Survey:
    """Count, hash, classes and summary of the examples of a stream, from its first pass."""

    def __init__(self, stream: Stream, evaluator: type[Evaluator], summary: PartSummary):
        self._stream, self._evaluator, self.summary = stream, evaluator, summary
        self.count, self.hash = 0, hashlib.sha256()
        self.classes = collections.Counter()
        self._is_complete = False

    def stream(self) -> Stream:
        return Stream(self._read)

    def _read(self):
        if self._is_complete:  # word vectors are learnt in a second pass
            yield from self._stream
            return
        for example in self._stream:
            self.count += 1
            self.summary.add(example)
            self.classes.update(self._evaluator.target_classes(example))
            for key, value in sorted(example.values.items()):
                pieces = value if isinstance(value, tuple) else (value,)
                for piece in pieces:
                    piece = piece.encode() if isinstance(piece, str) else piece
                    self.hash.update(b"%s %d " % (key.encode(), len(piece)) + piece)
            yield example
        self._is_complete = True


def _learn(
    task_class: type[Task],
    config: Config,
    corpus: Corpus,
    splits: Splits,
    assets: Path,
    options: TrainOptions,
) -> tuple[DataSummary, Config]:
    """Learns a task into `assets`, and validates every example of every part.

    Returns:
        The summary of the data, and the settings with those that follow from the data.
    """
    surveys = {}
    for part in PARTS:
        stream = with_progress(getattr(splits, part), f"reading {part}")
        surveys[part] = _Survey(stream, task_class.Evaluator, PartSummary(corpus.identity))
    base, more_words = options.base, ()
    if base and base.is_language_model:
        more_words = pretraining.words_of_version(base, config)
    task = task_class.learn(
        config,
        surveys["train"].stream(),
        assets,
        splits.valid,
        base=base.folder / "assets" if base and not base.is_language_model else None,
        drop_labels=options.drop_labels,
        more_words=more_words,
    )
    if base:
        continuation.write_record(base, options.freeze, assets)
    left_out = _count_rejected(task, surveys)
    checksum = hashlib.sha256("".join(s.hash.hexdigest() for s in surveys.values()).encode())
    counts = {part: survey.count - left_out.get(part, 0) for part, survey in surveys.items()}
    say(", ".join(f"{part} {count}" for part, count in counts.items()) + " examples")
    remarks = tuple(
        map(encodable, summary.remarks({part: s.summary for part, s in surveys.items()}))
    )
    say(*remarks)
    # The first in alphabetical order of the most frequent, whatever the order of the files.
    classes = sorted(surveys["train"].classes.items(), key=lambda item: (-item[1], item[0]))
    majority = classes[0][0] if classes else None
    chosen = _chosen_settings(config, task.config)
    say(*chosen, *map(encodable, task.remarks()))
    data = DataSummary(
        encodable(corpus.location),
        checksum.hexdigest(),
        counts,
        left_out,
        tuple(map(encodable, [*splits.notes, *chosen])),
        majority,
        remarks,
    )
    return data, task.config


def _count_rejected(task: Task, surveys: Mapping[str, _Survey]) -> dict[str, int]:
    """Reads the valid and test parts, and returns how many of their examples are skipped.

    Args:
        task: The task, which rejects examples that cannot be evaluated.
        surveys: The parts, of which the first has been read.

    Raises:
        UserError: A part has no other examples.
    """
    left_out = {}
    for part in PARTS[1:]:
        reasons = collections.Counter(map(task.rejection_reason, surveys[part].stream()))
        reasons.pop(None, None)
        left_out[part] = sum(reasons.values())
        for reason, count in reasons.items():
            say(f"{part}: {count} of {surveys[part].count} examples skipped: {reason}")
    for part, survey in surveys.items():
        if survey.count == left_out.get(part, 0):
            raise _no_examples(part)
    return left_out


def _chosen_settings(config: Config, complete: Config) -> list[str]:
    """Returns a line with the settings that follow from the data, or no line if there are none."""
    chosen = [
        f"{flag(field.name)} {getattr(complete, field.name)}"
        for field in dataclasses.fields(config)
        if getattr(config, field.name) is None
    ]
    return [f"chosen from the train part: {', '.join(chosen)}"] if chosen else []


def _no_examples(part: str) -> UserError:
    return UserError(
        f"the {part} part holds no examples that could be used: add examples, or give the {part} "
        f"part a file of its own with --{part}."
    )


def _evaluable(task: Task, splits: Splits) -> Splits:
    def is_evaluable(example: Example) -> bool:
        return not task.rejection_reason(example)

    return dataclasses.replace(
        splits, valid=splits.valid.filter(is_evaluable), test=splits.test.filter(is_evaluable)
    )


def _open_run(folder: Path, task: str, config: Config, checksum: str, assets: Path) -> Run:
    """Opens the run of a task, config and data, new or unfinished."""
    run = Run(folder / run_state.identity(task, config, checksum, assets))
    progress = run.progress()
    version = progress.version_of(config)
    networks = run_state.network_folders(dataclasses.asdict(config))
    trained = sum(run_state.read_progress(run.folder / name).ended(config) for name in networks)
    if version is not None and trained == len(networks):
        say(f"this run has finished as version {version}: training again from the start")
        run.reset(networks)
    elif progress.ended(config) and trained < len(networks):
        say(f"resuming {run.folder}: {trained} of {len(networks)} networks are trained")
    elif progress.ended(config) and progress.published:
        say(
            "the trained model is published with other serving settings or in another ensemble; "
            "nothing is trained"
        )
    elif progress.ended(config):
        say(f"resuming {run.folder}: trained for {progress.epoch} epochs, not yet published")
    elif progress.epoch:
        say(f"resuming {run.folder} after epoch {progress.epoch}")
    else:
        for other in run_state.unfinished(run.folder, config):
            say(f"starting a new run; {other} belongs to other data and is kept")
    run.replace_assets(assets)
    return run


# --- Training ----------------------------------------------------------------


def encode(prepared: Prepared) -> EncodedParts:
    """Encodes the training and validation parts, or reads them from the cache.

    Raises:
        UserError: A part has no examples that can be encoded.
    """
    began = time.monotonic()
    task, data = prepared.task, prepared.data
    parts, left_out = {}, dict(data.left_out)
    for part in PARTS[:2]:
        examples = with_progress(getattr(prepared.splits, part), f"encoding {part}")
        encoded = parts[part] = EncodedExamples.write(task, examples, prepared.cache / part)
        skipped = data.examples[part] - len(encoded)
        if skipped > 0:
            of_all = f"{skipped} of {data.examples[part]} examples"
            say(f"{part}: {of_all} skipped: {task.skip_reason()}")
            left_out[part] = left_out.get(part, 0) + skipped
        if not len(encoded):
            raise _no_examples(part)
    data = dataclasses.replace(data, left_out=left_out)
    return EncodedParts(parts["train"], parts["valid"], data, time.monotonic() - began)


def rehearse(prepared: Prepared, encoded: EncodedParts, saved_models: Path) -> None:
    """Tries in miniature what follows training, so that no training is lost to an error there.

    An empty SavedModel is written to the folder of versions and loaded, and a report is
    rendered with the names of the classes, files and examples that are known by now.

    Raises:
        UserError: The folder of versions cannot be written.
    """
    task = prepared.task
    draft = _draft_folder(prepared, saved_models)
    export.rehearse(draft)
    examples = next(prepared.splits.test.batches(_REHEARSED_EXAMPLES))
    rows = [[*map(_as_cell, e.values.values()), e.origin] for e in examples]
    mistakes = Table("Mistakes", [*examples[0].values, "origin"], rows)
    evaluation = dataclasses.replace(task.Evaluator(task).preview(), mistakes=mistakes)
    history = [{"epoch": 1, "loss": 0.0, "val_loss": 0.0}]
    record = _record(
        prepared,
        encoded,
        Fitted(None, Progress(epoch=1, best_epoch=1, history=history)),
        Evaluated(draft, evaluation, (), 0.0),
        parameters=0,
        devices=1,
    )
    json.dumps(record)
    report.page(record, history, evaluation, _card_notes(prepared)).encode("utf-8")


def _as_cell(value: str | bytes | tuple[str, ...]) -> str | bytes:
    return " ".join(value) if isinstance(value, tuple) else value


def pretrain(prepared: Prepared, strategy: tf.distribute.Strategy) -> Prepared:
    """Trains the language model that gives the initial weights, if the settings have texts for it.

    Raises:
        UserError: The texts cannot be read.
    """
    if not getattr(prepared.config, "has_language_model", False):
        return prepared
    start = pretraining.train(
        prepared.task,
        prepared.config,
        prepared.splits,
        prepared.run.assets,
        prepared.data.checksum,
        prepared.options.runs,
        strategy,
        loop.RecurrentOptions(checkpoint_every=prepared.options.checkpoint_every),
    )
    say(*start.sentences(prepared.task))
    return dataclasses.replace(prepared, start=start)


def _warn_of_few_steps(prepared: Prepared, encoded: EncodedParts) -> None:
    """Prints a warning before the first epoch if a pass over the training part has few steps."""
    progress = prepared.run.progress()
    warning = advice.few_steps(_steps_of_pass(prepared.task, encoded, progress))
    if warning and not progress.epoch:
        say(f"warning: {warning}")


def fit(prepared: Prepared, encoded: EncodedParts, strategy: tf.distribute.Strategy) -> Fitted:
    """Trains the networks until their config says so, from the state of the run."""
    options = prepared.options
    may_tune = not options.deterministic and strategy.num_replicas_in_sync == 1
    return ensembles.fit(
        prepared.task,
        encoded.train,
        encoded.valid,
        run=prepared.run,
        splits=prepared.splits,
        strategy=strategy,
        start=prepared.start,
        recurrent=loop.RecurrentOptions(options.tune and may_tune, options.checkpoint_every),
    )


# --- Evaluating and publishing -----------------------------------------------


def _draft_folder(prepared: Prepared, saved_models: Path) -> Path:
    """Returns the folder of a run's draft, whose name a server does not take for a version."""
    return saved_models / prepared.model / f"draft-{prepared.run.folder.name}"


def export_and_evaluate(prepared: Prepared, fitted: Fitted, saved_models: Path) -> Evaluated:
    """Exports a draft, and evaluates it on the test part as TensorFlow Serving would load it."""
    began = time.monotonic()
    task, test = prepared.task, prepared.splits.test
    draft = _draft_folder(prepared, saved_models)
    draft.parent.mkdir(parents=True, exist_ok=True)
    say("exporting the network")
    export.draft(task, fitted.model, draft)
    session = SavedModelSession(draft)
    fitted_on_valid = task.fitted_on_valid(fitted.model)
    evaluator = task.Evaluator(task, prepared.data.majority, fitted_on_valid)
    count = prepared.data.examples[PARTS[-1]]
    say(f"evaluating the served model on {counted(count, 'example')}")
    predicted = session.predict_examples(task, test)
    definition = session.signatures[task.evaluation_signature]
    predicted = add_uncalibrated(predicted, task, fitted.model, definition)
    evaluation = evaluator.evaluate(show_progress(predicted, "evaluating test", count))
    baselines = evaluation.baselines | evaluator.baselines(prepared.splits)
    evaluation = dataclasses.replace(evaluation, baselines=baselines)
    illustrations = evaluator.illustrate(session, test)
    compared = None
    if prepared.continued:
        base = prepared.continued.folder
        compared = comparison.compare(prepared.name, base, draft, test, "the new version")
        if compared:
            tables = (compared.table(), *evaluation.tables)
            evaluation = dataclasses.replace(evaluation, tables=tables)
        else:
            say(f"not compared with {base}: it has none of the classes or tags of the test part")
    return Evaluated(
        draft,
        evaluation,
        illustrations,
        time.monotonic() - began,
        tuple(fitted_on_valid.items()),
        compared,
    )


def publish(
    prepared: Prepared,
    encoded: EncodedParts,
    fitted: Fitted,
    evaluated: Evaluated,
    strategy: tf.distribute.Strategy,
) -> Path:
    """Completes the draft with its record and report, and publishes it as the next version."""
    task, run, draft = prepared.task, prepared.run, evaluated.draft
    extra = draft / "assets.extra"
    extra.mkdir()
    record = _record(
        prepared,
        encoded,
        fitted,
        evaluated,
        parameters=fitted.model.count_params(),
        devices=strategy.num_replicas_in_sync,
    )
    (extra / "run.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    history = run_state.history_table(fitted.progress.history)
    (extra / "history.csv").write_bytes(history.encode("utf-8"))
    shown, illustrations = limit_examples(
        evaluated.evaluation, evaluated.illustrations, prepared.options.report_examples
    )
    page = report.page(record, fitted.progress.history, shown, _card_notes(prepared), illustrations)
    page = prepared.folders.left_out(page)
    (extra / "report.html").write_text(page, encoding="utf-8")
    versions.check_task(draft.parent, prepared.name)  # another process may have published there
    export.complete(task, prepared.model, fitted.model, draft, prepared.splits.test)
    version = export.publish(draft)
    run.mark_published(int(version.name), task.config)
    evaluation = evaluated.evaluation
    contexts = [[name, evaluation.context(name)] for name in evaluation.scores]
    calibration = evaluation.calibration
    say(
        f"best epoch {fitted.progress.best_epoch} of {fitted.progress.epoch}; scores of the "
        "served model on test: "
        + ", ".join(f"{name} {score:.4f}" for name, score in evaluation.scores.items()),
        *(f"{name}: {context}" for name, context in contexts if context),
        *evaluation.below_baselines(),
        *(evaluated.comparison.sentences() if evaluated.comparison else ()),
        *([calibration.sentence()] if calibration else []),
        *(f"warning: {warning}" for warning in record["warnings"]),
        f"published {version}",
        f"report    {version / 'assets.extra' / 'report.html'}",
        *([f"repeat    {prepared.options.command}"] if prepared.options.command else []),
    )
    return version


def _record(
    prepared: Prepared,
    encoded: EncodedParts,
    fitted: Fitted,
    evaluated: Evaluated,
    *,
    parameters: int,
    devices: int,
) -> dict[str, Any]:
    """The content of `run.json`."""
    task, progress = prepared.task, fitted.progress
    calibration, compared = evaluated.evaluation.calibration, evaluated.comparison
    seconds = {
        "read": prepared.seconds,
        "encode": encoded.seconds,
        "fit": fitted.seconds,
        "export_and_judge": evaluated.seconds,
    }
    record = {
        "task": prepared.name,
        "name": prepared.model,
        "command": prepared.options.command,
        "date": report.now(),
        "scores": evaluated.evaluation.scores,
        "intervals": evaluated.evaluation.intervals,
        "baselines": evaluated.evaluation.baselines,
        "calibration": calibration.errors() if calibration else None,
        "fitted_on_valid": dict(evaluated.fitted_on_valid),
        "warnings": [*_training_warnings(task, encoded, progress), *evaluated.evaluation.warnings],
        "evaluated": {
            "signature": task.evaluation_signature,
            "part": "test",
            "examples": evaluated.evaluation.count,
        },
        "config": dataclasses.asdict(task.config),
        "data": dataclasses.asdict(encoded.data),
        **({"vectors": task.vectors.record(task.config)} if task.vectors else {}),
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "base": prepared.options.base.record() if prepared.options.base else None,
        **({"pretraining": prepared.encoder.record()} if prepared.encoder else {}),
        "comparison": compared and dataclasses.asdict(compared),
        "networks": [dataclasses.asdict(network) for network in fitted.networks],
        "distillation": [dataclasses.asdict(gain) for gain in fitted.gains],
        "batch_tokens": progress.tokens or task.config.batch_tokens,
        "implementations": progress.implementations,
        "parameters": parameters,
        "seconds": {key: round(value, 2) for key, value in seconds.items()},
        "versions": _versions(),
        "commit": _commit(),
        "device": "gpu" if tf.config.get_visible_devices("GPU") else "cpu",
        "devices": devices,
    }
    if not prepared.options.report_examples and "vectors" in record:  # words of the examples
        record["vectors"] |= {"uncovered": [], "malformed_examples": []}
    return prepared.folders.left_out(record)


def _card_notes(prepared: Prepared) -> list[str]:
    """Returns the sentences of the model card on a task."""
    task, encoder = prepared.task, prepared.encoder
    lines = [*task.remarks(), *(encoder.sentences(task) if encoder else ())]
    return [*task.limits(), *(f"{line[:1].upper()}{line[1:]}." for line in lines)]


def _steps_of_pass(task: Task, encoded: EncodedParts, progress: Progress) -> int:
    """Returns the number of batches in one pass over the training part."""
    return Batches(encoded.train, progress.tokens or task.config.batch_tokens).steps


def _training_warnings(task: Task, encoded: EncodedParts, progress: Progress) -> list[str]:
    steps = _steps_of_pass(task, encoded, progress)
    return advice.training_warnings(progress.history, progress.best_epoch, task.monitor, steps)


def _versions() -> dict[str, str]:
    modules = (keras, np, tf)
    return {"python": platform.python_version()} | {m.__name__: m.__version__ for m in modules}


def _commit() -> str | None:
    """The commit of this program; None outside a git checkout."""
    try:
        process = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        return None
    return process.stdout.strip() or None


@contextlib.contextmanager
def _report_full_disk() -> Iterator[None]:
    """Reports a full disk as a `UserError`, whether Python or TensorFlow found it."""
    message = os.strerror(errno.ENOSPC)
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        if message not in str(error):
            raise
        raise UserError(
            f"{message.lower()}. What was finished is kept: free some space, and repeat the "
            "command to continue."
        ) from error
