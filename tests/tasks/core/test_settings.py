"""Settings: flags, rules, defaults, former names, and what each of them affects."""

import argparse
import dataclasses
import re

import pytest

import tasks
from app import cli
from app.training import example_cache, run_state
from tasks.core import settings, task
from tasks.core.config import CorpusSize
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.settings import EFFECTS, flag, from_record, setting, with_defaults

every_task = pytest.mark.parametrize("name", tasks.names())


def parsed(cls, argv):
    parser = argparse.ArgumentParser()
    cli.add_settings(parser, cls)
    return cli.settings(cls, parser.parse_args(argv))


def other_value(field):
    """A valid value that is not the default, or None for fields whose values depend on others."""
    if isinstance(field.default, bool):
        return not field.default
    if choices := field.metadata["choices"]:
        return next((choice for choice in choices if choice != field.default), None)
    if field.metadata["auto"]:
        return field.metadata["auto"](7)
    if isinstance(field.default, int):
        return field.default + 1
    if isinstance(field.default, float):
        return field.default / 2 + 0.01
    return {"cell": "mgu"}.get(field.name)


@every_task
def test_former_names_of_flags_still_work_and_name_the_new_one(name, capsys):
    config = tasks.find(name).Config
    renamed = [field for field in dataclasses.fields(config) if field.metadata["old_name"]]
    names = {"learning_rate", "batch_tokens", "max_length"}
    if name == "language_model":  # which came after the names had changed
        names = {"learning_rate"}
    assert names <= {field.name for field in renamed}
    for field in renamed:
        old, value = flag(field.metadata["old_name"]), other_value(field)
        given = parsed(config, [old, str(value)])
        assert getattr(given, field.name) == value
        assert capsys.readouterr().err == f"{old} is now called {flag(field.name)}\n"
        assert given == parsed(config, [flag(field.name), str(value)])
        assert capsys.readouterr().err == ""


@every_task
def test_records_with_former_names_are_understood(name):
    config = tasks.find(name).Config()
    record = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        if field.metadata["old_name"]:
            record[field.metadata["old_name"]] = record.pop(field.name)
    assert from_record(type(config), record) == config


def test_an_unknown_field_of_a_record_is_an_error():
    with pytest.raises(UserError, match=r"no field 'unitz', only \[.*did you mean 'units'\?"):
        from_record(tasks.find("sentiment").Config, {"unitz": 3})


def test_other_defaults_keep_help_rules_and_order():
    @dataclasses.dataclass(frozen=True)
    class Base:
        """Settings of something."""

        rate: float = setting(0.1, "a rate", above=0)
        width: int = setting(3, "a width", at_least=1)

        def __post_init__(self):
            settings.check(self)

    changed = with_defaults(Base, width=7)
    assert changed() == changed(rate=0.1, width=7) and Base() == Base(0.1, 3)
    assert [field.name for field in dataclasses.fields(changed)] == ["rate", "width"]
    assert dataclasses.fields(changed)[1].metadata == dataclasses.fields(Base)[1].metadata
    with pytest.raises(UserError, match="--width must be at least 1, got 0"):
        changed(width=0)
    with pytest.raises(TypeError, match=r"has no settings \['height'\]"):
        with_defaults(Base, height=1)


@every_task
def test_a_setting_changes_the_identities_that_it_affects_and_no_other(name, tmp_path):
    config = tasks.find(name).Config()

    def identities(changed):
        return (
            example_cache.identity(changed, "data", tmp_path, "ops"),
            run_state.identity(name, changed, "data", tmp_path),
        )

    for field in dataclasses.fields(config):
        value, affects = other_value(field), field.metadata["affects"]
        if value is None or field.name in ("clip_value", "n_best"):
            continue
        before = config
        if field.name == "distill":  # which needs an ensemble
            before = dataclasses.replace(config, ensemble=2)
        if field.name == "lookahead":  # which needs a network that reads forward
            before = dataclasses.replace(config, direction="forward")
        encoded, run = identities(before)
        of_encoded, of_run = identities(dataclasses.replace(before, **{field.name: value}))
        assert (of_encoded != encoded) == (affects == "encoding"), field.name
        assert (of_run != run) == (affects in ("encoding", "training")), field.name


def test_a_new_setting_affects_everything_unless_it_is_declared_otherwise(tmp_path):
    base = tasks.find("sentiment").Config

    @dataclasses.dataclass(frozen=True)
    class Config(base):
        new: int = setting(1, "a setting nobody declared")

    one, other = Config(), Config(new=2)
    for identity in (
        lambda config: example_cache.identity(config, "data", tmp_path, "ops"),
        lambda config: run_state.identity("sentiment", config, "data", tmp_path),
    ):
        assert identity(one) != identity(other)


def test_an_unknown_effect_is_an_error():
    with pytest.raises(ValueError, match=f"affects must be one of .*{EFFECTS[0]}.*, got 'all'"):
        setting(1, "help", affects="all")


@every_task
def test_records_from_before_a_setting_existed_have_its_value_of_then(name):
    config = tasks.find(name).Config
    record = dataclasses.asdict(config())
    later = {f.name: f.metadata["absent"] for f in dataclasses.fields(config)}
    later = {name: value for name, value in later.items() if value is not None}
    if name == "sentiment":
        expected = {"fold_case": False, "linear_path": 0, "calibrate": False}
        expected |= {"label_smoothing": 0.0, "trees": False, "schedule": "constant"}
        assert later == expected
    for key in later:
        del record[key]
    restored = from_record(config, record)
    assert {key: getattr(restored, key) for key in later} == later


@pytest.mark.parametrize(
    ("tokens", "batch_tokens", "epochs", "patience", "schedule"),
    [
        (0, 256, 20, 5, "constant"),
        (8_000, 256, 20, 5, "constant"),
        (50_000, 512, 20, 5, "constant"),
        (180_000, 1024, 20, 5, "constant"),
        (999_999, 8192, 20, 5, "constant"),
        (1_000_000, 8192, 4, 4, "cosine"),
        (6_000_000, 16_384, 4, 4, "cosine"),
    ],
)
def test_automatic_settings_follow_from_the_size_of_the_corpus(
    tokens, batch_tokens, epochs, patience, schedule
):
    config = tasks.find("sentiment").Config
    size = CorpusSize(examples=100, tokens=tokens)
    resolved = config().resolved(size)
    others = {"patience": patience, "schedule": schedule}
    assert resolved == config(batch_tokens=batch_tokens, epochs=epochs, **others)
    assert resolved.resolved(CorpusSize(1, 10**9)) == resolved
    own = {"epochs": 3, "batch_tokens": 9}
    assert config(**own).resolved(size) == config(**own, **others)


@pytest.mark.parametrize(
    ("name", "words", "values"),
    [
        ("tagging", 0, (128, 30, 5)),
        ("tagging", 9_999, (128, 30, 5)),
        ("tagging", 10_000, (640, 12, 3)),
        ("tagging", 10**7, (640, 12, 3)),
        ("translation", 0, (256, 30, 5)),
        ("translation", 49_999, (256, 30, 5)),
        ("translation", 50_000, (1024, 15, 3)),
        ("translation", 10**9, (1024, 15, 3)),
    ],
)
def test_few_words_have_small_batches_and_more_epochs(name, words, values):
    config, size = tasks.find(name).Config, CorpusSize(examples=100, tokens=words)
    batch_tokens, epochs, patience = values
    expected = config(batch_tokens=batch_tokens, epochs=epochs, patience=patience)
    assert config().resolved(size) == expected
    assert config(epochs=3).resolved(size) == dataclasses.replace(expected, epochs=3)


@pytest.mark.parametrize(
    ("images", "values"), [(0, (256, 40, 5)), (2_499, (256, 40, 5)), (2_500, (512, 15, 3))]
)
def test_few_images_have_small_batches_and_more_epochs(images, values):
    config = tasks.find("captioning").Config
    size = CorpusSize(examples=images, tokens=10**9)
    names = ("batch_tokens", "epochs", "patience")
    assert config().resolved(size) == config(**dict(zip(names, values, strict=True)))


@pytest.mark.parametrize("name", tasks.names())
def test_the_help_of_automatic_settings_has_the_values_of_every_size(name):
    config = tasks.find(name).Config
    sizes = [CorpusSize(count, count) for count in (0, 10**9)]
    for field in dataclasses.fields(config):
        if " from " in field.metadata["help"] and field.default is None:
            choices = field.metadata["help"].split("; auto: ")[1]
            for size in sizes:
                assert re.search(rf"\b{getattr(config().resolved(size), field.name)}\b", choices)


def test_auto_is_a_value_of_automatic_flags_only(capsys):
    config = tasks.find("sentiment").Config
    assert parsed(config, ["--epochs", "auto", "--num-epochs", "auto"]) == config()
    assert parsed(config, ["--epochs", "3"]).epochs == 3
    for argv in (["--units", "auto"], ["--epochs", "many"]):
        with pytest.raises(SystemExit):
            parsed(config, argv)
        assert "invalid int" in capsys.readouterr().err
    with pytest.raises(UserError, match="--epochs must be at least 1, got 0"):
        config(epochs=0)


def test_the_size_of_a_corpus_counts_words_of_every_kind():
    rows = [
        Example({"text": "two words", "label": "x"}, "a:1"),
        Example({"text": "字" * 60, "label": "y"}, "a:2"),
    ]
    measured = task._MeasuredStream(Stream(lambda: rows))
    assert list(measured.stream) == rows == list(measured.stream)
    # A script without blanks counts a sixth of its characters.
    assert measured.size == CorpusSize(examples=2, tokens=2 + 10)
    assert task._tokens(b"image") == 0 and task._tokens(("a", "b")) == 2
