"""Load tests of a running service: open-loop (Poisson) and closed-loop load, jobs beside it, and what to expect."""
