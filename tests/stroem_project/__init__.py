"""The settings file: read, checked, frozen."""
