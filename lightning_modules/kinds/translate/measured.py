"""What is measured of translations, as columns of evidence and the figures that follow from sums.

Beside chrF, BLEU and NLL an evaluation shows, of the same rows and resamples: what a dictionary
scores, how long translations are, and how far a model knows where it is wrong: the correlation
(Pearson) of a sentence's chrF with its log-probability per token, and chrF without the tenth of the
rows that it is least sure of.

Shapes: N rows, S sums, K columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from lightning_modules.evidence import Evidence, Floats
from lightning_modules.kinds.translate import scores

NATS = ("nats", "target_tokens")  # columns of `scored` that NLL is counted from
DRAWN = "log_probability_drawn"  # the column of what draws of the noise say, per token
LEAST_SURE = 10  # of so many rows, the one that is least sure is left out


@dataclass(frozen=True)
class Measured:
    """N translations beside what is known of them.

    counts: (N, COUNTS) of `scores.Scores`.
    nats: (N, 2) nats and tokens of the targets; None: nobody told.
    floor: (N, COUNTS) of a dictionary's translations.
    sure: by what it is told by, (N,): the more, the surer; empty where nothing tells.
    """

    counts: Floats
    nats: Floats | None = None
    floor: Floats | None = None
    sure: Mapping[str, Floats] = field(default_factory=dict)
    places: dict[str, slice] = field(init=False)

    def __post_init__(self) -> None:
        widths = {
            "own": scores.COUNTS,
            "nats": 0 if self.nats is None else 2,
            "floor": 0 if self.floor is None else scores.COUNTS,
        }
        for name in self.sure:
            widths |= {f"kept{name}": scores.COUNTS, f"moments{name}": 6}
        ends = np.cumsum(list(widths.values())).tolist()
        found = {
            name: slice(end - width, end)
            for (name, width), end in zip(widths.items(), ends, strict=True)
            if width
        }
        object.__setattr__(self, "places", found)

    @property
    def chrf(self) -> Floats:
        """(N,) of each sentence by itself."""
        return scores.chrf(self.counts)

    def evidence(self) -> Evidence:
        parts = [self.counts, self.nats, self.floor]
        for sure in self.sure.values():
            parts += [self.counts * kept(sure)[:, None], _moments(sure, self.chrf)]
        return Evidence(
            np.concatenate([one for one in parts if one is not None], axis=1), self.figures
        )

    def figures(self, sums: Floats) -> dict[str, Floats]:
        """(S,) each, of sums (S, K)."""
        part = {name: sums[:, place] for name, place in self.places.items()}
        found = {"chrf": scores.chrf(part["own"]), "bleu": scores.bleu(part["own"])}
        if "nats" in part:
            found["nll"] = part["nats"][:, 0] / np.maximum(part["nats"][:, 1], 1)
        if "floor" in part:
            found["length_ratio"] = scores.length_ratio(part["own"])
            found["dictionary_chrf"] = scores.chrf(part["floor"])
            found["dictionary_bleu"] = scores.bleu(part["floor"])
        for name in self.sure:
            found[f"sure_and_right{name}"] = _pearson(part[f"moments{name}"])
            found[f"chrf_without_least_sure{name}"] = scores.chrf(part[f"kept{name}"])
        return found


def kept(sure: Floats) -> np.ndarray:
    """(N,) whether a row is not among those that the model is least sure of."""
    found = np.ones(len(sure), bool)
    found[np.argsort(sure, kind="stable")[: len(found) // LEAST_SURE]] = False
    return found


def nats_of(scored: pa.Table) -> Floats | None:
    """(N, 2), where the table has them."""
    if not set(NATS) <= set(scored.column_names):
        return None
    return np.stack([scored[name].to_numpy().astype(np.float64) for name in NATS], axis=1)


def sure_of(scored: pa.Table, chrf: Floats) -> dict[str, Floats]:
    """Log-probability per token: the served model's own (""), and the mean of what draws of its
    noise say of the same translation ("_drawn").

    None of a figure that is the same of every row, or where rows are too few to leave a tenth out.
    """
    tokens = np.maximum(scored["tokens"].to_numpy(), 1)
    found = {"": scored["log_probability"].to_numpy() / tokens}
    if DRAWN in scored.column_names:
        found["_drawn"] = scored[DRAWN].to_numpy()
    if len(tokens) < LEAST_SURE or not np.ptp(chrf) > 0:
        return {}
    return {name: sure for name, sure in found.items() if np.ptp(sure) > 0}


def _moments(x: Floats, y: Floats) -> Floats:
    """(N, 6): 1, x, y, their squares and their product, about the means of all."""
    x, y = x - x.mean(), y - y.mean()
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _pearson(sums: Floats) -> Floats:
    """(S,) of sums (S, 6); NaN where one of both does not vary."""
    n, x, y, xx, yy, xy = sums.T
    spread = np.sqrt(np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0))
    return np.where(spread > 0, (n * xy - x * y) / np.where(spread > 0, spread, 1), np.nan)
