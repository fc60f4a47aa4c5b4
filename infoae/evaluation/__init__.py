"""How good a model is: measures with and without labels, what looks wrong, figures."""
