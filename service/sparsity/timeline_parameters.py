"""The parameters of what goes through a long video."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from service.sparsity.parameters import Accepts, Boolean, ChoiceParameters, number

SHORTEST_WINDOW, LONGEST_WINDOW = 0.1, 600
DEFAULT_THRESHOLD = 0.5

_Length = Annotated[
    Annotated[float, Field(ge=SHORTEST_WINDOW, le=LONGEST_WINDOW), BeforeValidator(number)] | None,
    Accepts(f"seconds from {SHORTEST_WINDOW} to {LONGEST_WINDOW}"),
]


class TimelineParameters(ChoiceParameters):
    """What may be told to what goes through a long video; each window is a clip of one view."""

    left_out: ClassVar[frozenset[str]] = frozenset({"views", "budget_ms"})

    window: _Length = Field(
        None,
        description="Seconds of one window, over which its frames are spread. When it is not "
        "given, as long as the clips are that the bundle was made for: 2, unless the service is "
        "set otherwise.",
        examples=[2.0],
    )
    stride: _Length = Field(
        None,
        description="Seconds from the beginning of one window to that of the next, and so how "
        "finely a segment's ends are told. Half a window when it is not given.",
        examples=[1.0],
    )
    threshold: Annotated[
        Annotated[float, Field(ge=0, le=1), BeforeValidator(number)] | None,
        Accepts("a number from 0 to 1"),
    ] = Field(
        None,
        description="The score from which on a label makes a segment: the best label of a window, "
        "and each label where labels do not exclude each other. When it is not given, "
        f"{DEFAULT_THRESHOLD:g}, or the bundle's own threshold of each label.",
        examples=[DEFAULT_THRESHOLD],
    )
    windows: Annotated[Literal["all", "auto"], Accepts("all or auto")] = Field(
        "all",
        description="Which windows the extractor looks at. `auto`: those in which the selector's "
        "scores propose that something happens, at most half of them; the time of others goes to "
        "windows beside them that saw it. `all` when it is not given.",
        examples=["auto"],
    )
    cuts: Boolean = Field(
        True,
        description="Look for hard cuts, and place windows within the shots between them: from a "
        "shot's beginning on, the last one ending with it; a shot that is shorter than a window is "
        "one. False lets windows slide over cuts. True when it is not given.",
        examples=[False],
    )
    detail: Annotated[Literal["segments", "windows"], Accepts("segments or windows")] = Field(
        "windows",
        description="`windows` answers a line for each window besides the segments; `segments` "
        "leaves them out. `windows` when it is not given.",
        examples=["segments"],
    )

    @property
    def proposes(self) -> bool:
        return self.windows == "auto"


class LiveParameters(TimelineParameters):
    """What may be told to what watches a stream."""

    left_out: ClassVar[frozenset[str]] = TimelineParameters.left_out | {"start", "end", "windows"}

    detail: Annotated[Literal["segments", "windows"], Accepts("segments or windows")] = Field(
        "segments",
        description="`windows` answers a line for each window besides events and segments. "
        "`segments`, which leaves them out, when it is not given.",
        examples=["windows"],
    )
