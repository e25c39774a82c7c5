"""The distributional alignment loss: expected targets by optimal transport, and the cross-entropy on them."""

from fairbench.alignment.loss import alignment_loss
from fairbench.alignment.targets import Targets, expected_targets

__all__ = ["Targets", "alignment_loss", "expected_targets"]
