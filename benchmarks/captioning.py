"""How true captions are: the embedded sample, easy-VQA, NLVR beside blindness, a few photographs.

    DATA_DIR=... python -m benchmarks.captioning          # runs what is missing, prints all
    DATA_DIR=... python -m benchmarks.captioning --show # prints what there is

Each row is `app.train` with its defaults and the flags told; the test part goes through
the signature `serving_default` of what it published. NLVR gives sentences that people
wrote of scenes, of which those that are true of theirs are learnt from dev and judged on
test; blind, every image is black, and the captions are all that can be learnt. The
photographs (COCO) are too few to learn from: they are learnt by heart, and judged on
themselves, to see that the line carries them. Images/s are those of one client that waits.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import tasks
from app.serving.session import SavedModelSession
from benchmarks import results

WIDE = ["--height", "48", "--width", "192"]  # scenes of NLVR are four times as wide as high
PHOTOGRAPH = ["--height", "128", "--width", "128"]
# A name: what prepares its flags, and the flags beside the defaults.
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
TURNS = 5


def corpus(name: str, folder: Path) -> list[str]:
    """The flags that name a corpus; what is not there as a table is written into `folder`."""
    if not name:
        return []
    source = results.data_dir() / "captioning" / name.removesuffix("-blind")
    if name == "easy_vqa":
        return ["--data", str(source)]
    if name == "coco_mini":
        train = str(source / "captions_train2017.json")
        return ["--train", train, "--valid", train, "--test", train]
    for part, found in (("train", "dev"), ("test", "test")):
        lines = (source / f"{found}.json").read_text(encoding="utf-8").splitlines()
        told = [row for row in map(json.loads, lines) if row["label"] == "true"]
        table = folder / f"captions_{part}.tsv"
        with table.open("w", encoding="utf-8") as file:
            for row in told:
                image = f"{found}-{row['identifier']}-0.png"
                _copy(source / "images" / found / image, folder / image, "blind" in name)
                file.write(f"{image}\t{' '.join(row['sentence'].split())}\n")
    return ["--data", str(folder)]


def _copy(image: Path, to: Path, blind: bool) -> None:
    """An image as it is, or all black, but another file than the others."""
    if not blind:
        to.write_bytes(image.read_bytes())
        return
    from PIL import Image, PngImagePlugin

    apart = PngImagePlugin.PngInfo()
    apart.add_text("name", image.name)
    Image.new("RGB", (400, 100)).save(to, pnginfo=apart)


def measure(name: str) -> dict:
    """The record of the version that a training publishes, and images/s by batch."""
    data, flags = RUNS[name]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / "data").mkdir()
        told = corpus(data, folder / "data")
        record = results.trained("captioning", folder, *told, *flags)
        version = folder / "captioning/1"
        return {"record": record, "speed": _speed(version, told)}


def _speed(version, told) -> dict[str, float]:
    """Images/s by batch, medians of turns."""
    where = dict(zip((flag[2:] for flag in told[::2]), told[1::2], strict=True))
    part, _ = tasks.find("captioning").Corpus(**where).part("test")
    images = [example.values["image_bytes"] for example in next(part.batches(128))]
    served, found = SavedModelSession(version), {}
    for size in BATCHES:
        batches = [images[at : at + size] for at in range(0, len(images), size)]
        taken = []
        for _ in range(TURNS):
            began = time.monotonic()
            for batch in batches:
                served.predict_columns({"image_bytes": batch})
            taken.append(time.monotonic() - began)
        found[str(size)] = len(images) / statistics.median(taken)
    return found


def line(name: str, result: dict | None) -> list[str]:
    """A line of the table."""
    told = [name, " ".join(RUNS[name][1]) or "defaults"]
    if result is None:
        return [*told, "not run", *[""] * 6]
    record = result["record"]
    figures = [record["scores"].get(score) for score in SCORES]
    shown = [
        "" if value is None else f"{value:.1f}" if score == "bleu" else f"{100 * value:.1f}"
        for score, value in zip(SCORES, figures, strict=True)
    ]
    examples = record["data"]["examples"]
    minutes = sum(record["seconds"].values()) / 60
    speed = [f"{result['speed'][str(size)]:.0f}" for size in BATCHES]
    return [*told, f"{examples['train']} / {examples['test']}", *shown, f"{minutes:.1f}", *speed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--show", action="store_true", help="print only what has been run")
    parser.add_argument("--only", choices=RUNS, help="run one row")
    args = parser.parse_args()
    table = []
    for name in RUNS:
        if args.show or (args.only and args.only != name):
            result = results.known("captioning", name)
        else:
            result = results.result("captioning", name, lambda n=name: measure(n))
        table.append(line(name, result))
    columns = ["data", "flags", "images, train / test", "true %", "exact %", "BLEU", "minutes"]
    columns += [f"images/s, batch {size}" for size in BATCHES]
    print(results.markdown(columns, table))
    print(f"\n{results.machine()}; seed 0; minutes are those of the whole command")


if __name__ == "__main__":
    main()
