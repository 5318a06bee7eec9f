"""NS-C, which recommends a model for a picture: torchvision's EfficientNet-B0 with another last layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import efficientnet_b0

from ns_video.errors import ModelError
from ns_video.networks.imagenet import small

ENCODINGS = ("utf-8", "big5", "gbk", "cp950", "latin-1")
"""In which a labels file may be written, tried in this order. The last one takes any bytes."""
MAX_LABELS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class NsCConfig:
    """What can differ between two NsC."""

    classes: int


class NsC(nn.Module):
    """forward(x): (N, 3, 256, 256) normalised as ImageNet → (N, classes) logits.

    Keys are EfficientNet-B0's own (arXiv 1905.11946, torchvision).
    """

    def __init__(self, config: NsCConfig) -> None:
        super().__init__()
        self.config = config
        network = efficientnet_b0(weights=None, num_classes=config.classes)
        self.features = network.features
        self.avgpool = network.avgpool
        self.classifier = network.classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    def probabilities(self, rgb: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] of any size → (N, classes), each row summing to 1."""
        return torch.softmax(self(small(rgb)), 1)


def parse_labels(data: bytes) -> tuple[str, ...]:
    """The classes in a labels file, one a line, stripped; empty lines at the end are no classes."""
    for encoding in ENCODINGS:
        try:
            text = data.removeprefix(b"\xef\xbb\xbf").decode(encoding)
        except UnicodeDecodeError:
            continue
        return tuple(line.strip() for line in text.rstrip().splitlines())
    raise AssertionError("latin-1 decodes any bytes")


def read_labels(path: Path) -> tuple[str, ...]:
    """The classes that the file `path` names. Raises ModelError when it can't be read or names none."""
    try:
        if path.stat().st_size > MAX_LABELS_BYTES:
            raise ModelError(f"labels file {path} is larger than {MAX_LABELS_BYTES} bytes")
        labels = parse_labels(path.read_bytes())
    except OSError as error:
        raise ModelError(f"labels file {path} can't be read: {error.strerror or error}") from error
    if not labels:
        raise ModelError(f"labels file {path} names no class")
    return labels
