"""Scores of captions: the embedded sample, easy-VQA, NLVR with and without images, photos.

    DATA_DIR=... python -m benchmarks.captioning        # runs missing rows, prints all
    DATA_DIR=... python -m benchmarks.captioning --show # prints the rows that have been run

Each row is a run of `app.train` with its defaults and the listed flags. The test part is
evaluated through the signature `serving_default` of the published version. NLVR has sentences
that people wrote about scenes; those that are true of their scene are the captions. Its dev
part is the training data, and its test part is evaluated. In the blind row every image is black,
so that only the distribution of captions can be learnt. The few photos (COCO) are an overfitting
smoke test: train and test part are the same. Images/s are those of one client that sends one
request after another.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import tasks
from app.serving.session import SavedModelSession
from benchmarks import records

WIDE = ["--height", "48", "--width", "192"]  # scenes of NLVR are four times as wide as high
PHOTOGRAPH = ["--height", "128", "--width", "128"]
# Folder of the data, and flags of `app.train`, by row.
RUNS = {
    "sample": ("", []),
    "easy-vqa": ("easy_vqa", []),
    "easy-vqa, one vector": ("easy_vqa", ["--attention", "none"]),
    "nlvr": ("nlvr", WIDE),
    "nlvr-blind": ("nlvr-blind", WIDE),
    "coco-mini": ("coco_mini", [*PHOTOGRAPH, "--epochs", "100", "--patience", "100"]),
}
SCORES = ("true", "exact", "bleu")
BATCHES = (1, 32)
REPEATS = 5


def corpus(name: str, folder: Path) -> list[str]:
    """Returns the flags that name a corpus; writes NLVR as a table into `folder`."""
    if not name:
        return []
    source = records.data_dir() / "captioning" / name.removesuffix("-blind")
    if name == "easy_vqa":
        return ["--data", str(source)]
    if name == "coco_mini":
        train = str(source / "captions_train2017.json")
        return ["--train", train, "--valid", train, "--test", train]
    for part, source_part in (("train", "dev"), ("test", "test")):
        lines = (source / f"{source_part}.json").read_text(encoding="utf-8").splitlines()
        scenes = [scene for scene in map(json.loads, lines) if scene["label"] == "true"]
        table = folder / f"captions_{part}.tsv"
        with table.open("w", encoding="utf-8") as file:
            for scene in scenes:
                image = f"{source_part}-{scene['identifier']}-0.png"
                path = source / "images" / source_part / image
                _copy(path, folder / image, blind="blind" in name)
                file.write(f"{image}\t{' '.join(scene['sentence'].split())}\n")
    return ["--data", str(folder)]


def _copy(image: Path, target: Path, blind: bool) -> None:
    """Copies an image, or writes a black one; each file differs, as parts must not overlap."""
    if not blind:
        target.write_bytes(image.read_bytes())
        return
    from PIL import Image, PngImagePlugin

    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("name", image.name)
    Image.new("RGB", (400, 100)).save(target, pnginfo=metadata)


def measure(name: str) -> dict:
    """Trains a row, and returns the record of the version and images/s by batch size."""
    data, flags = RUNS[name]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / "data").mkdir()
        data_flags = corpus(data, folder / "data")
        record = records.train("captioning", folder, *data_flags, *flags)
        version = folder / "captioning/1"
        return {"record": record, "speed": _speed(version, data_flags)}


def _speed(version: Path, data_flags: list[str]) -> dict[str, float]:
    """Returns the median images/s by batch size."""
    names = [flag.removeprefix("--") for flag in data_flags[::2]]
    corpus_settings = dict(zip(names, data_flags[1::2], strict=True))
    part, _ = tasks.find("captioning").Corpus(**corpus_settings).part("test")
    images = [example.values["image_bytes"] for example in next(part.batches(128))]
    session, speed = SavedModelSession(version), {}
    for size in BATCHES:
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        seconds = []
        for _ in range(REPEATS):
            began = time.monotonic()
            for batch in batches:
                session.predict_columns({"image_bytes": batch})
            seconds.append(time.monotonic() - began)
        speed[str(size)] = len(images) / statistics.median(seconds)
    return speed


def row(name: str, result: dict | None) -> list[str]:
    """Returns a row of the table."""
    head = [name, " ".join(RUNS[name][1]) or "defaults"]
    if result is None:
        return [*head, "not run", *[""] * 6]
    record = result["record"]
    figures = [record["scores"].get(score) for score in SCORES]
    shown = [
        "" if value is None else f"{value:.1f}" if score == "bleu" else f"{100 * value:.1f}"
        for score, value in zip(SCORES, figures, strict=True)
    ]
    examples = record["data"]["examples"]
    minutes = sum(record["seconds"].values()) / 60
    speed = [f"{result['speed'][str(size)]:.0f}" for size in BATCHES]
    return [*head, f"{examples['train']} / {examples['test']}", *shown, f"{minutes:.1f}", *speed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only rows that have been run")
    parser.add_argument("--only", choices=RUNS, help="run one row")
    args = parser.parse_args()
    rows = []
    for name in RUNS:
        if args.show or (args.only and args.only != name):
            result = records.load("captioning", name)
        else:
            result = records.load_or_measure("captioning", name, lambda n=name: measure(n))
        rows.append(row(name, result))
    columns = ["data", "flags", "images, train / test", "true %", "exact %", "BLEU", "minutes"]
    columns += [f"images/s, batch {size}" for size in BATCHES]
    print(records.markdown_table(columns, rows))
    print(f"\n{records.machine()}; seed 0; minutes of the whole command")


if __name__ == "__main__":
    main()
