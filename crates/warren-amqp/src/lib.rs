//! AMQP 0-9-1 without a socket: bytes to frames and back, and the connection and channel machines.
