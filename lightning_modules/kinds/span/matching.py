"""How a context matches its question, by token ids alone: features that need no training.

    m_n(t) = 1 where token t stands in n tokens in a row that the question has, too (n to 4)
    d_r(t) = 1/(2r + 1) sum_{|t' - t| <= r} idf(t') m_n(t'), for n of 1 and 2

The first are the exact matches of DrQA (Chen 2017, https://arxiv.org/abs/1704.00051), the others
how densely the question's rarer words stand round a token: what finds the sentence that a question
is about (the sliding window of Richardson 2013, https://aclanthology.org/D13-1020).

Shapes: B rows, T positions, Q of them in front of the context.
This file is shipped inside the registered model: it imports torch and nothing of this repository.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LONGEST = 4  # tokens in a row
_RADII = (4, 12, 32)  # tokens on each side
FEATURES = 1 + _LONGEST + 2 * len(_RADII)


class Parts(NamedTuple):
    """Where question and context stand in a batch of rows."""

    asked_BQ: Tensor  # whether a position is of the question, or the separator behind it
    context_BT: Tensor  # whether it is of the context
    separator_B: Tensor


def parts_of(ids_BT: Tensor, lengths_B: Tensor, sep_id: int, closing: int) -> Parts:
    """A row without a separator is a context behind one token.

    Args:
        closing: special tokens at the end of each row.
    """
    position_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    inside_BT = position_T < (lengths_B - closing).unsqueeze(1)
    # argmax gives the first; of a row that has none, 0.
    separator_B = (ids_BT == sep_id).byte().argmax(dim=1)
    asked_BT = position_T <= separator_B.unsqueeze(1)
    asked_BQ = asked_BT[:, : int(separator_B.max()) + 1]
    return Parts(asked_BQ, inside_BT & ~asked_BT, separator_B)


def match_features(ids_BT: Tensor, parts: Parts, idf_BT: Tensor) -> Tensor:
    """(B, T, FEATURES); 0 outside the context.

    Args:
        idf_BT: how rare each token is, from 0 to 1.
    """
    width = parts.asked_BQ.shape[1]
    position_Q = torch.arange(width, device=ids_BT.device)
    asked_BQ = position_Q < parts.separator_B.unsqueeze(1)
    same_BTQ = ids_BT.unsqueeze(2) == ids_BT[:, None, :width]
    same_BTQ &= asked_BQ.unsqueeze(1) & parts.context_BT.unsqueeze(2)
    matched = [same_BTQ.any(dim=2)]
    run_BTQ = same_BTQ
    for length in range(2, _LONGEST + 1):
        # Runs that end at (t, q), which go on from those one shorter that end before.
        run_BTQ = F.pad(run_BTQ, (1, 0, 1, 0))[:, :-1, :-1] & same_BTQ
        ends_BT = run_BTQ.any(dim=2)
        inside_BT = ends_BT
        for back in range(1, length):
            inside_BT = inside_BT | F.pad(ends_BT, (0, back))[:, back:]
        matched.append(inside_BT)
    rare_BT = idf_BT * matched[0]
    found = [*(one.to(idf_BT.dtype) for one in matched), rare_BT]
    for signal_BT in (rare_BT, idf_BT * matched[1]):
        for radius in _RADII:
            # Zeros round it, so that what pads a row changes nothing.
            found.append(F.avg_pool1d(signal_BT.unsqueeze(1), 2 * radius + 1, 1, radius)[:, 0])
    return torch.stack(found, dim=-1) * parts.context_BT.unsqueeze(-1)


class Matches(nn.Module):
    """The same as a part of a network, so that what it says can be looked at."""

    def forward(self, ids_BT: Tensor, parts: Parts, idf_BT: Tensor) -> Tensor:
        return match_features(ids_BT, parts, idf_BT)
