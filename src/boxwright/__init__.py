"""Boxwright: one OCI bundle, three kinds of box."""

__version__ = "0.1.0"
