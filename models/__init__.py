"""Compression methods, speech models, training, model packages and bundled models."""
