"""From a run to production. The run-time half (everything but export) needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infoae.deploy.classifier import Answers, Classifier
    from infoae.deploy.generator import Generator

__all__ = ["Answers", "Classifier", "Generator"]


def __getattr__(name: str) -> Any:
    """Import on first use: `infoae --help` passes through here and must not wait for NumPy."""
    if name in ("Answers", "Classifier"):
        from infoae.deploy import classifier

        return getattr(classifier, name)
    if name == "Generator":
        from infoae.deploy.generator import Generator

        return Generator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
