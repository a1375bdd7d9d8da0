"""What makes an import impossible."""


class ImportRefused(Exception):
    """A checkpoint that does not become a bundle; the text says what is wrong and what to do."""
