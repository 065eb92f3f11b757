//! The HTTP API and the Prometheus endpoint.
