"""The error of a bundle that must not be loaded."""


class BundleError(Exception):
    """A bundle that must not be loaded.

    Attributes:
        file: the file at fault, or None when it is the directory itself.
        reason: what is wrong with it, and where it helps, what would be right.
    """

    def __init__(self, file: str | None, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(reason if file is None else f"{file}: {reason}")
