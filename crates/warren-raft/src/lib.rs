//! Raft groups: propose, replicate, apply, snapshot, place and move.
