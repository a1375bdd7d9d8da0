"""What an operator sees of the service: metrics, logs, and the time of each stage."""
