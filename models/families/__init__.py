"""The speech networks, one file per family (extra `train`: needs PyTorch)."""
