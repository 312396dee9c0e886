"""What a task is: all that sets one problem apart from another."""

import abc
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from models.cells import specs
from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.evaluation import Alignment, AttentionMaps, Evaluation
from tasks.core.examples import Example, Stream
from tasks.core.inspection import Inspection
from tasks.core.settings import CELL_HELP, check, find_cell, from_record, setting

Purpose = Literal["training", "reuse", "serving"]
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings that define a model and its training: flags, defaults and record in one."""

    cell: str = setting("lstm", CELL_HELP, affects="training")
    units: int = setting(
        128, "units per direction of each recurrent layer", at_least=1, affects="training"
    )
    layers: int = setting(1, "number of recurrent layers", at_least=1, affects="training")
    embedding: int = setting(128, "features of an embedded word", at_least=1, affects="training")
    dropout: float = setting(
        0.3, "share of features dropped in training", at_least=0, below=1, affects="training"
    )
    batch_tokens: int = setting(
        1024,
        "tokens per batch, including padding",
        at_least=1,
        affects="training",
        old_name="tokens",
    )
    max_length: int = setting(
        500, "tokens read per text; longer texts are truncated", at_least=1, old_name="longest"
    )
    epochs: int = setting(10, "maximum number of epochs", at_least=1, affects="schedule")
    steps_per_epoch: int = setting(
        0, "batches per epoch; 0: one pass over the training part", at_least=0, affects="training"
    )
    learning_rate: float = setting(
        1e-3, "learning rate of Adam", above=0, affects="training", old_name="rate"
    )
    clip_norm: float = setting(
        1.0, "maximum global norm of the gradients; 0: no limit", at_least=0, affects="training"
    )
    clip_value: float = setting(
        0.0, "maximum absolute value of a gradient; 0: no limit", at_least=0, affects="training"
    )
    patience: int = setting(
        3,
        "epochs without improvement on the validation part before training stops",
        at_least=1,
        affects="schedule",
    )
    ema_momentum: float = setting(
        0.0,
        "momentum of the exponential moving average of the weights, which is validated and "
        "published; 0: no averaging",
        at_least=0,
        below=1,
        affects="training",
        old_name="averaging",
    )
    buffer: int = setting(
        32,
        "megabytes of encoded examples that are shuffled together",
        at_least=1,
        affects="training",
    )
    seed: int = setting(
        0, "seed of weights, dropout and the order of examples", at_least=0, affects="training"
    )
    precision: str = setting(
        "float32", "Keras dtype policy of training", choices=PRECISIONS, affects="training"
    )

    def __post_init__(self):
        check(self)
        if self.clip_norm and self.clip_value:
            raise UserError(
                f"--clip-norm ({self.clip_norm}) and --clip-value ({self.clip_value}) exclude each "
                "other; set one of them to 0."
            )
        spec = find_cell(self.cell)
        if self.cell not in specs.CELLS:  # the record holds the spec, not the path of a file
            object.__setattr__(self, "cell", json.dumps(spec.to_json()))


class ValidationSample(NamedTuple):
    """What a look at a model in training gave: figures of valid by name, and lines to be shown."""

    figures: dict[str, float]
    lines: Sequence[str]


@dataclasses.dataclass(frozen=True)
class RequestFormat(abc.ABC):
    """How `app.predict` reads requests and shows answers; its fields are flags."""

    def __post_init__(self):
        check(self)

    @property
    def signature(self) -> str:
        """The signature to ask."""
        return "serving_default"

    @property
    def draws(self) -> bool:
        """Whether a picture of an answer is wanted; then there can be one request."""
        return False

    @property
    def by_line(self) -> bool:
        """Whether each line is a request."""
        return True

    @abc.abstractmethod
    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, object]]:
        """Reads requests from lines without their ends.

        Returns:
            Of each request its row of each input, by name, and what `show` wants to know. No
            line is read that is not of the request or before it.

        Raises:
            UserError: A line is none of a request's.
        """

    @abc.abstractmethod
    def show(self, asked: object, answer: dict) -> str:
        """An answer for a person, in lines.

        Args:
            asked: What `requests` gave with it.
            answer: A row of each output, by name; strings are `str`.
        """

    def echo(self, row: dict, asked: object) -> dict:
        """What is printed of a request beside its answer, for machines: mostly the row itself."""
        return row

    def drawing(self, asked: object, answer: dict) -> tuple[str, Alignment | AttentionMaps] | None:
        """The file that a picture of the answer is to go to, and what it shows; mostly none."""
        return None


class Task(tf.Module, abc.ABC):
    """One problem, complete: made by `learn` from examples or by `restore` from a folder.

    Class attributes:
        Config: The dataclass of its settings.
        Corpus: The dataclass that says where its examples are.
        RequestFormat: The dataclass that says how a person asks it.
        judged: The signature that answers for it where it is judged.
        request: The inputs of that signature, by name.
        chosen_by: The figure that says which epoch is the best: the least of a
            loss, else the greatest.
    """

    Config: ClassVar[type[Config]] = Config
    Corpus: ClassVar[type[Corpus]]
    RequestFormat: ClassVar[type[RequestFormat]]
    judged: ClassVar[str] = "serving_default"
    request: ClassVar[dict[str, tf.TensorSpec]]
    monitor: ClassVar[str] = "val_loss"

    def __init__(self, config: Config, folder: Path):
        """Reads the assets that `learn` left in `folder`."""
        super().__init__()
        self.config = config
        self._config_file = tf.saved_model.Asset(str(folder / "config.json"))

    @classmethod
    def learn(cls, config: Config, train: Stream, folder: Path) -> Self:
        """Learns what has to be known before training, such as vocabularies.

        This one pass is also the one that holds every example against the rules.

        Args:
            config: The settings.
            train: The examples to learn from.
            folder: An existing folder for what is learnt: the assets.

        Raises:
            UserError: The examples are not ones to learn from.
        """
        record = json.dumps(dataclasses.asdict(config), indent=2)
        (folder / "config.json").write_text(record, encoding="utf-8")
        cls._learn_assets(config, train, folder)
        return cls(config, folder)

    @classmethod
    def restore(cls, folder: Path) -> Self:
        """Returns the task whose assets are in `folder`, such as `assets/` of a SavedModel."""
        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return cls(from_record(cls.Config, record), folder)

    @classmethod
    @abc.abstractmethod
    def _learn_assets(cls, config: Config, train: Stream, folder: Path) -> None:
        """Writes into `folder` what the task has to know of the train part."""

    @abc.abstractmethod
    def rejection_reason(self, example: Example) -> str:
        """Why this task could never answer an example as it wants to be; "" if it can."""

    @classmethod
    def row(cls, values: Mapping) -> dict:
        """What asks for an example with these values: of every signature each input, by name."""
        return {name: values[name] for name in cls.request}

    @abc.abstractmethod
    def encode(self, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Encodes a batch of examples with the ops that the served graph has.

        Gives tensors with B rows, ragged in time; with more than B where examples
        are read in pieces, and fewer where some are unfit to be learnt from. The one
        named `length` says how many steps each row takes, (B,) int32.

        Args:
            values: Those of the examples by key: strings (B,), or (B, T) ragged
                where the values are tuples.
        """

    def skip_reason(self) -> str:
        """Which examples `encode` gives no row of, in words; most tasks give one of each."""
        return "none"

    @abc.abstractmethod
    def tensors(self, encoded: dict[str, tf.Tensor], *, learning: bool) -> tuple:
        """Turns encoded examples, now padded with 0, into `(x, y)` or `(x, y, weight)`.

        Args:
            encoded: What `encode` gave.
            learning: Whether they are of the train part, to be learnt from.
        """

    @abc.abstractmethod
    def build(self, purpose: Purpose = "training") -> keras.Model:
        """Returns the network, not yet trained; its weights have the same paths for any purpose.

        Args:
            purpose: "training", with the inputs that `tensors` gives; "reuse",
                as other programs load it, in float32; or "serving", in float32
                too, by an implementation that every device has, with nothing
                that only trains.
        """

    def adapt(self, model: keras.Model, batches: Iterable[dict[str, np.ndarray]]) -> None:
        """Gives a new model what is counted rather than trained; most have nothing of it.

        Args:
            model: The network for training.
            batches: The train part, as `encode` gave it, padded with 0.
        """

    @abc.abstractmethod
    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        """Gives a model its loss and what is watched while it trains."""

    @abc.abstractmethod
    def signatures(self, model: keras.Model) -> dict[str, Callable]:
        """Returns the signatures of the SavedModel by name, each a `tf.function`.

        They take and give what a client has, such as text, and never ids.
        """

    @abc.abstractmethod
    def judge(self, answered: Iterable[tuple[Example, dict]]) -> Evaluation:
        """Judges what the signature `judged` answered to each example."""

    def validation_sampler(
        self, model: keras.Model, valid: Stream
    ) -> Callable[[], ValidationSample] | None:
        """What is to be asked of a model after each epoch, beside its loss; mostly nothing.

        Args:
            model: The network for training.
            valid: The examples of the valid part.
        """
        return None

    def illustrate(
        self, ask: Callable[..., list[dict]], examples: Stream
    ) -> Sequence[Alignment | AttentionMaps]:
        """What the report shows of single answers; mostly nothing.

        Args:
            ask: `app.serving.session.SavedModelSession.predict`.
            examples: The examples of the test part.
        """
        return ()

    @abc.abstractmethod
    def inside(
        self, model: keras.Model, ask: Callable[..., list[dict]], row: dict, at: str = ""
    ) -> Inspection:
        """What goes on in the network as it answers one request.

        Args:
            model: The network for reuse, as `models.load` gives it.
            ask: `app.serving.session.SavedModelSession.predict`, which has the answer.
            row: What `RequestFormat.requests` read.
            at: The token to be looked at closely; "" takes the most salient.

        Raises:
            UserError: There is nothing to be read, or `at` is none of the tokens.
        """

    @abc.abstractmethod
    def limits(self) -> Sequence[str]:
        """What a user should know of how far it reads and what its numbers are, in sentences."""
