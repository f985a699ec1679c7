"""The name of a bank of wordings, of which carriers that ask in words have two."""

from typing import Literal, TypeAlias

BankName: TypeAlias = Literal["long", "short"]
"""`long` for given models; `short` for a reference with a few thousand parameters."""
