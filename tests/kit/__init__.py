"""What the suites share: a frame-precise AMQP client, clusters of real processes, and small helpers."""
