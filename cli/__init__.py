"""The infoae command: a thin Typer command a file."""
