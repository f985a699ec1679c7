"""The bounded numbers that configs are made of."""

from typing import Annotated, TypeAlias

from pydantic import Field

Count: TypeAlias = Annotated[int, Field(ge=1, lt=2**31)]
Natural: TypeAlias = Annotated[int, Field(ge=0, lt=2**31)]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scale: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
