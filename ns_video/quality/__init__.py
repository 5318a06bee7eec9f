"""Measures of picture quality, one a file. Floor 1: numpy and torch; nothing here opens a file."""
