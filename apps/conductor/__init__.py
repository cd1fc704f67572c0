"""Rings bells and sweeps. Acts only on what the rows say. No models."""
