"""Single-label classification: its columns, head, loss unit and metrics. The LightningModule asks, and knows no more.

Another kind of task is another file with the same members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score


class Classification:
    """Mean NLL over windows, optionally weighted by class; `monitor` tells the best epoch unless a recipe does."""

    columns = ("input_ids", "label")  # of the token table
    monitor = "macro_f1"  # of `metrics`
    lower_is_better = frozenset({"loss", "nll"})  # of `metrics`

    def __init__(self, num_classes: int, class_weights: Sequence[float] | None = None) -> None:
        self.num_classes = num_classes
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)

    @classmethod
    def from_counts(cls, counts: Sequence[int], weighting: Literal["none", "balanced"]) -> Classification:
        """balanced: n / (classes * n_class), with 0 for a class that the train split does not have."""
        if weighting == "none":
            return cls(len(counts))
        return cls(len(counts), [sum(counts) / (len(counts) * n) if n else 0.0 for n in counts])

    @property
    def head_size(self) -> int:
        return self.num_classes

    def terms(self, rows: int) -> int:
        """N of KL / N: how many terms the mean of `loss` has over the training set."""
        return rows

    def loss(self, logits_BC: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """mean_i w(y_i) * -log p(y_i | x_i); where a teacher gives row i a distribution t_i, mean_i -t_i log p_i.

        Divided by the number of rows and not by the sum of their weights, as torch's weighted mean would: so that each
        row counts the same in whichever batch it falls.
        """
        labels = batch["labels"]
        if "targets" in batch:
            return F.cross_entropy(logits_BC, batch["targets"])
        if self.class_weights is None:
            return F.cross_entropy(logits_BC, labels)
        weights = self.class_weights.to(logits_BC.device)
        return F.cross_entropy(logits_BC, labels, weight=weights, reduction="sum") / len(labels)

    def metrics(self, logits_NC: Tensor, labels_N: Tensor) -> dict[str, float]:
        """accuracy, macro_f1 (over the classes that occur), nll and loss (the weighted mean) of a whole split."""
        predicted = logits_NC.argmax(dim=-1)
        count = self.num_classes
        return {
            "loss": float(self.loss(logits_NC, {"labels": labels_N})),
            "accuracy": float(multiclass_accuracy(predicted, labels_N, num_classes=count, average="micro")),
            "macro_f1": float(multiclass_f1_score(predicted, labels_N, num_classes=count, average="macro")),
            "nll": float(F.cross_entropy(logits_NC, labels_N)),
        }
