"""Several processes that train one model: what they share, sum and agree on. No Ray here."""
