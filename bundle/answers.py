"""What the extractor's logits mean: one label or several, and when the answer is `unknown`."""

from collections.abc import Iterable
from typing import Annotated, Literal, Protocol, Self, TypeVar

from pydantic import Field, model_validator

from bundle.part import ManifestPart, Probability, Share

AnswerKind = Literal["softmax", "sigmoid"]
Temperature = Annotated[float, Field(gt=0.0, le=1000.0)]


class UnknownThreshold(ManifestPart):
    """At one sparsity, the score below which the answer is `unknown`."""

    sparsity: Share
    threshold: Probability


class SparsityTemperature(ManifestPart):
    """At one sparsity, what logits are divided by."""

    sparsity: Share
    temperature: Temperature


class KnownScore(ManifestPart):
    """How sure it is that something happens in a clip that there is a label for.

    A sigmoid of a linear function of the extractor's video vector. Our choice: the vector tells
    what the logits no longer do, and a service computes it without another pass of the network.
    """

    weights: list[float] = Field(min_length=1, max_length=65536)
    bias: float


class AnswerFacts(ManifestPart):
    """What the extractor's logits mean.

    ``softmax`` labels exclude each other, ``sigmoid`` labels do not: then each has a probability of
    its own, and a threshold from which on it is there. Logits are divided by ``temperature`` first,
    or by what ``temperatures`` say of the nearest sparsity. What ``unknown`` compares is the score
    ``known``, or without it the best label's.
    """

    kind: AnswerKind = "softmax"
    temperature: Temperature = 1.0
    temperatures: list[SparsityTemperature] | None = Field(
        default=None, min_length=1, max_length=1000
    )
    thresholds: list[Probability] | None = None
    known: KnownScore | None = None
    unknown: list[UnknownThreshold] | None = Field(default=None, min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "softmax" and self.thresholds is not None:
            raise ValueError("thresholds are for sigmoid answers, and kind is softmax")
        for name, entries in (("temperatures", self.temperatures), ("unknown", self.unknown)):
            sparsities = [entry.sparsity for entry in entries or ()]
            if len(set(sparsities)) != len(sparsities):
                raise ValueError(f"{name} has a sparsity twice")
        if self.known is not None and self.unknown is None:
            raise ValueError("known is a score for the thresholds of unknown, and there are none")
        return self

    def thresholds_of(self, labels: int) -> list[float]:
        """From which probability on each label is there; 0.5 where nothing is said."""
        return [0.5] * labels if self.thresholds is None else self.thresholds

    def unknown_below(self, sparsity: float) -> float | None:
        """The threshold of the nearest sparsity, of two equally near the denser; None for none."""
        return None if self.unknown is None else _nearest(self.unknown, sparsity).threshold

    def temperature_at(self, sparsity: float) -> float:
        """What logits are divided by at a sparsity: the nearest one's, as with thresholds."""
        if self.temperatures is None:
            return self.temperature
        return _nearest(self.temperatures, sparsity).temperature


class _AtSparsity(Protocol):
    @property
    def sparsity(self) -> float: ...


_Entry = TypeVar("_Entry", bound=_AtSparsity)


def _nearest(entries: Iterable[_Entry], sparsity: float) -> _Entry:
    return min(entries, key=lambda at: (abs(at.sparsity - sparsity), at.sparsity))
