"""Single-label classification: a softmax over the labels, learnt from rows' own labels or from a
teacher's words.

Shapes: B rows of a batch, C classes, D documents, G n-grams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from data_contracts.errors import TrainingError
from data_contracts.kinds.classify import Classify
from lightning_modules.kinds.base import Batch, Encode, Loss, Objective, SharedTokens, token_rows
from lightning_modules.kinds.classify.answering import log_proba
from lightning_modules.kinds.classify.figures import apply_temperature, figures
from lightning_modules.kinds.classify.head import ClassifyHead
from lightning_modules.kinds.classify.naive_bayes import RatioTable, log_ratios
from lightning_modules.kinds.classify.soft_targets import LESSONS, write_soft_targets
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.windows import Windowing

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle
    from lightning_modules.training.data import TokenTable

PLAIN_EPSILON = 1e-8  # AdamW's own


class Classification(Objective):
    """NLL summed over windows, optionally weighted by class.

    `facts["labels"]`: the label of each class. `class_weights` (C) are counted by `prepare`.
    """

    kind: ClassVar[str] = "classify"
    token_schema: ClassVar[pa.Schema] = pa.schema([("label", pa.int32())])
    task: Classify

    def __init__(self, task: Classify, facts: Mapping[str, Any]) -> None:
        super().__init__(task, facts)
        self.labels: tuple[str, ...] = tuple(facts["labels"])
        self.class_weights: Tensor | None = None

    @property
    def num_classes(self) -> int:
        return len(self.labels)

    def texts(self, rows: pa.Table) -> Iterator[str]:
        yield from rows["text"].to_pylist()

    def encode(self, rows: pa.Table, tokenizer: Tokenizer, windowing: Windowing) -> pa.Table:
        table, document = token_rows(rows["id"], rows["text"].to_pylist(), tokenizer, windowing)
        class_of = {label: index for index, label in enumerate(self.labels)}
        classes = np.array([class_of[label] for label in rows["label"].to_pylist()], np.int32)
        return table.append_column(self.token_schema.field("label"), pa.array(classes[document]))

    def head(self) -> dict[str, Any]:
        wide = self.task.wide
        return {
            "wide": wide and {"buckets": wide.buckets, "max_n": wide.max_n, "scale": wide.scale},
            "num_classes": self.num_classes,
        }

    def check(self) -> None:
        if self.num_classes < 2:
            raise TrainingError(
                "The train split has one label only.",
                "A classifier needs two or more; check the contract.",
            )

    def prepare(self, train: TokenTable) -> None:
        counts = np.bincount(train.columns["label"][train.given], minlength=self.num_classes)
        present = [label for label, count in zip(self.labels, counts, strict=True) if count]
        if len(present) < 2:
            raise TrainingError(
                f"The train split holds one class only ({present[0]!r}), so there is nothing to "
                f"tell apart.",
                "Check the label column of the source and the labels of the contract.",
            )
        if self.task.class_weights == "balanced":
            self.class_weights = balanced_weights(counts)

    def weigh(self, network: TextNetwork, batches: Callable[[], Iterator[Batch]]) -> None:
        if (wide := _head(network).wide) is not None:
            wide.weigh((one["input_ids"], one["lengths"]) for one in batches())

    def wrap(self, network: TextNetwork, batches: Callable[[], Iterator[Batch]]) -> None:
        wide = _head(network).wide
        if wide is not None and self.task.wide is not None and self.task.wide.naive_bayes:
            rows = ((one["input_ids"], one["lengths"], one["labels"]) for one in batches())
            wide.table = RatioTable(wide.table, log_ratios(wide, rows))

    def carry_over(self, network: TextNetwork, source: Bundle, tokens: SharedTokens) -> set[str]:
        """The decoder row by row, matched by label; rows without a match keep their fresh values.

        A bucket of n-grams means the same only where every token has the id it had, and its row
        only where the labels are the same.
        """
        if source.kind != self.kind:
            return set()
        old_labels = tuple(source.facts["labels"])
        pairs = [
            (new, old_labels.index(label))
            for new, label in enumerate(self.labels)
            if label in old_labels
        ]
        head, old_head = network.head, source.network.head
        sizes, old_sizes = head.describe().get("wide"), old_head.describe().get("wide")
        same_table = tokens.same and sizes == old_sizes and self.labels == old_labels
        taken: set[str] = set()
        old_state = old_head.state_dict()
        for name, tensor in head.state_dict().items():
            old = old_state.get(name)
            if old is None or old.shape[1:] != tensor.shape[1:]:
                continue
            if name.startswith("decoder."):
                if pairs:
                    to, of = torch.tensor(pairs).T
                    tensor[to] = old[of]
                    taken.add(name)
            elif same_table and old.shape == tensor.shape:
                tensor.copy_(old)
                taken.add(name)
        return taken

    def batch(self, table: TokenTable, rows: np.ndarray) -> Batch:
        """Also `labels` (B), and `targets` (B, C) where a teacher has said what to learn of each
        row.
        """
        batch = table.batch(rows)
        batch["labels"] = batch.pop("label")
        return batch

    def nats(self, logits_BC: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """sum_i w(y_i) * -log p(y_i | x_i); where a teacher gives row i a distribution t_i, sum_i
        -t_i log p_i.

        Its mean is over the rows and not over their weights, as torch's weighted mean would be: so
        that each row counts the same in whichever batch it falls.
        """
        if "targets" in batch:
            return F.cross_entropy(logits_BC, batch["targets"], reduction="sum")
        weights = None if self.class_weights is None else self.class_weights.to(logits_BC.device)
        return F.cross_entropy(logits_BC, batch["labels"], weight=weights, reduction="sum")

    def loss(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> Loss:
        """The model's NLL, or, with `wide.share`, the sum of those of its parts, each by itself.

        With logits = (1 - s) f + s g, f and g are ELBOs of their own, as they would be in two
        trainings.
        """
        ids, lengths = batch["input_ids"], batch["lengths"]
        share = self.task.wide and self.task.wide.share
        if share is None:
            return Loss(self.nats(network(ids, lengths), batch), len(lengths))
        deep, wide = _head(network).parts(network.features(ids, lengths), ids, lengths)
        assert wide is not None  # it has a share
        own = self.nats(deep / (1 - share), batch) + self.nats(wide / share, batch)
        return Loss(own, len(lengths), self.nats((deep + wide).detach(), batch))

    def validation(self, table: TokenTable) -> ClassifyValidation:
        return ClassifyValidation(self, table.num_documents)

    def served(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "temperature": 1.0}

    def cannot_teach(self, bundle: Bundle) -> str | None:
        if bundle.kind != self.kind:
            return f"is of kind {bundle.kind}, the recipe's task of kind {self.kind}"
        unknown = sorted(set(self.labels) - set(bundle.facts["labels"]))
        if not unknown:
            return None
        more = f" and {len(unknown) - 1} more of the contract's" if len(unknown) > 1 else ""
        return f"does not know the label {unknown[0]!r}{more}"

    def answered(self, bundle: Bundle, asked: pa.Table) -> pa.Table:
        """`log_proba` (C) among the labels of the contract."""
        columns = [bundle.facts["labels"].index(label) for label in self.labels]
        plain = log_proba(bundle, asked["text"].to_pylist())[:, columns]
        says = apply_temperature(plain, bundle.facts["temperature"]).astype(np.float32)
        return asked.append_column(LESSONS.field("log_proba"), [list(says)])

    def teaching(self, train: pa.Table, answered: Iterable[pa.Table]) -> dict[str, float]:
        """`agreement`: share of the train rows that the teacher labels as they are; `confidence`:
        mean of its highest probability over the texts made up, or, without any, over the rows."""
        class_of = {label: index for index, label in enumerate(self.labels)}
        truth = np.array([class_of[label] for label in train["label"].to_pylist()])
        right, done = 0, 0
        sure = {True: [0, 0.0], False: [0, 0.0]}  # of the rows themselves: how many, and the sum
        for table in answered:
            flat = table["log_proba"].combine_chunks().flatten().to_numpy()
            proba = np.exp(flat.reshape(-1, self.num_classes))
            own = table["variant"].to_numpy() == 0
            says = proba[own].argmax(axis=1)
            right += int((says == truth[done : done + len(says)]).sum())
            done += len(says)
            for is_own, some in ((True, own), (False, ~own)):
                sure[is_own][0] += int(some.sum())
                sure[is_own][1] += float(proba[some].max(axis=1).sum())
        count, total = sure[False] if sure[False][0] else sure[True]
        return {"agreement": right / len(truth), "confidence": total / count}

    def soften(self, train: Path, lessons: Path, weight: float, encode: Encode, out: Path) -> None:
        write_soft_targets(train, lessons, encode, self.num_classes, weight, out)


def _head(network: TextNetwork) -> ClassifyHead:
    return cast(ClassifyHead, network.head)


def balanced_weights(counts: np.ndarray) -> Tensor:
    """n / (classes * n_class) in windows, as the loss is, with 0 for a class that has none."""
    total = int(counts.sum())
    weights = [total / (len(counts) * int(count)) if count else 0.0 for count in counts]
    return torch.tensor(weights, dtype=torch.float32)


class ClassifyValidation:
    """A split's figures from its windows, which come in any order: one answer per document, as it
    is served.

        log p(class | document) = logsumexp_w log p(class | window w) - log W

    Held are one row of C numbers per document (float64), and no window.
    """

    def __init__(self, objective: Classification, documents: int) -> None:
        self.objective = objective
        self.log_sum_DC = np.full((documents, objective.num_classes), -np.inf)
        self.windows_D = np.zeros(documents, np.int64)
        self.labels_D = np.zeros(documents, np.int64)
        self.loss_sum = 0.0

    def add(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> None:
        """Windows with their `documents` (B), numbered from 0, and `labels` (B), which are those of
        the documents.
        """
        self.add_logits(network(batch["input_ids"], batch["lengths"]), batch)

    def add_logits(self, logits_BC: Tensor, batch: Mapping[str, Tensor]) -> None:
        """The same of what the network has made of them."""
        logits = logits_BC.float()
        document = batch["documents"].cpu().numpy()
        # By way of the batch's mean, in float32 as a training step has it, and then summed in
        # float64.
        mean = self.objective.nats(logits, batch) / len(document)
        self.loss_sum += float(mean) * len(document)
        log_proba = logits.double().log_softmax(dim=-1).cpu().numpy()
        np.logaddexp.at(self.log_sum_DC, document, log_proba)
        np.add.at(self.windows_D, document, 1)
        self.labels_D[document] = batch["labels"].cpu().numpy()

    def metrics(self) -> dict[str, float]:
        """accuracy, macro_f1 and nll over the documents, as the test split has them; loss over the
        windows, since that is what training minimizes."""
        # A network that has become NaN has NaN figures; training says what to do.
        with np.errstate(invalid="ignore"):
            found = figures(self.labels_D, self.log_sum_DC - np.log(self.windows_D)[:, None])
        of_documents = {name: found[name] for name in ("accuracy", "macro_f1", "nll")}
        return {"loss": self.loss_sum / int(self.windows_D.sum()), **of_documents}
