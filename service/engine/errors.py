"""What the engine raises."""


class EngineError(Exception):
    """The engine cannot be used as the settings ask; the text says why and what to do."""


class DeadlinePassed(Exception):
    """A job's deadline passed before it was run."""
