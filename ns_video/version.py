"""The version, once. Floor 0."""

__version__ = "0.17.0"
