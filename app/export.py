"""Exports a published network to another format: `python -m app.export sentiment --format onnx`.

The network is exported from ids on. Next to it are its vocabulary and the rules by which ids
follow from texts, with a module that applies them in Python alone. The predictions are compared
with those of the SavedModel before anything is kept.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tasks
from app import cli
from app.serving import model_name
from tasks.core.errors import UserError

EXPORTS = Path("exports")
FORMATS = {"onnx": "model.onnx", "litert": "model.tflite", "keras": "model.keras"}
_DEFAULT_LENGTH = 64  # words of a LiteRT model


def main(argv: Sequence[str] | None = None) -> Path:
    """Writes the exported network, and returns its folder."""
    argv = model_name.with_task(sys.argv[1:] if argv is None else argv)
    args, _ = cli.parse("export", __doc__, argv, _add_flags, "--format onnx")
    if args.length is not None and args.format != "litert":
        raise UserError(f"--length is for --format litert; {args.format} reads any length.")
    if args.length is not None and args.length < 1:
        raise UserError(f"--length must be at least 1, got {args.length}.")
    version = model_name.version(args)
    shown = args.out or EXPORTS / f"{model_name.of(args)}-{version.name}-{args.format}"
    cli.check_out(shown)
    out = shown.resolve()  # so that the draft lies beside the folder that a link names
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out must be a folder that can be created: {error}.") from error
    with tempfile.TemporaryDirectory(prefix="draft-", dir=out.parent) as draft:
        lines = _export(args, version, Path(draft) / "export")
        _move(Path(draft) / "export", out)
    print(*lines, f"written to {shown}", sep="\n")
    return shown


def _move(folder: Path, out: Path) -> None:
    """Moves a folder to a new place, or its files to an empty folder, which may be in use."""
    if not out.exists():
        folder.rename(out)
        return
    for path in folder.iterdir():
        path.rename(out / path.name)


def _export(args: argparse.Namespace, version: Path, folder: Path) -> list[str]:
    """Writes the network, its rules and a record to a folder, and returns what to print."""
    with cli.with_tensorflow():
        import models
        from app.exporting import formats, id_rules, verification
        from app.exporting.id_reader import IdReader
        from app.serving import export
        from models import manifest

    folder.mkdir()
    task = tasks.find(args.task).restore(version / "assets")
    path = folder / FORMATS[args.format]
    record = {
        "model": model_name.of(args),
        "version": int(version.name),
        "task": args.task,
        "format": args.format,
        "manifest_sha256": hashlib.sha256((version / manifest.PLACE).read_bytes()).hexdigest(),
    }
    length = None
    if args.format == "keras":
        run = formats.copy_keras(task, version, path)
    else:
        network = export.rebuild(task, models.load(version), "serving")
        if args.format == "onnx":
            metadata = {name: str(value) for name, value in record.items()}
            run = formats.write_onnx(task, network, path, metadata)
        else:
            length = args.length or min(_DEFAULT_LENGTH, task.config.max_length)
            run = formats.write_litert(task, network, path, length)
            record["length"] = length
    if run is None:
        lines = ["the file loads; it has no function of ids whose predictions could be compared"]
    else:
        id_rules.write(task.id_rules(), folder)
        reader = IdReader(folder / id_rules.RULES)
        texts = verification.texts_of(version)
        comparison = verification.compare(version, reader, run, texts, length)
        record["comparison"] = vars(comparison)
        lines = [comparison.sentence()]
    (folder / "export.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    sizes = [f"{item.name} {item.stat().st_size / 2**20:.2f} MiB" for item in folder.iterdir()]
    return [*lines, ", ".join(sorted(sizes))]


def _add_flags(parser: argparse.ArgumentParser, task_class: type) -> None:
    cli.add_saved_models(parser)
    model_name.add_flag(parser, "name of the model")
    parser.add_argument("--version", type=int, help="version of the model (default: the latest)")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="onnx",
        help="onnx: for ONNX Runtime; litert: for LiteRT, formerly TensorFlow Lite; keras: the "
        ".keras file (default: %(default)s)",
    )
    parser.add_argument(
        "--length",
        type=int,
        metavar="INT",
        help="words of a text that a LiteRT model reads, which has a fixed length (default: the "
        f"most that the version reads, up to {_DEFAULT_LENGTH})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"output folder, new or empty (default: {EXPORTS}/MODEL-VERSION-FORMAT)",
    )


if __name__ == "__main__":
    cli.run(main)
