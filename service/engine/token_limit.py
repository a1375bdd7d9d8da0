"""How many tokens one run may have: as configured, or fewer after the device ran out of memory."""


class TokenLimit:
    """Shrinks at once when memory runs out, and grows back slowly while runs succeed.

    Halving and growing by equal steps is how TCP finds a rate that nobody tells it, and memory is
    shared with strangers in the same way. The step is our choice: a sixty-fourth, so that the full
    size is tried again after some dozens of full runs, not in the next one.

    Args:
        configured: tokens of the largest run.
        smallest: tokens of one dense row: below that no limit helps, a row is never split.
    """

    def __init__(self, configured: int, smallest: int) -> None:
        self._configured, self._smallest = configured, min(configured, smallest)
        self._step = max(1, configured // 64)
        self.tokens = configured

    def failed(self, tokens: int) -> None:
        """A run of this number of tokens found no memory."""
        self.tokens = max(self._smallest, min(self.tokens, tokens) // 2)

    def succeeded(self, tokens: int) -> None:
        """A run of this number of tokens went well; only one near the limit says much about it."""
        if self.tokens < self._configured and tokens > self.tokens // 2:
            self.tokens = min(self._configured, self.tokens + self._step)
