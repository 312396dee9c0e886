"""Behaviour of pinned versions that has to be revisited when a pin is lifted."""

import tomllib
from pathlib import Path

import keras

ROOT = Path(__file__).parent.parent

# From Keras 3.16 on, `RNN`, `Bidirectional` and `TimeDistributed` do not propagate masks
# (keras pull request 23235). When the bound below is raised, revisit:
#   models/layers/crf.py        _prepared and CRFLoss read a mask that Keras attached to logits
#   models/cells/recurrent.py   _one_mask and compute_mask
#   docs/                       examples in which Keras layers stand between a mask and a CRF
KERAS = "keras>=3.15.1,<3.16"


def test_keras_is_pinned_below_the_version_that_stops_propagating_masks():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert KERAS in project["project"]["dependencies"], "revisit the places listed above"
    assert keras.__version__.startswith("3.15."), "revisit the places listed above"
