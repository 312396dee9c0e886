"""Training of an ensemble: networks with consecutive seeds, and one distilled from them.

The first network has the run that it has alone, and the others have runs inside it, each with the
state that it would have if it were trained alone with its seed. So an ensemble resumes like a
single network, a single network can become the first of an ensemble, and an ensemble can grow.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from app.core.console import say
from app.training import distribution, loop, run_state
from app.training.batches import Batches
from app.training.continuation import InitialWeights
from app.training.example_cache import EncodedExamples
from app.training.run_state import Progress, Run
from tasks.core.evaluation import lower_is_better
from tasks.core.examples import Splits
from tasks.core.task import Config, Task


@dataclasses.dataclass(frozen=True)
class Network:
    """Training of one network of an ensemble, as recorded in `run.json`."""

    seed: int
    epochs: int
    best_epoch: int


@dataclasses.dataclass(frozen=True)
class Gain:
    """Effect of an ensemble and of its distillation on one score of the validation part.

    Attributes:
        score: Name of the score, such as "accuracy" or "loss".
        single: Mean of the networks of the ensemble.
        ensemble: Score of the ensemble.
        distilled: Score of the network that was trained on the predictions of the ensemble.
    """

    score: str
    single: float
    ensemble: float
    distilled: float

    def sentence(self) -> str:
        """Returns the scores, and which share of the gain the distilled network keeps."""
        change = self.ensemble - self.single
        has_gained = change < 0 if lower_is_better(self.score) else change > 0
        effect = "the ensemble has gained nothing"
        if has_gained:
            share = round(100 * (self.distilled - self.single) / change)
            amount = f"{share} %" if share > 0 else "none"
            effect = f"the distilled network keeps {amount} of the gain"
        return (
            f"{self.score} on the validation part: single networks {self.single:.4f}, ensemble "
            f"{self.ensemble:.4f}, distilled {self.distilled:.4f}: {effect}"
        )


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained model, and how it was trained.

    Attributes:
        model: The model with the weights of its best epoch; None in a rehearsal.
        progress: Progress of its run: of an ensemble, that of its first network.
        networks: The networks of an ensemble; none for a single network.
        gains: Effects of a distillation on the scores of the validation part.
        seconds: Time that the training of all networks took.
    """

    model: keras.Model | None
    progress: Progress
    networks: tuple[Network, ...] = ()
    gains: tuple[Gain, ...] = ()
    seconds: float = 0.0


def fit(
    task: Task,
    train: EncodedExamples,
    valid: EncodedExamples,
    run: Run,
    splits: Splits,
    strategy: tf.distribute.Strategy,
    start: InitialWeights | None = None,
    recurrent: loop.RecurrentOptions = loop.BY_RULE,
) -> Fitted:
    """Trains the networks that the config asks for, from the state of the run.

    Args:
        task: The task, with its config.
        train: Encoded examples of the training part.
        valid: Encoded examples of the validation part.
        run: The run. The networks of an ensemble after the first have runs inside it.
        splits: The examples before encoding.
        strategy: Strategy from `distribution.strategy_of`.
        start: Weights that a new network starts from; None for those that its seed gives.
        recurrent: How recurrent layers run.
    """
    fit_network = functools.partial(
        loop.fit,
        train=train,
        valid=valid,
        splits=splits,
        strategy=strategy,
        start=start,
        recurrent=recurrent,
    )
    count, seed = task.config.ensemble, task.config.seed
    if count == 1:
        model, progress = fit_network(task, run=run)
        return Fitted(model, progress, seconds=progress.seconds)
    folders = run_state.network_folders(dataclasses.asdict(task.config))
    _reset_distilled(run, folders[:count], task.config)
    with contextlib.ExitStack() as stack:
        models, progresses = _fit_members(task, run, folders, strategy, fit_network, stack)
        networks = tuple(
            Network(seed + number, progress.epoch, progress.best_epoch)
            for number, progress in enumerate(progresses)
        )
        ensemble = task.combine(models)
        tokens = min(progress.tokens or task.config.batch_tokens for progress in progresses)
        batches = Batches(valid, tokens, buffer=task.config.buffer)
        task.fit_on_valid(ensemble, batches)
        seconds = sum(progress.seconds for progress in progresses)
        if not task.config.distill:
            return Fitted(ensemble, progresses[0], networks, seconds=seconds)
        say(f"training one network on the predictions of the {count}")
        own = _inner_run(run, folders[-1], strategy, stack)
        distilled, progress = fit_network(task, run=own, teacher=ensemble)
    scores = [
        loop.validate(task, model, batches, strategy) for model in [*models, ensemble, distilled]
    ]
    gains = _gains(scores[:count], scores[-2], scores[-1])
    say(*(gain.sentence() for gain in gains))
    return Fitted(distilled, progress, networks, gains, seconds + progress.seconds)


def _reset_distilled(run: Run, members: Sequence[str], config: Config) -> None:
    """Removes the states of networks that were distilled from members that are to be trained on.

    Args:
        run: The run.
        members: Folder of each member in that of the run.
        config: Settings of the task, which decide when training ends.
    """
    ended = [run_state.read_progress(run.folder / name).ended(config) for name in members]
    if all(ended):
        return
    smallest = ended.index(False) + 1  # of the ensembles that have the first such member
    stale = [f for f in run.folder.glob("distilled-*") if int(f.name.split("-")[1]) >= smallest]
    run.reset(folder.name for folder in stale)


def _fit_members(
    task: Task,
    run: Run,
    folders: Sequence[str],
    strategy: tf.distribute.Strategy,
    fit_network: Callable[..., tuple[keras.Model, Progress]],
    stack: contextlib.ExitStack,
) -> tuple[list[keras.Model], list[Progress]]:
    """Trains the networks of an ensemble one after another.

    Args:
        task: The task, with its config.
        run: The run of the first network, which contains those of the others.
        folders: Folder of each network in that of the run.
        strategy: Strategy from `distribution.strategy_of`.
        fit_network: `loop.fit` for a task, a run and the number of a network.
        stack: What closes the other runs.
    """
    count, seed = task.config.ensemble, task.config.seed
    models, progresses = [], []
    for number in range(count):
        say(f"network {number + 1} of {count}, --seed {seed + number}")
        own = run
        if number:
            own = _inner_run(run, folders[number], strategy, stack)
        member = _with_seed(task, seed + number, run)
        model, progress = fit_network(member, run=own, number=number)
        models.append(model)
        progresses.append(progress)
    return models, progresses


def _inner_run(
    run: Run, name: str, strategy: tf.distribute.Strategy, stack: contextlib.ExitStack
) -> Run:
    """Opens a run inside another, to be closed by the stack."""
    inner = run.inner(name)
    stack.callback(inner.close)
    distribution.broadcast_state(inner, strategy)
    return inner


def _with_seed(task: Task, seed: int, run: Run) -> Task:
    """Returns the task with another seed, as if it were trained alone."""
    return type(task)(dataclasses.replace(task.config, seed=seed), run.assets)


def _gains(
    singles: Sequence[dict[str, float]], ensemble: dict[str, float], distilled: dict[str, float]
) -> tuple[Gain, ...]:
    return tuple(
        Gain(name, float(np.mean([s[name] for s in singles])), ensemble[name], distilled[name])
        for name in ensemble
    )
