//! The living half of a shard: the policy its leader runs in memory, and both ends of the session that feeds it.
