"""Turning per-frame unit log probabilities into words: language model, lexicon, graph files and decoders."""
