"""Rings bells and sweeps. Decides nothing that the rows do not already say. No models."""
