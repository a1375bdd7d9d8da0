"""How fast the service answers, measured by the answers."""

# Of the answers that make up the throughput: the last twenty or so.
_FORGETTING = 0.95
# A first guess weighs as much as this number of answers.
_GUESS = 4


class Throughput:
    """Seconds that pass for each second of a price, while there is something to do.

    Below 1 where requests are served side by side or from the cache, above it where something else
    takes part of the machine. Sums of the last answers are divided, rather than their quotients
    averaged: gaps between answers scatter, and an average of ``1 / gap`` follows the shortest.
    """

    def __init__(self) -> None:
        self._passed = self._priced = self._tokens = 0.0

    def guess(self, priced: float, tokens: int) -> None:
        """Requests of this price and this number of tokens are taken to come at a pace of 1."""
        self._passed = self._priced = _GUESS * priced
        self._tokens = float(_GUESS * tokens)

    def measured(self, passed: float, priced: float, tokens: int) -> None:
        """Seconds from one answer to the next, and the price and tokens of what was answered."""
        self._passed = _FORGETTING * self._passed + passed
        self._priced = _FORGETTING * self._priced + priced
        self._tokens = _FORGETTING * self._tokens + tokens

    def seconds(self, priced: float) -> float:
        """Until what has this price is answered; 0 while nothing is known."""
        return priced * self._passed / self._priced if self._priced else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self._tokens / self._passed if self._passed else 0.0
