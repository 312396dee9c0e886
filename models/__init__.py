"""Gated recurrent cells and the layers, networks and text ops built on them.

Installed, the package is called `gated_rnn`; in a checkout of the project it is `models`.
It knows tensors, but no task, flag or corpus file. Names are imported on first use, so that
cell specs need neither Keras nor TensorFlow:

    >>> from models import CELLS, CellSpec
    >>> CELLS["gru"].equation
    'gru'
"""

import importlib

__version__ = "0.1.0"

_EXPORTS = {
    "Attention": "layers.attention",
    "BeamSearchConfig": "beam_search",
    "CELLS": "cells.specs",
    "CRF": "layers.crf",
    "CRFAccuracy": "layers.crf",
    "CRFLoss": "layers.crf",
    "CellSpec": "cells.specs",
    "Decoder": "layers.decoder",
    "EQUATIONS": "cells.equations",
    "GatedCell": "cells.cell",
    "GatedRNN": "cells.recurrent",
    "GatedTree": "cells.tree",
    "Subwords": "text.subwords",
    "beam_search": "beam_search",
    "convert": "cells.convert",
    "equations": "cells.printing",
    "load": "loading",
    "trace": "cells.tracing",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_EXPORTS[name]}", __name__)
    # The modules `convert` and `beam_search` go by their own names.
    return getattr(module, name, module)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
