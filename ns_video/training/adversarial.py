"""Loss terms that a network computes: perceptual, adversarial (plain and relativistic average), artifact detector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ns_video.networks.vgg_features import LAYERS, VggFeatures


def perceptual(features: VggFeatures, restored: Tensor, reference: Tensor) -> Tensor:
    """Weighted L1 between VGG-19 features (Johnson et al. 2016; layers as in Real-ESRGAN)."""
    with torch.no_grad():
        wanted = features(reference.float())
    total = restored.new_zeros((), dtype=torch.float32)
    for (_, weight), ours, theirs in zip(LAYERS, features(restored.float()), wanted):
        total = total + weight * F.l1_loss(ours, theirs)
    return total


def _against(logits: Tensor, real: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 1.0 if real else 0.0))


def gan_generator(fake: Sequence[Tensor]) -> Tensor:
    """How far the judges are from taking the restored pictures for real: mean over scales, of logits."""
    return torch.stack([_against(judge.float(), True) for judge in fake]).mean()


def gan_discriminator(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Cross-entropy of the judges themselves, mean over scales, of logits."""
    pairs = [_against(r.float(), True) + _against(f.float(), False) for r, f in zip(real, fake)]
    return torch.stack(pairs).mean() / 2


def ragan_generator(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Relativistic average GAN (Jolicoeur-Martineau 2018): restored should look more real than real ones do."""
    return _relativistic(real, fake, real_wins=False)


def ragan_discriminator(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """The judges' side of `ragan_generator`."""
    return _relativistic(real, fake, real_wins=True)


def _relativistic(real: Sequence[Tensor], fake: Sequence[Tensor], real_wins: bool) -> Tensor:
    terms: list[Tensor] = []
    for r, f in zip(real, fake):
        r, f = r.float(), f.float()
        terms.append((_against(r - f.mean(), real_wins) + _against(f - r.mean(), not real_wins)) / 2)
    return torch.stack(terms).mean()


class ArtifactDetector(nn.Module):
    """Tells damaged pictures from clean ones: (N, 3, H, W) in [0, 1] → (logits (N, 2), features).

    Class 0 is clean, 1 damaged. Its features, compared between restored and reference, weigh what it looks at.
    """

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        widths = (channels, 2 * channels, 4 * channels)
        stages: list[nn.Module] = []
        inputs = 3
        for outputs in widths:
            stages.append(
                nn.Sequential(
                    nn.Conv2d(inputs, outputs, 3, padding=1),
                    nn.LeakyReLU(0.2),
                    nn.Conv2d(outputs, outputs, 4, stride=2, padding=1),
                    nn.LeakyReLU(0.2),
                )
            )
            inputs = outputs
        self.stages = nn.ModuleList(stages)
        self.verdict = nn.Linear(inputs, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.verdict(x.mean((2, 3))), features


def detector_loss(detector: ArtifactDetector, clean: Tensor, damaged: Tensor) -> Tensor:
    """The detector's own cross-entropy on clean and damaged pictures of one size."""
    logits, _ = detector(torch.cat((clean, damaged)))
    labels = torch.cat((torch.zeros(len(clean)), torch.ones(len(damaged)))).long().to(logits.device)
    return F.cross_entropy(logits.float(), labels)


def artifact_terms(detector: ArtifactDetector, restored: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """(cross-entropy of restored pictures being called clean, L1 between features of restored and reference)."""
    logits, ours = detector(restored)
    with torch.no_grad():
        _, theirs = detector(reference)
    labels = torch.zeros(len(restored), dtype=torch.long, device=logits.device)
    distance = torch.stack([F.l1_loss(a.float(), b.float()) for a, b in zip(ours, theirs)]).mean()
    return F.cross_entropy(logits.float(), labels), distance
