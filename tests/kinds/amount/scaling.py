from __future__ import annotations

import torch
from torch import Tensor


def softplus(values: Tensor) -> Tensor:
    """No amount is below 0."""
    return torch.nn.functional.softplus(values)
