"""Load tests for a running service: open-loop (Poisson arrivals) and closed-loop (fixed number of clients)."""
