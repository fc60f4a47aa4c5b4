"""infoae: a production toolkit around the Information Maximizing Autoencoder.

import infoae
model = infoae.load("runs/latest")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from infoae.version import __version__

# From 1.29 on onnxruntime sends events to its makers, unless it is told before it is imported. Its thread that does so
# also keeps a forked process from ending (gunicorn --preload). Whoever wants it sets 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from infoae.estimator.clusterer import InfoAEClusterer
    from infoae.methods.registry import load
    from infoae.model import InfoAE

__all__ = ["InfoAE", "InfoAEClusterer", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # On demand: the command line and the production half start without PyTorch.
    if name == "InfoAE":
        from infoae.model import InfoAE

        return InfoAE
    if name == "InfoAEClusterer":
        from infoae.estimator.clusterer import InfoAEClusterer

        return InfoAEClusterer
    if name == "load":
        from infoae.methods.registry import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
