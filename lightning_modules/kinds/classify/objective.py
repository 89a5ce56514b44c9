"""Single-label classification: its columns, head, loss unit and metrics. The LightningModule asks, and knows no more.

Another kind of task is another file with the same members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.kinds.classify.figures import figures


class Classification:
    """Mean NLL over windows, optionally weighted by class; `monitor` tells the best epoch unless a recipe does."""

    columns = ("input_ids", "label")  # of the token table
    monitor = "macro_f1"  # of `Validation.metrics`
    lower_is_better = frozenset({"loss", "nll"})  # of `Validation.metrics`

    def __init__(self, num_classes: int, class_weights: Sequence[float] | None = None) -> None:
        self.num_classes = num_classes
        self.class_weights = (
            None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        )

    @classmethod
    def from_counts(
        cls, counts: Sequence[int], weighting: Literal["none", "balanced"]
    ) -> Classification:
        """balanced: n / (classes * n_class) in windows, as the loss is, with 0 for a class that train does not have."""
        if weighting == "none":
            return cls(len(counts))
        return cls(len(counts), [sum(counts) / (len(counts) * n) if n else 0.0 for n in counts])

    @property
    def head_size(self) -> int:
        return self.num_classes

    def terms(self, windows: int) -> int:
        """N of KL / N: how many terms the mean of `loss` has over the training set."""
        return windows

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

    def validation(self, documents: int) -> Validation:
        """What gathers the batches of a split of so many documents."""
        return Validation(self, documents)


class Validation:
    """A split's figures from its windows, which come in any order: one answer per document, as it is served.

        log p(class | document) = logsumexp_w log p(class | window w) - log W

    Held are one row of C numbers per document (float64), and no window.
    """

    def __init__(self, objective: Classification, documents: int) -> None:
        self.objective = objective
        self.log_sum_DC = np.full((documents, objective.num_classes), -np.inf)
        self.windows_D = np.zeros(documents, np.int64)
        self.labels_D = np.zeros(documents, np.int64)
        self.loss_sum = 0.0

    def add(self, logits_BC: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Windows with their `documents` (B), numbered from 0, and `labels` (B), which are those of the documents."""
        logits, document = logits_BC.float(), batch["documents"].cpu().numpy()
        self.loss_sum += float(self.objective.loss(logits, batch)) * len(document)
        np.logaddexp.at(
            self.log_sum_DC, document, logits.double().log_softmax(dim=-1).cpu().numpy()
        )
        np.add.at(self.windows_D, document, 1)
        self.labels_D[document] = batch["labels"].cpu().numpy()

    def metrics(self) -> dict[str, float]:
        """accuracy, macro_f1 and nll over the documents, as the test split has them; loss over the windows, since that
        is what training minimizes."""
        with np.errstate(
            invalid="ignore"
        ):  # a network that has become NaN has NaN figures; training says what to do
            found = figures(self.labels_D, self.log_sum_DC - np.log(self.windows_D)[:, None])
        of_documents = {name: found[name] for name in ("accuracy", "macro_f1", "nll")}
        return {"loss": self.loss_sum / int(self.windows_D.sum()), **of_documents}
