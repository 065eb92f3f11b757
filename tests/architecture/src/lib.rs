//! Checks who may import whom: see `tests/`.
