"""What the extractor's logits mean: one label or several, and when the answer is `unknown`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from bundle.part import ManifestPart, Probability, Share

AnswerKind = Literal["softmax", "sigmoid"]


class UnknownThreshold(ManifestPart):
    """At one sparsity, the best score below which the answer is `unknown`."""

    sparsity: Share
    threshold: Probability


class AnswerFacts(ManifestPart):
    """What the extractor's logits mean.

    ``softmax`` labels exclude each other, ``sigmoid`` labels do not: then each has a probability of
    its own, and a threshold from which on it is there. Logits are divided by ``temperature`` first.
    """

    kind: AnswerKind = "softmax"
    temperature: float = Field(default=1.0, gt=0.0, le=1000.0)
    thresholds: list[Probability] | None = None
    unknown: list[UnknownThreshold] | None = Field(default=None, min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "softmax" and self.thresholds is not None:
            raise ValueError("thresholds are for sigmoid answers, and kind is softmax")
        sparsities = [entry.sparsity for entry in self.unknown or ()]
        if len(set(sparsities)) != len(sparsities):
            raise ValueError("unknown has a sparsity twice")
        return self

    def thresholds_of(self, labels: int) -> list[float]:
        """From which probability on each label is there; 0.5 where nothing is said."""
        return [0.5] * labels if self.thresholds is None else self.thresholds

    def unknown_below(self, sparsity: float) -> float | None:
        """The threshold of the nearest sparsity, of two equally near the denser; None for none."""
        if self.unknown is None:
            return None
        nearest = min(self.unknown, key=lambda at: (abs(at.sparsity - sparsity), at.sparsity))
        return nearest.threshold
