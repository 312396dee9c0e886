"""Captioning from images to what is served: signatures, search, judging, asking."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import sacrebleu
import tensorflow as tf
from keras.src.legacy.saving import legacy_h5_format
from PIL import Image

import models
import tasks
from app import cli, evaluate, predict, train
from app.report import plots
from app.serving.session import SavedModelSession
from models.beam_search import IMPOSSIBLE
from tasks.core.evaluation import AttentionMaps
from tasks.core.examples import Example
from tests.conftest import signatures, where

ROOT = Path(__file__).parents[2]
SMALL = ["--units", "24", "--embedding", "16", "--filters", "4", "--height", "16", "--width", "24"]
COLOURS = {"red": (230, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 240)}


def picture(colour, side, size=20):
    """A coloured half of a dark image."""
    pixels = np.full((size, size, 3), 20, np.uint8)
    half = slice(0, size // 2) if side == "left" else slice(size // 2, size)
    pixels[:, half] = COLOURS[colour]
    return Image.fromarray(pixels)


def written(image, kind="png"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


BAD = [
    b"",
    b"no image",
    written(picture("red", "left"))[:40],
    written(picture("red", "left"), "jpeg")[:-9],
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Images of one colour on one side, some with two captions, some without a like."""
    folder, random = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    for part, count in (("train", 240), ("valid", 24), ("test", 24)):
        lines = []
        for number in range(count):
            colour, side = random.choice([*COLOURS]), random.choice(["left", "right"])
            kind = random.choice(["png", "jpeg"])
            name = f"{part}{number}.{kind}"
            picture(colour, side, int(random.integers(16, 40))).save(folder / name, quality=95)
            lines.append(f"{name}\t{colour} on the {side}\n")
            if number % 2:
                lines.append(f"{name}\t{side} is {colour}\n")
        (folder / f"captions_{part}.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


def trained(corpus, folder, *more):
    argv = ["captioning", "--data", str(corpus), *SMALL, "--vocabulary", "300"]
    return train.main([*argv, "--epochs", "1", "--ema-momentum", "0", *where(folder), *more])


@pytest.fixture(scope="module")
def version(corpus, tmp_path_factory):
    more = [
        "--epochs",
        "25",
        "--patience",
        "25",
        "--learning-rate",
        "0.01",
        "--batch-tokens",
        "256",
        "--n-best",
        "3",
    ]
    return trained(corpus, tmp_path_factory.mktemp("captioning"), *more)


@pytest.fixture(scope="module")
def served(version):
    return SavedModelSession(version)


def test_the_signatures_are_what_clients_were_promised(version):
    told = signatures(version)
    asked = {"image_bytes": ("string", [-1])}
    assert told == {
        "serving_default": (
            asked,
            {
                "caption": ("string", [-1]),
                "log_probability": ("float32", [-1]),
                "valid": ("bool", [-1]),
            },
        ),
        "n_best": (
            asked,
            {
                "captions": ("string", [-1, 3]),
                "log_probabilities": ("float32", [-1, 3]),
                "valid": ("bool", [-1]),
            },
        ),
        "attend": (
            asked,
            {
                "caption": ("string", [-1]),
                "tokens": ("string", [-1, -1]),
                "attention": ("float32", [-1, -1, 2, 3]),
                "lengths": ("int32", [-1]),
                "valid": ("bool", [-1]),
            },
        ),
    }


def test_it_learns_to_say_what_it_sees(served, version):
    scores = json.loads((version / "assets.extra/run.json").read_text())["scores"]
    assert list(scores) == ["exact", "bleu"] and scores["exact"] > 0.9
    for colour in COLOURS:
        for side in ("left", "right"):
            given = written(picture(colour, side, 31), "jpeg")
            (caption,) = served.predict_columns({"image_bytes": [given]})["caption"]
            assert colour.encode() in caption and side.encode() in caption


def test_what_is_no_image_harms_no_neighbour(served):
    good = written(picture("green", "right"))
    (alone,) = served.predict([{"image_bytes": good}])
    together = served.predict([{"image_bytes": each} for each in (good, *BAD, good)])
    for answer in (together[0], together[-1]):
        assert answer["valid"] and answer["caption"] == alone["caption"]
        np.testing.assert_allclose(answer["log_probability"], alone["log_probability"], atol=1e-4)
    for answer in together[1:-1]:
        assert not answer["valid"] and answer["caption"] == b""
        assert np.isfinite(answer["log_probability"])


def test_the_best_of_n_is_the_default(served):
    images = [written(picture(colour, "left")) for colour in COLOURS] + BAD[:1]
    best, many = (
        served.predict_columns({"image_bytes": images}),
        served.predict_columns({"image_bytes": images}, "n_best"),
    )
    np.testing.assert_array_equal(many["captions"][:, 0], best["caption"])
    np.testing.assert_array_equal(many["valid"], [True, True, True, False])
    logs = many["log_probabilities"]
    assert (np.diff(logs, axis=1) <= 1e-6).all()
    assert (logs[3, 1:] == np.float32(IMPOSSIBLE)).all() and set(many["captions"][3]) == {b""}


def test_each_word_has_a_map_of_what_it_looked_at(served):
    images = [written(picture("blue", "right")), BAD[0]]
    answer, best = (
        served.predict_columns({"image_bytes": images}, "attend"),
        served.predict_columns({"image_bytes": images}),
    )
    assert answer["caption"].tolist() == best["caption"].tolist()
    length = answer["lengths"][0]
    assert length > 0 and answer["lengths"][1] == 0
    np.testing.assert_allclose(answer["attention"][0, :length].sum(axis=(1, 2)), 1, atol=1e-4)
    assert not answer["attention"][1].any()
    pieces = b"".join(answer["tokens"][0, :length]).decode().replace("▁", " ")
    assert pieces == best["caption"][0].decode()


def test_an_empty_batch_has_an_empty_answer(served):
    for signature in served.signatures:
        for name, value in served.predict_columns({"image_bytes": []}, signature).items():
            assert value.shape[0] == 0, name


def test_it_answers_in_another_place_in_a_process_that_has_only_tensorflow(version, tmp_path):
    moved = shutil.copytree(version, tmp_path / "elsewhere" / "1")
    image = tmp_path / "image.png"
    image.write_bytes(written(picture("red", "left")))
    script = (
        "import sys, tensorflow as tf\n"
        "served = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "given = tf.constant([open(sys.argv[2], 'rb').read(), b'none'])\n"
        "answer = served(image_bytes=given)\n"
        "print(answer['caption'].numpy().tolist(), answer['valid'].numpy().tolist())\n"
    )
    argv = [sys.executable, "-c", script, str(moved), str(image)]
    answer = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert "red" in answer.stdout and "b''] [True, False]" in answer.stdout, answer.stderr


def test_the_scores_are_those_of_plain_counting_and_of_sacrebleu(
    served, loaded, version, corpus, capsys
):
    captions = {}
    for line in (corpus / "captions_test.tsv").read_text().splitlines():
        name, caption = line.split("\t")
        captions.setdefault(name, []).append(caption)
    images = [(corpus / name).read_bytes() for name in captions]
    given = [text.decode() for text in served.predict_columns({"image_bytes": images})["caption"]]
    exact = np.mean([text in captions[name] for text, name in zip(given, captions, strict=True)])
    first, second = (
        [some[at] if at < len(some) else "" for some in captions.values()] for at in (0, 1)
    )
    argv = ["captioning", "--data", str(corpus), "--saved-models", str(version.parent.parent)]
    scores = evaluate.main(argv)
    assert scores["exact"] == pytest.approx(exact)
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(given, [first, second]).score)
    assert "nrefs:var" in capsys.readouterr().out


def test_the_report_shows_images(version):
    page = (version / "assets.extra/report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1 + 3 and "What each word looked at" in page
    assert '<img src="data:image/png;base64,' in page
    assert '<img src="data:image/jpeg;base64,' in page


def test_the_keras_model_is_to_be_had(version):
    model = models.load(version)
    given = {"image": np.zeros((1, 16, 24, 3), "uint8"), "before": np.ones((1, 2, 3), "int32")}
    assert model(given).shape[:3] == (1, 2, 3)


def test_predict_captions_files_and_draws_one(version, loaded, corpus, tmp_path, capsys):
    asked = ["captioning", "--saved-models", str(version.parent.parent)]
    (tmp_path / "broken.png").write_bytes(BAD[2])
    image = min(corpus.glob("test*.png"))
    predict.main([*asked, str(image), str(tmp_path / "broken.png")])
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[0] in {*COLOURS, "left", "right"}
    assert (
        second == f"{tmp_path / 'broken.png'}: no image: neither JPEG nor PNG, broken or too large"
    )
    predict.main([*asked, str(tmp_path / "broken.png"), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["image"] == str(tmp_path / "broken.png") and answer["valid"] is False
    drawn = tmp_path / "drawn.png"
    predict.main([*asked, str(image), "--attend", str(drawn)])
    assert drawn.read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    for more, message in (
        ([str(image), "--attend", str(drawn)], "is there already"),
        ([str(tmp_path / "none.png")], "none.png: cannot be read: No such file"),
    ):
        with pytest.raises(SystemExit):
            cli.run(lambda more=more: predict.main([*asked, *more]))
        assert message in capsys.readouterr().err


def test_where_a_word_looked_is_bright():
    image = written(Image.fromarray(np.full((30, 60, 3), 200, np.uint8)))
    drawn = plots.attention(AttentionMaps(image, ["one", "two"], [[[0.0, 1.0]], [[1.0, 0.0]]]))
    _, one, two, *_ = drawn.axes
    assert [axes.get_title() for axes in (one, two)] == ["one", "two"]
    left, right = (one.images[0].get_array()[:, at].mean() for at in (5, 54))
    assert right > 2 * left
    left, right = (two.images[0].get_array()[:, at].mean() for at in (5, 54))
    assert left > 2 * right


@pytest.mark.parametrize(
    "more",
    [
        ["--attention", "none", "--units", "23", "--sweeps", "1"],
        ["--input-feeding", "--layers", "2", "--sweeps", "1"],
        ["--monitor", "bleu", "--sweeps", "0"],
    ],
)
def test_every_choice_trains_and_is_served(corpus, tmp_path, more):
    version = trained(corpus, tmp_path, *more)
    answer = SavedModelSession(version).predict_columns(
        {"image_bytes": [written(picture("red", "left")), *BAD]}
    )
    assert answer["valid"].tolist() == [True, *[False] * len(BAD)]


@pytest.fixture(scope="module")
def encoder_weights(tmp_path_factory):
    keras.utils.set_random_seed(3)
    network = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(32, 32, 3), alpha=1.0
    )
    path = tmp_path_factory.mktemp("weights") / "mobile.weights.h5"
    network.save_weights(path)
    return path


def test_a_network_that_is_not_trained_reads_the_images(corpus, encoder_weights, tmp_path):
    more = ["--encoder", "MobileNetV2", "--encoder-weights", str(encoder_weights)]
    more += ["--height", "32", "--width", "64", "--sweeps", "1"]
    version = trained(corpus, tmp_path, *more)
    answer = SavedModelSession(version).predict_columns(
        {"image_bytes": [written(picture("red", "left")), *BAD]}, "attend"
    )
    assert answer["valid"].tolist() == [True, *[False] * len(BAD)]
    assert answer["attention"].shape[2:] == (1, 2)
    kept = (version / "assets/encoder.weights.h5").read_bytes()
    assert kept == encoder_weights.read_bytes()
    image = written(picture("blue", "right"))
    task = tasks.find("captioning").restore(version / "assets")
    encoded = task.encode(
        {"image_bytes": tf.constant([image]), "captions": tf.ragged.constant([["a"]])}
    )
    network = keras.applications.MobileNetV2(
        include_top=False, weights=str(encoder_weights), input_shape=(32, 64, 3)
    )
    pixels = tf.image.resize(np.array(picture("blue", "right")), [32, 64], antialias=True)
    wanted = network(tf.round(pixels)[None] / 127.5 - 1)
    np.testing.assert_allclose(encoded["image"], wanted, atol=1e-4)


def test_weights_as_keras_has_them_for_download_are_read_too(encoder_weights, tmp_path):
    network = keras.applications.MobileNetV2(
        include_top=False, weights=str(encoder_weights), input_shape=(32, 32, 3)
    )
    with h5py.File(tmp_path / "mobile.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    pixels = np.full((1, 32, 32, 3), 99, "uint8")
    grids = []
    for path in (encoder_weights, tmp_path / "mobile.h5"):
        given = {"encoder": "MobileNetV2", "encoder_weights": str(path), "height": 32, "width": 32}
        config = tasks.find("captioning").Config(**given)
        folder = tmp_path / path.stem
        folder.mkdir()
        examples = [Example({"image_bytes": b"", "captions": ("red red",)}, "")]
        learnt = tasks.find("captioning").learn(config, examples, folder)
        grids.append(learnt._grid(pixels))
    np.testing.assert_allclose(*grids, atol=1e-6)


def test_an_encoder_that_cannot_be_is_told(corpus, encoder_weights, tmp_path, capsys):
    (tmp_path / "other.weights.h5").write_bytes(b"none")
    for more, message in (
        (["--encoder", "MobileNetV2"], "--encoder and --encoder-weights go together"),
        (["--encoder", "Eye", "--encoder-weights", "x"], "--encoder must be one of ['ConvNeXt"),
        (
            ["--encoder", "MobileNetV2", "--encoder-weights", str(tmp_path / "x")],
            "cannot be read: No such file",
        ),
        (
            ["--encoder", "MobileNetV2", "--encoder-weights", str(tmp_path / "other.weights.h5")],
            "has no weights of MobileNetV2 without its top",
        ),
        (
            ["--encoder", "VGG16", "--encoder-weights", str(encoder_weights)],
            "has no weights of VGG16 without its top",
        ),
    ):
        with pytest.raises(SystemExit):
            argv = [*more, "--height", "32", "--width", "32"]
            cli.run(lambda argv=argv: trained(corpus, tmp_path, *argv))
        assert message in capsys.readouterr().err
