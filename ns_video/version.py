"""The version, once. Floor 0."""

__version__ = "0.18.0"
