"""Plain weights: nothing is replaced, so folding gives the same network back. The deterministic
baseline.
"""

from __future__ import annotations

from torch import nn

from lightning_modules.reparameterizations.layers import Reparameterized

LAYERS: dict[type[nn.Module], type[Reparameterized]] = {}
