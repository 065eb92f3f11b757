//! What exists and where it lives: the metadata machine, and routing, permissions and placement computed from it.
