"""Models of the page: published versions in a folder, or models on a server."""

import abc
import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

import models
import tasks
from app.serving import client, session, versions
from app.serving.demo.curl import DEFAULT_URL
from models.cells import specs
from models.cells.printing import equations, recurrent_form
from models.networks import ensemble
from tasks.core.errors import UserError
from tasks.core.inspection import Inspection

_PATIENCE = 30.0  # seconds that a request waits for the requests before it
_EXAMPLES = 3  # rows of a task's sample that the page offers
_EXAMPLE_BYTES = 2**18  # of an image among them


class BusyError(Exception):
    """Too many requests wait for a model."""


class DemoModel(abc.ABC):
    """A model of the page.

    Attributes:
        name: Name of the model.
        task: Name of its task; None if it is not known.
        version: Number of the version; None for the latest on a server.
        url: URL of the server that the curl lines name.
    """

    def __init__(self, name: str, task: str | None, version: int | None, url: str):
        self.name, self.version, self.url = name, version, url
        self.task = task if task in tasks.names() else None
        self._lock = threading.Lock()

    @property
    @abc.abstractmethod
    def signatures(self) -> Mapping[str, SignatureDef]:
        """The signatures by name."""

    @property
    def cell(self) -> "CellDescription | None":
        """The cell of the network; None if it is not known."""
        return None

    def predict(self, rows: Sequence[Mapping], signature: str) -> list[dict]:
        """Predicts rows as one batch; see `tasks.core.predictor.Predictor.predict`."""
        with self._turn():
            return self._predictor().predict(rows, signature)

    def inspect(self, row: Mapping) -> Inspection:
        """Inspects how the network computes the response to a row of the default signature.

        Raises:
            UserError: The model is on a server, or its task is not known.
        """
        raise UserError(f"{self.name} cannot be inspected: its network is not on this machine.")

    @property
    def may_inspect(self) -> bool:
        """Whether the gates along a request can be shown."""
        return False

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits until no other request uses the model.

        Raises:
            BusyError: That takes too long.
        """
        if not self._lock.acquire(timeout=_PATIENCE):
            raise BusyError(f"{self.name} is busy; try again later.")
        try:
            yield
        finally:
            self._lock.release()

    @abc.abstractmethod
    def _predictor(self):
        """Returns the `tasks.core.predictor.Predictor`; the caller has its turn."""


@dataclasses.dataclass(frozen=True)
class CellDescription:
    """A cell for people.

    Attributes:
        name: Its name, or its spec in JSON.
        equations: Lines that define a step.
        note: A sentence on the form of the recurrent matrices; "" if there is none.
    """

    name: str
    equations: Sequence[str]
    note: str


class LocalModel(DemoModel):
    """Published version in a folder, which is loaded when it is first used."""

    def __init__(self, folder: Path):
        name = folder.parent.name
        task = versions.record(folder).get("task", name)
        super().__init__(name, task, int(folder.name), DEFAULT_URL)
        self._folder = folder
        self._signatures = session.signatures(folder)
        self._session: session.SavedModelSession | None = None
        self._inspector = None
        self._notes: tuple[str, ...] = ()

    @property
    def signatures(self) -> Mapping[str, SignatureDef]:
        return self._signatures

    @property
    def may_inspect(self) -> bool:
        extra = self._folder / "assets.extra"
        return self.task is not None and (extra / "model.keras").exists()

    @property
    def cell(self) -> CellDescription | None:
        try:
            text = (self._folder / "assets" / "config.json").read_text(encoding="utf-8")
            name = json.loads(text)["cell"]
            spec = specs.find(name)
        except (OSError, ValueError, LookupError, TypeError):
            return None  # a model of another program
        return CellDescription(str(name), equations(spec), recurrent_form(spec))

    def inspect(self, row: Mapping) -> Inspection:
        if not self.may_inspect:
            return super().inspect(row)
        with self._turn():
            if self._inspector is None:
                self._check_folder()
                self._load_inspector()
            inspection = self._inspector.inspect(dict(row))
        return dataclasses.replace(inspection, notes=(*self._notes, *inspection.notes))

    def _load_inspector(self) -> None:
        task = tasks.find(self.task).restore(self._folder / "assets")
        network, *others = ensemble.members(models.load(self._folder))
        if others:
            self._notes = (f"The model averages {1 + len(others)} networks; the first is shown.",)
        self._inspector = task.Inspector(task, network, self._predictor())

    def _predictor(self) -> session.SavedModelSession:
        if self._session is None:
            self._check_folder()
            self._session = session.SavedModelSession(self._folder)
        return self._session

    def _check_folder(self) -> None:
        """Checks that the version has not been removed since the page was opened.

        Raises:
            UserError: It has.
        """
        if not self._folder.is_dir():
            title = versions.title(self._folder)
            raise UserError(f"{title} has been removed; start app.demo again.")


class ServedModel(DemoModel):
    """Model on a server."""

    def __init__(self, url: str, name: str, timeout: float):
        web = url if url.startswith("http") else DEFAULT_URL
        super().__init__(name, name, None, web)
        self._client = client.connect(url, name, timeout=timeout, retries=1)

    @property
    def signatures(self) -> Mapping[str, SignatureDef]:
        return self._client.signatures

    def _predictor(self) -> client.Client:
        return self._client


def local(saved_models: Path, names: Sequence[str]) -> list[DemoModel]:
    """Returns the latest versions in a folder.

    Args:
        saved_models: Folder of the published models.
        names: Names of models; all if there are none.

    Raises:
        UserError: There is no such model, or a version is damaged.
    """
    names = names or list(versions.published(saved_models))
    return [LocalModel(versions.find(saved_models, name)) for name in dict.fromkeys(names)]


def served(url: str, names: Sequence[str], timeout: float) -> list[DemoModel]:
    """Returns models on a server.

    A server has no list of its models: without names, those of the tasks that it has.

    Args:
        url: URL of the server.
        names: Names of models.
        timeout: Time limit of a request in seconds.

    Raises:
        UserError: The server does not respond, or has none of them.
    """
    models_on_server, errors = [], []
    for name in dict.fromkeys(names or tasks.names()):
        model = ServedModel(url, name, timeout)
        try:
            assert model.signatures is not None
        except UserError as error:
            if names:
                raise
            errors.append(str(error))
        else:
            models_on_server.append(model)
    if not models_on_server:
        raise UserError(f"no model of {', '.join(tasks.names())}: {errors[0]}")
    return models_on_server


def examples(model: DemoModel) -> list[dict]:
    """Returns a few requests to a model from the sample of its task; none for other models."""
    if model.task is None or "serving_default" not in model.signatures:
        return []
    signature, rows = model.signatures["serving_default"], []
    inputs = sorted(signature.inputs)
    options = {"trees": True} if "tree" in signature.outputs else {}
    for example in tasks.find(model.task).Corpus(**options).open().test:
        values = dict(example.values)
        if "tokens" in values:
            values["text"] = " ".join(values["tokens"])
        row = {name: values.get(name) for name in inputs}
        if all(isinstance(value, str | bytes) for value in row.values()) and all(
            len(value) <= _EXAMPLE_BYTES for value in row.values()
        ):
            rows.append(row)
        if len(rows) == _EXAMPLES:
            break
    return rows
