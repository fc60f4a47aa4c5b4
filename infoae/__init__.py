"""infoae: a production toolkit around the Information Maximizing Autoencoder.

from infoae import InfoAE
model = InfoAE.load("runs/latest")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infoae.version import __version__

if TYPE_CHECKING:
    from infoae.model import InfoAE

__all__ = ["InfoAE", "__version__"]


def __getattr__(name: str) -> Any:
    # On demand: the command line and the production half start without PyTorch.
    if name == "InfoAE":
        from infoae.model import InfoAE

        return InfoAE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
