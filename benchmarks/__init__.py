"""Measurements, each printed as a ratio against a named limit or peer measured in the same run."""
