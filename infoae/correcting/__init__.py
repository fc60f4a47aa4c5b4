"""A run as a person corrects it: what corrections.json of the gallery says becomes a new run."""
