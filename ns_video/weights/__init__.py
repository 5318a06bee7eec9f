"""Weights files: name or file → `Descriptor`, and back. Floor 2; the only owner of safetensors and spandrel."""

from __future__ import annotations

from ns_video.cards import Card, write_card
from ns_video.weights.descriptor import Descriptor
from ns_video.weights.load import list_models, load_descriptor, load_weights
from ns_video.weights.read import WeightsFile
from ns_video.weights.save import Metadata, save_model

__all__ = [
    "Card",
    "Descriptor",
    "Metadata",
    "WeightsFile",
    "list_models",
    "load_descriptor",
    "load_weights",
    "save_model",
    "write_card",
]
