"""Benchmarks of the operators; `deepthin bench` runs them."""
