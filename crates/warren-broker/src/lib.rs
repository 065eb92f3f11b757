//! The async shells: sockets, connections, channels, routing, sessions, shards; a whole node.
