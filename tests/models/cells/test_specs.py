"""A spec is data that is never wrong."""

import dataclasses
import json
import re

import numpy as np
import pytest

from models.cells import specs
from models.cells.cell import GatedCell
from models.cells.equations import EQUATIONS
from models.cells.specs import CELLS, CellSpec


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_found_by_name_by_json_and_by_file(name, tmp_path):
    spec = CELLS[name]
    file = tmp_path / "cell.json"
    file.write_text(json.dumps(spec.to_json()))
    for written in (spec, name, spec.to_json(), json.dumps(spec.to_json()), str(file)):
        assert specs.find(written) == spec


def test_a_spec_has_one_form():
    one = CellSpec("lstm", bias={"output": 2, "forget": 1}, peepholes=["output", "input"])
    other = CellSpec("lstm", bias={"forget": 1.0, "output": 2.0}, peepholes=("input", "output"))
    assert one == other
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.equation = "gru"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("lstm_cupled", "got 'lstm_cupled'; did you mean 'lstm_coupled'[?]"),
        ({"equation": "lstmm"}, r"equation must be one of \['antisymmetric', .*\], got 'lstmm'"),
        ({"bias": {}}, "must name its equation"),
        (
            {"equation": "gru", "bias": {"forget": 1}},
            r"bias names \['forget'\], but the gates of 'gru' are \['update', 'reset'\]",
        ),
        ({"equation": "lstm", "bias": {"forget": "1"}}, "'forget' must be a number, 'chrono:T'"),
        ({"equation": "lstm", "bias": {"forget": None}}, "'forget' must be a number or a law"),
        ({"equation": "lstm", "bias": {"forget": "chrono:2"}}, "needs a lag of at least 3"),
        ({"equation": "lstm", "bias": {"forget": "uniform:2,1"}}, "needs LOW < HIGH"),
        ({"equation": "lstm", "bias": [1]}, "bias must map gates to values"),
        ({"equation": "lstm", "pinned": {"forget": 2}}, "pinned 'forget' must be from 0 to 1"),
        ({"equation": "lstm", "blind": {"forget": "c"}}, r"must be one of \['x', 'h', 'xh'\]"),
        ({"equation": "lstm", "input_activation": "sin"}, "input_activation must be one of"),
        ({"equation": "lstm", "cell_clip": -1}, "cell_clip must be a number of at least 0"),
        ({"equation": "gru", "cell_clip": 1}, "clips the cell state c; 'gru' has none"),
        ({"equation": "gru", "output_activation": "relu"}, "cell state c; 'gru' has none"),
        (
            {"equation": "lstm", "pinned": {"forget": 1}, "peepholes": ["forget"]},
            "peepholes names 'forget', which is pinned to 1",
        ),
        (
            {"equation": "lstm", "pinned": {"forget": 1}, "bias": {"forget": 1}},
            "bias names 'forget'",
        ),
        ({"equation": "mut3", "blind": {"update": "h"}}, "cannot be made blind to 'h'"),
        ({"equation": "lstm", "peepholes": "input"}, "peepholes must be a list of gates"),
        ({"equation": "lstm", "peepholes": ["input", "input"]}, "peepholes must differ"),
        (
            {"equation": "gru", "peepholes": ["reset"]},
            "peepholes read the cell state c; 'gru' has none",
        ),
        (
            {"equation": "gru", "projection": 4},
            "projection reduces the output of the cell state c; 'gru' has none",
        ),
        ({"equation": "lstm", "projection": -1}, "projection must be an integer of at least 0"),
        ({"equation": "lstm", "layer_norm": "all"}, r"layer_norm must be one of \['none', .*'all'"),
        (
            {"equation": "gru", "zoneout": {"c": 0.1}},
            r"zoneout of 'gru' must be one of \['h'\], got 'c'",
        ),
        ({"equation": "lstm", "zoneout": {"h": 1}}, "zoneout of 'h' must be at least 0 and below"),
        ({"equation": "lstm", "zoneout": 0.1}, "zoneout must map names to rates, got 0.1"),
        (
            {"equation": "lstm", "recurrent_dropout": {"output": 0.1}},
            r"must be one of \['state', 'candidate', 'weights'\], got 'output'",
        ),
        (
            {"equation": "lstm", "gate_activations": {"input": "sin"}},
            r"gate_activations of 'input' must be one of \['tanh'",
        ),
        (
            {"equation": "lstm", "gate_activations": {"candidate": "relu"}},
            r"gate_activations names \['candidate'\]",
        ),
        (
            {"equation": "sgrn", "pinned": {"forget": 0.5}},
            "pinned names 'forget', but another map of 'sgrn' reads its products",
        ),
        (
            {"equation": "nas", "pinned": {"third": 0.5, "third_tanh": 0.5, "second": 1}},
            "pinned names 'third_tanh' and 'third', but 'nas' transforms what they give",
        ),
        (
            {"equation": "scrn", "pinned": {"hidden": 0.5}},
            "pinned names 'hidden', but 'scrn' transforms what they give",
        ),
        (
            {"equation": "minlstm", "pinned": {"forget": 0, "input": 0}},
            r"'minlstm' divides 'input' and 'forget' by their sum, .* got \[0, 0\]",
        ),
        (
            {"equation": "minlstm", "gate_activations": {"forget": "tanh"}},
            r"none below .* got \['sigmoid', 'tanh'\]",
        ),
        (
            {
                "equation": "minlstm",
                "gate_activations": {"forget": "hard_sigmoid", "input": "relu"},
            },
            r"one of them must be above 0 .* got \['relu', 'hard_sigmoid'\]",
        ),
        ({"equation": "lstm", "constants": {"step": 1}}, r"constants of 'lstm' are \[\]"),
        ({"equation": "lem", "constants": {"step": "1"}}, "constants of 'step' must be a number"),
        ({"equation": "lstm", "heads": 0}, "heads must be an integer of at least 1"),
        ({"equation": "lstm", "heads": 2, "projection": 2}, "heads requires square recurrent"),
        ({"equation": "mingru", "heads": 2}, "heads applies to recurrent matrices"),
        (
            {"equation": "lstm", "recurrent_structure": "sparse"},
            r"recurrent_structure must be one of \['full', 'diagonal', .*'orthogonal'\]",
        ),
        (
            {"equation": "lstm", "recurrent_structure": "diagonal", "heads": 2},
            r"\['heads', 'recurrent_structure'\] exclude each other",
        ),
        ({"equation": "lstm", "recurrent_rank": -1}, "recurrent_rank must be an integer of at"),
        (
            {"equation": "lstm", "recurrent_rank": 2, "projection": 2},
            "recurrent_rank requires square recurrent matrices",
        ),
        ({"equation": "lstm", "pinnned": {}}, r"cell has \['pinnned'\], but the fields"),
        ("{not json", "cell is not valid JSON"),
        ("nowhere/cell.json", "cell names a file that cannot be read"),
        (7, "cell must be one of"),
    ],
)
def test_a_bad_cell_says_what_would_be_good(cell, message):
    with pytest.raises(ValueError, match=message):
        specs.find(cell)


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_pinned_gates_are_rejected_or_give_finite_states(equation, value):
    gates = EQUATIONS[equation].gates
    inputs = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    for pinned in (gates, *((gate,) for gate in gates)):
        try:
            spec = CellSpec(equation, pinned=dict.fromkeys(pinned, value))
        except ValueError:
            continue
        cell = GatedCell(4, spec)
        states = cell.get_initial_state(2)
        for _ in range(2):
            output, states = cell(inputs, states)
        for array in (output, *states):
            assert np.isfinite(array).all(), pinned


def test_fields_added_after_the_first_version_are_written_only_if_changed():
    plain = CellSpec("lem", gate_activations={"fast": "sigmoid"}, constants={"step": 1.0})
    assert plain == CellSpec("lem")
    added = {"gate_activations", "constants", "heads", "recurrent_structure", "recurrent_rank"}
    assert not added & set(plain.to_json())
    changed = CellSpec("lem", constants={"step": 0.5}, heads=2)
    assert changed.to_json()["constants"] == {"step": 0.5}
    assert CellSpec(**changed.to_json()) == changed


def test_every_cell_names_its_publication():
    assert set(specs.SOURCES) <= set(CELLS)
    assert specs.source("brc") == "Vecoven et al. (2021), the bistable recurrent cell"
    assert specs.source({"equation": "gru"}) == CellSpec("gru").definition.source
    assert all(re.search(r"\(\d{4}\)", specs.source(name)) for name in CELLS)


def test_heads_divide_the_units():
    with pytest.raises(ValueError, match="heads must divide the number of units, got heads=3"):
        GatedCell(4, CellSpec("lstm", heads=3))


def test_a_spec_that_is_nested_too_deeply_is_reported(tmp_path):
    text = '{"equation": ' * 100_000
    file = tmp_path / "cell.json"
    file.write_text(text)
    for cell in (text, str(file)):
        with pytest.raises(ValueError, match="the JSON is nested too deeply"):
            specs.find(cell)
