"""The distributional alignment loss: expected targets by optimal transport, and the cross-entropy on them."""
