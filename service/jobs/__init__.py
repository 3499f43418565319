"""Compression jobs: kept in SQLite, run by one worker process at a time, picked up again after any crash."""
