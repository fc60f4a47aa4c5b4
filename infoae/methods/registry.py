"""Which method a configuration asks for."""

from __future__ import annotations

from infoae.config import Config
from infoae.methods.infoae import InfoAEMethod
from infoae.methods.method import Method

METHODS: dict[str, Method] = {"infoae": InfoAEMethod()}
"""By the name that a configuration gives."""


def method_of(config: Config) -> Method:
    """Return the method of a configuration."""
    return METHODS[config.method]
