"""Captioning from images to a served version: signatures, search, evaluation, prediction."""

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
from PIL import ExifTags, Image

import models
import tasks
from app import cli, evaluate, predict, train
from app.report import plots
from app.serving.session import SavedModelSession
from models.beam_search import IMPOSSIBLE
from tasks.core.evaluation import AttentionMaps
from tasks.core.examples import Example
from tests.conftest import signatures, where
from tests.support.fitted import fitted

ROOT = Path(__file__).parents[2]
SMALL = ["--units", "24", "--embedding", "16", "--filters", "4", "--height", "16", "--width", "24"]
SMALL += ["--sweeps", "1"]
COLOURS = {"red": (230, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 240)}


def picture(colour, side, size=20):
    """Returns a dark image with a coloured half."""
    pixels = np.full((size, size, 3), 20, np.uint8)
    half = slice(0, size // 2) if side == "left" else slice(size // 2, size)
    pixels[:, half] = COLOURS[colour]
    return Image.fromarray(pixels)


def encoded(image, kind="png"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


BAD = [
    b"",
    b"no image",
    encoded(picture("red", "left"))[:40],
    encoded(picture("red", "left"), "jpeg")[:-9],
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Images with one colour on one side, half of them with two captions."""
    return images(tmp_path_factory.mktemp("corpus"), 240, 24)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """The same with fewer images, for tests in which nothing has to be learned."""
    return images(tmp_path_factory.mktemp("few"), 32, 8)


def images(folder, train_count, other_count):
    random = np.random.default_rng(0)
    for part, count in (("train", train_count), ("valid", other_count), ("test", other_count)):
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
        "18",
        "--patience",
        "18",
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


def test_the_signatures_are_the_promised_ones(version):
    types = signatures(version)
    inputs = {"image_bytes": ("string", [-1])}
    assert types == {
        "serving_default": (
            inputs,
            {
                "caption": ("string", [-1]),
                "log_probability": ("float32", [-1]),
                "valid": ("bool", [-1]),
            },
        ),
        "n_best": (
            inputs,
            {
                "captions": ("string", [-1, 3]),
                "log_probabilities": ("float32", [-1, 3]),
                "valid": ("bool", [-1]),
            },
        ),
        "attend": (
            inputs,
            {
                "caption": ("string", [-1]),
                "tokens": ("string", [-1, -1]),
                "attention": ("float32", [-1, -1, 2, 3]),
                "lengths": ("int32", [-1]),
                "valid": ("bool", [-1]),
            },
        ),
    }


def test_it_learns_to_caption(served, version):
    scores = json.loads((version / "assets.extra/run.json").read_text())["scores"]
    assert list(scores) == ["exact", "bleu"] and scores["exact"] > 0.9
    for colour in COLOURS:
        for side in ("left", "right"):
            image = encoded(picture(colour, side, 31), "jpeg")
            (caption,) = served.predict_columns({"image_bytes": [image]})["caption"]
            assert colour.encode() in caption and side.encode() in caption


def test_an_invalid_image_does_not_affect_other_rows(served):
    good = encoded(picture("green", "right"))
    (alone,) = served.predict([{"image_bytes": good}])
    together = served.predict([{"image_bytes": image} for image in (good, *BAD, good)])
    for response in (together[0], together[-1]):
        assert response["valid"] and response["caption"] == alone["caption"]
        np.testing.assert_allclose(response["log_probability"], alone["log_probability"], atol=1e-4)
    for response in together[1:-1]:
        assert not response["valid"] and response["caption"] == b""
        assert np.isfinite(response["log_probability"])


def test_the_best_of_n_is_the_default(served):
    images = [encoded(picture(colour, "left")) for colour in COLOURS] + BAD[:1]
    best, many = (
        served.predict_columns({"image_bytes": images}),
        served.predict_columns({"image_bytes": images}, "n_best"),
    )
    np.testing.assert_array_equal(many["captions"][:, 0], best["caption"])
    np.testing.assert_array_equal(many["valid"], [True, True, True, False])
    logs = many["log_probabilities"]
    assert (np.diff(logs, axis=1) <= 1e-6).all()
    assert (logs[3, 1:] == np.float32(IMPOSSIBLE)).all() and set(many["captions"][3]) == {b""}


def test_each_token_has_an_attention_map(served):
    images = [encoded(picture("blue", "right")), BAD[0]]
    response, best = (
        served.predict_columns({"image_bytes": images}, "attend"),
        served.predict_columns({"image_bytes": images}),
    )
    assert response["caption"].tolist() == best["caption"].tolist()
    length = response["lengths"][0]
    assert length > 0 and response["lengths"][1] == 0
    np.testing.assert_allclose(response["attention"][0, :length].sum(axis=(1, 2)), 1, atol=1e-4)
    assert not response["attention"][1].any()
    pieces = b"".join(response["tokens"][0, :length]).decode().replace("▁", " ")
    assert pieces == best["caption"][0].decode()


def test_an_empty_batch_has_an_empty_response(served):
    for signature in served.signatures:
        for name, value in served.predict_columns({"image_bytes": []}, signature).items():
            assert value.shape[0] == 0, name


def test_a_moved_version_runs_in_a_process_with_tensorflow_alone(version, tmp_path):
    moved = shutil.copytree(version, tmp_path / "elsewhere" / "1")
    image = tmp_path / "image.png"
    image.write_bytes(encoded(picture("red", "left")))
    script = (
        "import sys, tensorflow as tf\n"
        "served = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "images = tf.constant([open(sys.argv[2], 'rb').read(), b'none'])\n"
        "outputs = served(image_bytes=images)\n"
        "print(outputs['caption'].numpy().tolist(), outputs['valid'].numpy().tolist())\n"
    )
    argv = [sys.executable, "-c", script, str(moved), str(image)]
    process = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert "red" in process.stdout and "b''] [True, False]" in process.stdout, process.stderr


def test_the_scores_are_those_of_plain_counting_and_of_sacrebleu(
    served, loaded, version, corpus, capsys
):
    captions = {}
    for line in (corpus / "captions_test.tsv").read_text().splitlines():
        name, caption = line.split("\t")
        captions.setdefault(name, []).append(caption)
    images = [(corpus / name).read_bytes() for name in captions]
    predictions = [
        text.decode() for text in served.predict_columns({"image_bytes": images})["caption"]
    ]
    exact = np.mean(
        [text in captions[name] for text, name in zip(predictions, captions, strict=True)]
    )
    first, second = (
        [texts[index] if index < len(texts) else "" for texts in captions.values()]
        for index in (0, 1)
    )
    argv = ["captioning", "--data", str(corpus), "--saved-models", str(version.parent.parent)]
    scores = evaluate.main(argv)
    assert scores["exact"] == pytest.approx(exact)
    assert scores["bleu"] == pytest.approx(
        sacrebleu.corpus_bleu(predictions, [first, second]).score
    )
    assert "nrefs:var" in capsys.readouterr().out


def test_the_report_shows_images(version):
    page = (version / "assets.extra/report.html").read_text(encoding="utf-8")
    curves = page.count('role=img aria-label="learning curve of')
    assert curves >= 1 and page.count("<svg") == curves + 3 and ">Attention</h2>" in page
    assert ' src="data:image/png;base64,' in page
    assert ' src="data:image/jpeg;base64,' in page


def test_the_keras_model_can_be_loaded(version):
    model = models.load(version)
    inputs = {"image": np.zeros((1, 16, 24, 3), "uint8"), "before": np.ones((1, 2, 3), "int32")}
    assert model(inputs).shape[:3] == (1, 2, 3)


def test_predict_captions_files_and_draws_attention(version, loaded, corpus, tmp_path, capsys):
    argv = ["captioning", "--saved-models", str(version.parent.parent)]
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_bytes(BAD[2])
    image = min(corpus.glob("test*.png"))

    def fail(*more):
        with pytest.raises(SystemExit) as ended:
            cli.run(lambda: predict.main([*argv, *more]))
        assert ended.value.code == cli.FAILED
        return capsys.readouterr()

    # An image that cannot be read costs no answer of another.
    said = fail(str(missing), str(image), str(broken), "a\0b")
    lines = said.out.splitlines()
    assert lines[1].split()[0] in {*COLOURS, "left", "right"}
    assert lines[::2] == [
        f"{missing}: cannot be read: No such file or directory",
        f"{broken}: not an image: neither JPEG nor PNG, damaged, or too large",
    ]
    assert lines[3].startswith("a") and "null" in lines[3]
    assert said.err == ("error: 3 of 4 requests failed; their lines state the reason.\n")
    first, second = map(json.loads, fail(str(broken), str(missing), "--json").out.splitlines())
    assert first["image"] == str(broken) and first["valid"] is False and "error" not in first
    assert second["image"] == str(missing) and second["error"].startswith("cannot be read")
    predict.main([*argv, str(image)])
    assert capsys.readouterr().out.splitlines() == [lines[1]]
    (tmp_path / "in.txt").write_text(f"{image}\n{missing}\n", encoding="utf-8")
    said = fail("--from", str(tmp_path / "in.txt"), "--to", str(tmp_path / "out.txt"))
    assert (tmp_path / "out.txt").read_text().splitlines() == [lines[1], lines[0]]
    assert "error: 1 of 2 requests failed; their lines in" in said.err
    drawn = tmp_path / "drawn.png"
    predict.main([*argv, str(image), "--attend", str(drawn)])
    assert drawn.read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert "already exists" in fail(str(image), "--attend", str(drawn)).err
    fail(str(broken), "--attend", str(tmp_path / "none.png"))
    assert not (tmp_path / "none.png").exists()


def test_attended_regions_are_tinted():
    image = encoded(Image.fromarray(np.full((30, 60, 3), 200, np.uint8)))
    drawn = plots.attention(AttentionMaps(image, ["one", "two"], [[[0.0, 1.0]], [[1.0, 0.0]]]))
    _, one, two, *_ = drawn.axes
    assert [axes.get_title() for axes in (one, two)] == ["one", "two"]
    for axes, attended, other in ((one, 54, 5), (two, 5, 54)):
        pixels = axes.images[0].get_array()
        assert np.ptp(pixels[:, attended], axis=-1).min() > 0.4
        assert np.ptp(pixels[:, other], axis=-1).max() < 0.1


def test_attended_images_are_drawn_upright():
    file, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture("red", "left", size=20).resize((40, 20)).save(file, "jpeg", exif=exif, quality=95)
    drawn = plots.attention(AttentionMaps(file.getvalue(), ["one"], [[[0.0, 1.0]]]))
    shown = drawn.axes[0].images[0].get_array()
    assert shown.shape[:2] == (40, 20)
    assert shown[5, 10, 0] > 2 * shown[35, 10, 0]  # the left half is the upper one


@pytest.mark.parametrize(
    "more",
    [
        ["--attention", "none", "--units", "23", "--monitor", "bleu", "--cell", "rnn"],
        pytest.param(["--input-feeding", "--layers", "2", "--sweeps", "0"], marks=pytest.mark.slow),
    ],
)
def test_every_setting_can_be_trained_and_served(few, tmp_path, more):
    session = fitted(trained, few, tmp_path, *more).export(tmp_path / "exported")
    response = session.predict_columns({"image_bytes": [encoded(picture("red", "left")), *BAD]})
    assert response["valid"].tolist() == [True, *[False] * len(BAD)]


@pytest.fixture(scope="module")
def encoder_weights(tmp_path_factory):
    keras.utils.set_random_seed(3)
    network = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(32, 32, 3), alpha=1.0
    )
    path = tmp_path_factory.mktemp("weights") / "mobile.weights.h5"
    network.save_weights(path)
    return path


@pytest.mark.slow
def test_a_pretrained_encoder_reads_the_images(few, encoder_weights, tmp_path):
    more = ["--encoder", "MobileNetV2", "--encoder-weights", str(encoder_weights), "--cell", "rnn"]
    more += ["--height", "32", "--width", "64", "--sweeps", "1"]
    session = fitted(trained, few, tmp_path, *more).export(tmp_path / "exported")
    assets = tmp_path / "exported/draft/assets"
    response = session.predict_columns(
        {"image_bytes": [encoded(picture("red", "left")), *BAD]}, "attend"
    )
    assert response["valid"].tolist() == [True, *[False] * len(BAD)]
    assert response["attention"].shape[2:] == (1, 2)
    assert (assets / "encoder.weights.h5").read_bytes() == encoder_weights.read_bytes()
    image = encoded(picture("blue", "right"))
    task = tasks.find("captioning").restore(assets)
    features = task.encode(
        {"image_bytes": tf.constant([image]), "captions": tf.ragged.constant([["a"]])}
    )
    network = keras.applications.MobileNetV2(
        include_top=False, weights=str(encoder_weights), input_shape=(32, 64, 3)
    )
    pixels = tf.image.resize(np.array(picture("blue", "right")), [32, 64], antialias=True)
    expected = network(tf.round(pixels)[None] / 127.5 - 1)
    np.testing.assert_allclose(features["image"], expected, atol=1e-4)


def test_encoder_weights_in_the_legacy_format_of_keras_can_be_read(encoder_weights, tmp_path):
    network = keras.applications.MobileNetV2(
        include_top=False, weights=str(encoder_weights), input_shape=(32, 32, 3)
    )
    with h5py.File(tmp_path / "mobile.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    pixels = np.full((1, 32, 32, 3), 99, "uint8")
    grids = []
    for path in (encoder_weights, tmp_path / "mobile.h5"):
        settings = {
            "encoder": "MobileNetV2",
            "encoder_weights": str(path),
            "height": 32,
            "width": 32,
        }
        config = tasks.find("captioning").Config(**settings)
        folder = tmp_path / path.stem
        folder.mkdir()
        examples = [Example({"image_bytes": b"", "captions": ("red red",)}, "")]
        task = tasks.find("captioning").learn(config, examples, folder)
        grids.append(task.encode_pixels(pixels))
    np.testing.assert_allclose(*grids, atol=1e-6)


def test_an_invalid_encoder_is_reported(corpus, encoder_weights, tmp_path, capsys):
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
