"""The stage between decode and encode: a model on a device, in a precision, over tiles. Floor 3."""

from __future__ import annotations

from ns_video.enhance.enhancer import Enhancer, load_enhancer
from ns_video.enhance.options import EnhanceOptions
from ns_video.stage import EnhancedFrame

__all__ = ["EnhanceOptions", "EnhancedFrame", "Enhancer", "load_enhancer"]
