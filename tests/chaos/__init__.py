"""Breaks a real cluster on purpose, records what its clients saw, and judges the record. See README.md."""
