"""Sweeps of the loss weights, or of any other setting, with Ray Tune."""
