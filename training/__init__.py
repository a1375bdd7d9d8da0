"""Training: data, targets, losses, loops. The service imports none of it."""

from startup.command import begin_module

begin_module(__name__, "train")
