//! The wire between nodes: gRPC services, peer connections, liveness, deadlines.
