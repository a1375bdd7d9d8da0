"""Training: data, targets, losses, loops. The service imports none of it."""
