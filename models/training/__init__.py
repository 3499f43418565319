"""Training of the speech models (extra `train`: needs PyTorch)."""
