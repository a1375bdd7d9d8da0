"""The base of all parts of ``bundle.json``."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class ManifestPart(BaseModel):
    """An object of the document."""

    # A field that this version does not know may change the meaning of those it does.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
