"""Ensembles and their distillation: equal to networks trained alone, resumable, served together."""

import dataclasses
import hashlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
import tasks
from app import cli, look, train
from app.serving import export
from app.serving.session import SavedModelSession
from app.training import ensembles, loop, pipeline, run_state
from app.training.ensembles import Gain
from models.networks.ensemble import members
from models.text.subwords import END, START
from models.text.words import PADDING
from tasks.core.settings import affecting
from tasks.corpora.labelled_text import LabelledTexts
from tests.conftest import SMALL, labelled, where
from tests.support import untrained
from tests.support.cells import slow_except

TEXTS = ["a warm film", "dull", "", "a cold and funny film number 7 test"]
READER = ["--no-calibrate", "--linear-path", "0"]  # whose weights alone decide
QUICK = ("sentiment",)  # the other variants are slow tests
VARIANTS = [*((task, {}) for task in tasks.names()), ("tagging", {"crf": True})]


def trained(corpus, folder, *more):
    flags = [*SMALL, "--epochs", "2", "--learning-rate", "0.03", *where(folder), *more]
    return train.main(["sentiment", "--data", str(corpus), *flags])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return labelled(tmp_path_factory.mktemp("ensembles") / "corpus")


@pytest.fixture(scope="module")
def together(data, tmp_path_factory):
    """A version with the networks of two seeds, not calibrated."""
    return trained(data, tmp_path_factory.mktemp("together"), "--ensemble", "2", *READER)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """Versions of the same two seeds."""
    folder = tmp_path_factory.mktemp("alone")
    return [trained(data, folder, "--seed", str(seed), *READER) for seed in range(2)]


def probabilities(version):
    return SavedModelSession(version).predict_columns({"text": TEXTS})["probabilities"]


def assert_same_weights(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_an_ensemble_has_the_networks_of_its_seeds_and_serves_their_mean(together, alone):
    for network, version in zip(members(models.load(together)), alone, strict=True):
        assert_same_weights(network, models.load(version))
    each = [probabilities(version) for version in alone]
    assert np.abs(each[0] - each[1]).max() > 1e-3
    np.testing.assert_allclose(probabilities(together), np.mean(each, axis=0), atol=1e-5)
    record = json.loads((together / "assets.extra/run.json").read_text())
    assert [network["seed"] for network in record["networks"]] == [0, 1]
    assert all(1 <= n["best_epoch"] <= n["epochs"] == 2 for n in record["networks"])
    single = json.loads((alone[0] / "assets.extra/run.json").read_text())
    assert record["parameters"] == pytest.approx(2 * single["parameters"], abs=4)
    assert record["distillation"] == single["networks"] == []
    runs = run_folders(together.parents[2])[:2]
    seconds = [run_state.Run(path).progress().seconds for path in runs]
    assert record["seconds"]["fit"] == pytest.approx(sum(seconds), abs=0.01)


@pytest.mark.slow
def test_an_ensemble_killed_in_its_second_network_resumes_there(
    data, together, tmp_path, monkeypatch, capsys
):
    save = run_state.Run.save

    def save_and_die(self, progress, groups):
        save(self, progress, groups)
        if self.folder.name == "network-2":
            raise KeyboardInterrupt

    flags = ["--ensemble", "2", *READER]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_state.Run, "save", save_and_die)
        trained(data, tmp_path, *flags)
    capsys.readouterr()
    resumed = trained(data, tmp_path, *flags)
    assert capsys.readouterr().out.count("Epoch ") == 1
    assert_same_weights(models.load(resumed), models.load(together))
    again = trained(data, tmp_path, *flags)
    assert capsys.readouterr().out.count("Epoch ") == 4  # as for any run that has finished
    assert again.name == "2"


@pytest.mark.slow
def test_an_ensemble_trains_only_the_networks_that_are_not_trained(
    data, together, tmp_path, capsys
):
    def train(*more):
        capsys.readouterr()
        version = trained(data, tmp_path, *READER, *more)
        return version, capsys.readouterr().out

    train()
    ensemble, output = train("--ensemble", "2")
    assert "1 of 2 networks are trained" in output and output.count("Epoch ") == 2
    assert_same_weights(models.load(ensemble), models.load(together))
    _, output = train("--ensemble", "2", "--distill")
    assert "2 of 3 networks are trained" in output and output.count("Epoch ") == 2
    run, second, distilled = run_folders(tmp_path)
    states = [(folder / "state.npz").read_bytes() for folder in (second, distilled)]
    version, output = train()
    assert "finished as version 1: training again from the start" in output
    assert output.count("Epoch ") == 2 and version.name == "4"
    assert [(folder / "state.npz").read_bytes() for folder in (second, distilled)] == states
    assert [item["version"] for item in run_state.read_progress(run).published] == [4]
    version, output = train("--ensemble", "2")  # of which no version is on record any more
    assert "published with other serving settings or in another ensemble" in output
    assert_same_weights(models.load(version), models.load(together))


def saved(run, epoch, wait, version=None):
    published = [] if version is None else [{"version": version, "serving": SERVING}]
    progress = run_state.Progress(epoch=epoch, wait=wait, published=published)
    run.save(progress, {"model": [np.zeros(1)]})


SETTINGS = tasks.find("sentiment").Config(ensemble=2, distill=True, epochs=10, patience=3)
SERVING = affecting(SETTINGS, "ensemble", "serving")


@pytest.fixture
def finished(tmp_path):
    """A run whose first network was stopped by its patience, and whose second had all epochs."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/config.json").write_text("{}")

    def opened(config):
        return pipeline._open_run(tmp_path / "runs", "sentiment", config, "", tmp_path / "assets")

    run = opened(SETTINGS)
    saved(run, epoch=6, wait=3, version=1)
    for name, epoch in (("network-2", 10), ("network-3", 10), ("distilled-2", 8)):
        inner = run.inner(name)
        saved(inner, epoch, wait=0 if name.startswith("network") else 3)
        inner.close()
    run.close()
    return opened


def states(run):
    return {path.parent.name for path in run.folder.glob("*/state.npz")}


def test_more_epochs_train_the_networks_of_a_finished_ensemble_on(finished, capsys):
    run = finished(dataclasses.replace(SETTINGS, epochs=30))
    run.close()
    assert "2 of 3 networks are trained" in capsys.readouterr().out
    assert states(run) == {"network-2", "network-3", "distilled-2"} and run.progress().epoch == 6
    run = finished(SETTINGS)
    assert "training again from the start" in capsys.readouterr().out
    assert states(run) == {"network-3"} and run.progress().epoch == 0
    run.close()


@pytest.mark.parametrize(
    ("settings", "stays"),
    [({}, True), ({"epochs": 30}, False), ({"ensemble": 4}, True), ({"patience": 5}, False)],
)
def test_a_network_is_distilled_again_if_its_teachers_are_trained_on(finished, settings, stays):
    config = dataclasses.replace(SETTINGS, **settings)
    run = finished(dataclasses.replace(config, distill=False))
    names = run_state.network_folders(dataclasses.asdict(config))[: config.ensemble]
    ensembles._reset_distilled(run, names, config)
    run.close()
    assert ("distilled-2" in states(run)) == stays


def test_runs_of_single_networks_have_the_identity_that_they_had_before(tmp_path):
    config = tasks.find("sentiment").Config()
    recorded = dataclasses.asdict(config)
    before = {  # `ensemble` and `distill` distinguished runs
        field.name: recorded[field.name]
        for field in dataclasses.fields(config)
        if field.metadata["affects"] in ("encoding", "training", "ensemble")
    }
    content = json.dumps([5, "sentiment", before, "data", {}], sort_keys=True)
    expected = hashlib.sha256(content.encode()).hexdigest()[:16]
    assert run_state.identity("sentiment", config, "data", tmp_path) == expected
    old = run_state.Progress(published=[{"version": 3, "serving": affecting(config, "serving")}])
    assert old.version_of(config) == 3
    assert old.version_of(dataclasses.replace(config, ensemble=2)) is None


def test_the_served_mean_is_calibrated_and_has_a_threshold(data, tmp_path):
    version = trained(data, tmp_path, "--ensemble", "2", "--coverage", "0.5", "--linear-path", "0")
    model = models.load(version)
    fitted = json.loads((version / "assets.extra/run.json").read_text())["fitted_on_valid"]
    assert fitted["temperature"] == pytest.approx(
        model.get_layer("calibration").temperature.numpy()
    )
    assert fitted["temperature"] != 1
    assert fitted["threshold"] == pytest.approx(model.get_layer("confidence").threshold.numpy())
    response = SavedModelSession(version).predict_columns({"text": TEXTS})
    confident = response["probability"] >= np.float32(fitted["threshold"])
    assert response["confident"].tolist() == confident.tolist()


def test_a_distilled_network_is_served_instead_of_the_ensemble(data, alone, tmp_path, capsys):
    version = trained(data, tmp_path, "--ensemble", "2", "--distill", *READER)
    model = models.load(version)
    assert members(model) == [model]
    kernels = [models.load(v).get_layer("logits").kernel.numpy() for v in (version, alone[0])]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-4
    record = json.loads((version / "assets.extra/run.json").read_text())
    gains = {gain["score"]: gain for gain in record["distillation"]}
    assert set(gains) == {"loss", "accuracy"}
    progress = [run_state.Run(path).progress() for path in run_folders(tmp_path)]
    seconds = sum(each.seconds for each in progress)
    assert record["seconds"]["fit"] == pytest.approx(seconds, abs=0.01)
    best = [p.history[p.best_epoch - 1]["val_accuracy"] for p in progress]
    assert gains["accuracy"]["distilled"] == pytest.approx(best[2], abs=1e-5)
    assert gains["accuracy"]["single"] == pytest.approx(np.mean(best[:2]), abs=1e-5)
    assert "accuracy on the validation part: single networks" in capsys.readouterr().out


def run_folders(folder):
    (run,) = (path for path in folder.glob("runs/sentiment/*") if path.is_dir())
    return run, run / "network-2", run / "distilled-2"


def test_a_distilled_network_learns_the_probabilities_of_its_teacher(data, tmp_path):
    settings = {"units": 8, "embedding": 8, "dropout": 0.0, "learning_rate": 0.03, "epochs": 8}
    config = tasks.find("sentiment").Config(**settings, linear_path=0, evidence=0, patience=8)
    prepared = pipeline.read(
        "sentiment", config, LabelledTexts(str(data)), pipeline.TrainOptions(runs=tmp_path)
    )
    encoded = pipeline.encode(prepared)
    ids = keras.Input((None,), dtype="int32")
    logits = keras.layers.Embedding(len(prepared.task.words), 2, embeddings_initializer="zeros")(
        ids
    )[:, 0] + np.log([[0.7, 0.3]])  # whatever the text
    teacher = keras.Model(ids, logits)
    _, progress = loop.fit(
        prepared.task, encoded.train, encoded.valid, prepared.run, prepared.splits, teacher=teacher
    )
    prepared.run.close()
    entropy = -(0.7 * np.log(0.7) + 0.3 * np.log(0.3))
    assert progress.history[0]["loss"] > entropy + 0.03
    assert progress.history[-1]["loss"] == pytest.approx(entropy, abs=0.02)


def test_distillation_needs_an_ensemble(capsys):
    with pytest.raises(SystemExit):
        cli.run(lambda: train.main(["sentiment", "--distill"]))
    assert "--distill needs the predictions of an ensemble" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("distilled", "words"),
    [(0.95, "keeps 50 % of the gain"), (0.8, "keeps none of the gain")],
)
def test_the_share_of_the_gain_is_described(distilled, words):
    assert words in Gain("accuracy", 0.9, 1.0, distilled).sentence()
    for error in ("loss", "mean_absolute_error"):
        assert words in Gain(error, 0.1, 0.0, 1 - distilled).sentence()
    assert "has gained nothing" in Gain("accuracy", 0.9, 0.9, distilled).sentence()


def test_an_inspection_names_the_network_that_it_shows(together, tmp_path):
    saved_models = ["--saved-models", str(together.parent.parent)]
    folder = look.main(["sentiment", "a good film", *saved_models, "--out", str(tmp_path / "x")])
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "The model averages 2 networks; the first is shown." in page


@pytest.mark.slow
@pytest.mark.parametrize(("target", "key"), [("labels", "probabilities"), ("number", "value")])
def test_labels_and_numbers_are_averaged_and_distilled(target, key, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    values = {"labels": ["cold|dull", "cold", "", "dull"], "number": ["1.5", "3", "4.25", "-2"]}
    words = ["cold dull", "cold bright", "warm bright", "warm dull"]
    for part, count in (("train", 40), ("valid", 12), ("test", 12)):
        rows = [f"{words[n % 4]} day {n}\t{values[target][n % 4]}\n" for n in range(count)]
        (folder / f"{part}.tsv").write_text("".join(rows), encoding="utf-8")
    flags = ["--target", target, *READER, "--ensemble", "2"]
    if target == "number":
        flags.remove("--no-calibrate")
    ensemble = trained(folder, tmp_path, *flags)
    alone = [trained(folder, tmp_path, *flags[:-2], "--seed", str(seed)) for seed in range(2)]
    outputs = [
        SavedModelSession(version).predict_columns({"text": TEXTS})[key]
        for version in (ensemble, *alone)
    ]
    assert np.abs(outputs[1] - outputs[2]).max() > 1e-4
    np.testing.assert_allclose(outputs[0], np.mean(outputs[1:], axis=0), atol=1e-5)
    distilled = trained(folder, tmp_path, *flags, "--distill")
    assert json.loads((distilled / "assets.extra/run.json").read_text())["distillation"]


# --- Every task --------------------------------------------------------------


@pytest.fixture(
    scope="module",
    params=slow_except([variant for variant in VARIANTS if variant[0] in QUICK], VARIANTS),
    ids=lambda variant: "-".join([variant[0], *variant[1]]),
)
def built(request, tmp_path_factory):
    """A task, two of its networks, and the requests of some examples."""
    name, settings = request.param
    task_class = tasks.find(name)
    sizes = {key: size for key, size in untrained.SIZES.items() if hasattr(task_class.Config, key)}
    config = task_class.Config(**untrained.SMALL, **sizes, **settings)
    task = task_class.learn(config, untrained.examples(name), tmp_path_factory.mktemp(name))
    networks = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        networks.append(task.build("serving"))
        if settings.get("crf"):
            crf = networks[-1].get_layer("crf")
            shapes = [weight.shape for weight in crf.get_weights()]
            crf.set_weights([np.random.default_rng(seed).normal(size=s) for s in shapes])
    rows = [task.row(example.values) for example in untrained.examples(name, 3)]
    requests = [row.get("text", row.get("image_bytes")) for row in rows]
    return task, networks, tf.constant(requests)


def serve(task, model, requests):
    outputs = task.signatures(model)["serving_default"](requests)
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def test_an_exported_ensemble_of_equal_networks_answers_as_one_of_them(built, tmp_path):
    task, (network, _), requests = built
    twin = task.build("serving")
    twin.set_weights(network.get_weights())
    expected = serve(task, network, requests)
    session = SavedModelSession(export.draft(task, task.combine([network, twin]), tmp_path / "x"))
    (name,) = session.signatures["serving_default"].inputs
    outputs = session.predict_columns({name: requests.numpy()})
    assert outputs.keys() == expected.keys()
    for name, values in outputs.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, expected[name], atol=1e-5, err_msg=name)
        else:
            assert values.tolist() == expected[name].tolist(), name


def test_an_ensemble_predicts_by_the_mean_of_its_networks(built):
    task, networks, requests = built
    if hasattr(task, "source_search"):
        _check_search(task, networks, requests)
        return
    x = {"ids": np.array([[2, 3, 1, 0], [4, 2, 0, 0]], "int32")}
    if not isinstance(networks[0].input, dict):
        x = x["ids"]
    elif "characters" in networks[0].input:
        x["characters"] = np.random.default_rng(1).integers(1, 9, (2, 4, 5)).astype("int32")
    outputs = [network(x).numpy() for network in networks]
    logits = task.combine(networks)(x).numpy()
    if getattr(task.config, "crf", False):
        scores = [out - np.log(np.exp(out).sum(-1, keepdims=True)) for out in outputs]
        np.testing.assert_allclose(logits, np.mean(scores, axis=0), atol=1e-5)
        return
    each = [np.exp(out) / np.exp(out).sum(-1, keepdims=True) for out in outputs]
    expected = np.mean(each, axis=0)
    powers = np.exp(logits)
    np.testing.assert_allclose(powers / powers.sum(-1, keepdims=True), expected, atol=1e-6)


def _check_search(task, networks, requests):
    """Compares the log-probability of the best sentence with that of teacher forcing."""
    hypotheses, _, _ = task.source_search(task.combine(networks))(requests)
    tokens, lengths = hypotheses.tokens[:, 0].numpy(), hypotheses.lengths[:, 0].numpy()
    assert lengths.max() > 1
    before = tf.pad(tokens, [[0, 0], [1, 0]], constant_values=START)
    prepared, _ = task.prepare_source(requests)
    logs = []
    for network in networks:
        if "image" in network.input:
            logits = network({"image": prepared, "before": before[:, None]})[:, 0]
        else:
            logits = network({"source": prepared, "before": before})
        logs.append(tf.nn.log_softmax(logits).numpy())
    mean = np.mean(logs, axis=0)
    mean[..., [PADDING, START]] = -np.inf
    mean -= np.log(np.exp(mean).sum(-1, keepdims=True))
    for row, length in enumerate(lengths):
        following = [*tokens[row, :length], END]
        expected = mean[row, np.arange(length + 1), following].sum()
        assert float(hypotheses.log_probabilities[row, 0]) == pytest.approx(expected, abs=1e-4)
