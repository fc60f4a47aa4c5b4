"""What tests measure, which `pytest --measured FILE` writes down."""

from __future__ import annotations

from collections.abc import Callable

Measured = Callable[[str, object], None]
"""pytest's `record_property`."""
