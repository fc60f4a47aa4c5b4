"""The version, for the package, its wheel and every file that says what made it."""

__version__ = "0.2.0"
