"""Comparisons of the compression methods with other programs."""
