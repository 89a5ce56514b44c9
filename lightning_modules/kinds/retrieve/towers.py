"""What a network makes of a batch of questions and answers.

Shapes: B questions, C answers, D size of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor

from lightning_modules.kinds.retrieve.head import RetrieveHead, mean_direction
from lightning_modules.network.network import TextNetwork


def towers(network: TextNetwork, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Vectors (B, D) of a batch's questions and (C, D) of its answers."""
    head = cast(RetrieveHead, network.head)
    asked = network(batch["input_ids"], batch["lengths"])
    questions = mean_direction(asked, batch["question_of"], len(batch["rows"]))
    features = network.features(batch["answer_ids"], batch["answer_lengths"])
    answers = head.of_windows(features, batch["answer_of"], len(batch["numbers"]))
    return questions, answers
