from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer
from torch import Tensor

from lightning_modules.kinds.base import Loss, Objective, token_rows
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.windows import Windowing
from tests.kinds.amount.config import Amount

if TYPE_CHECKING:
    from lightning_modules.training.data import TokenTable


class AmountObjective(Objective):
    """Squared error of each window: a Gaussian's nats, up to a constant."""

    kind: ClassVar[str] = "amount"
    token_schema: ClassVar[pa.Schema] = pa.schema([("amount", pa.float32())])
    task: Amount

    def texts(self, rows: pa.Table) -> Iterator[str]:
        yield from rows["said"].to_pylist()

    def encode(self, rows: pa.Table, tokenizer: Tokenizer, windowing: Windowing) -> pa.Table:
        table, document = token_rows(rows["id"], rows["said"].to_pylist(), tokenizer, windowing)
        amounts = rows["amount"].cast(pa.float64()).to_numpy()[document] / self.task.scale
        column = pa.array(amounts, pa.float32())
        return table.append_column(self.token_schema.field("amount"), column)

    def head(self) -> dict[str, Any]:
        return {}

    def loss(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> Loss:
        said = network(batch["input_ids"], batch["lengths"])
        return Loss((said - batch["amount"]).square().sum(), len(said))

    def validation(self, table: TokenTable) -> Errors:
        return Errors()

    def served(self) -> dict[str, Any]:
        return {"scale": self.task.scale}


class Errors:
    def __init__(self) -> None:
        self.squares: list[np.ndarray] = []

    def add(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> None:
        said = network(batch["input_ids"], batch["lengths"])
        self.squares.append((said - batch["amount"]).square().cpu().numpy())

    def metrics(self) -> dict[str, float]:
        error = float(np.concatenate(self.squares).mean())
        return {"loss": error, "squared_error": error}
