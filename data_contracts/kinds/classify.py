"""classify: one label of several for each text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from data_contracts.kinds.base import Card, Column, Metric, TaskConfig
from data_contracts.section import Section

if TYPE_CHECKING:
    from data_contracts.contract.contract import DataContract
    from data_contracts.contract.rows import Rows
    from data_contracts.kinds.classify_contract import ClassifyContract
    from data_contracts.recipe.recipe import Recipe
    from data_contracts.recipe.suggest import Choice


class WideFeatures(Section):
    """Hashed n-grams straight to the logits, weighed as TF-IDF does: a linear model that trains
    beside the network (Cheng 2016, https://arxiv.org/abs/1606.07792). The optimizer's group
    `wide` is theirs.
    """

    buckets: int = Field(
        default=500_000,
        ge=16,
        le=50_000_000,
        description="Rows of the table, one column per class.",
    )
    max_n: int = Field(
        default=2, ge=1, le=5, description="Longest n-gram, in tokens; all lengths from 1 are used."
    )
    scale: float = Field(
        default=10.0,
        gt=0,
        le=1000,
        description="Length of a document's vector of weights: how far a step on the table moves "
        "the logits.",
    )
    naive_bayes: bool = Field(
        default=False,
        description="The table is Naive Bayes' log ratios times what is trained (Wang & Manning "
        "2012), so n-grams that tell classes apart by their counts learn faster. The "
        "product is what ships.",
    )
    share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Of these logits in the model's, the network having the rest, and each part a "
        "loss of its own: an ensemble of two in one network. null: the logits add up "
        "and are trained as one.",
    )


class AbstainConfig(Section):
    """Below which probability a served model says that it would rather not have answered; no weight
    depends on it.
    """

    precision: float = Field(
        default=0.95,
        gt=0,
        lt=1,
        description="Share of the answers without `abstain` that are to be right, by the valid "
        "split.",
    )


class ConformalConfig(Section):
    """Sets of labels that hold the true one as often as is said (split conformal prediction, on the
    valid split); no weight depends on them.
    """

    coverage: float = Field(
        default=0.9, gt=0, lt=1, description="Share of the texts whose set holds the true label."
    )
    method: Literal["lac", "aps"] = Field(
        default="lac",
        description="lac: the smallest sets (Sadinle 2019); aps: such as are larger for harder "
        "texts (Romano 2020).",
    )


_PROBABILITY = "probability_"
_points = partial(Metric, scale=100, digits=1, unit="points")


class Classify(TaskConfig):
    """One label of several for each text: a softmax over the labels of the contract."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        _points("macro_f1", "macro-F1", "higher", column="macro-F1", compared=True, headline=True),
        _points(
            *("accuracy", "accuracy", "higher"), column="accuracy", compared=True, headline=True
        ),
        _points("macro_precision", "macro precision", "higher"),
        _points("macro_recall", "macro recall", "higher", headline=True),
        _points("weighted_precision", "weighted precision", "higher"),
        _points("weighted_recall", "weighted recall", "higher"),
        _points("weighted_f1", "weighted F1", "higher"),
        Metric(
            "nll", "NLL (nats)", "lower", unit="nats", column="NLL", compared=True, headline=True
        ),
        Metric("brier", "Brier score", "lower", column="Brier", headline=True),
        _points(
            *("ece", "calibration error (ECE)", "lower"),
            column="ECE",
            headline=True,
            note="ECE over {ece_bins} bins.",
        ),
        _points(
            *("ece_floor", "ECE of a calibrated model", "lower"),
            column="ECE floor",
            note="The ECE floor is what a perfectly calibrated model with the same confidences "
            "would be expected to show on as many rows.",
            shown="comparison",
        ),
        # With task.abstain and task.conformal alone.
        _points("answered", "share of texts answered without abstaining", "higher"),
        _points("selective_accuracy", "accuracy of the texts answered so", "higher"),
        _points("set_coverage", "share of label sets that hold the true label", "higher"),
        Metric("set_size", "mean size of a label set", "lower"),
        _points("precision", "precision", "higher", per="label", shown="page"),
        _points("recall", "recall", "higher", per="label", shown="page"),
        _points("f1", "F1", "higher", per="label"),
    )
    judged: ClassVar[tuple[str, ...]] = (
        "calibrate", "ece_bins", "worst_errors", "abstain", "conformal",
    )  # fmt: skip
    slices: ClassVar[tuple[str, ...]] = ("label",)
    inputs: ClassVar[tuple[Column, ...]] = (Column("text", "string"),)
    model_type: ClassVar[str] = "classifier"
    watched: ClassVar[tuple[str, ...]] = ("label", "entropy")
    words: ClassVar[str] = "Text classifier"
    validated: ClassVar[tuple[str, ...]] = ("macro_f1", "accuracy", "nll")

    kind: Literal["classify"] = "classify"  # pyright: ignore[reportIncompatibleVariableOverride]
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced: n / (classes * n_class), counted in windows, of which the loss is "
        "a mean.",
    )
    calibrate: bool = Field(
        default=False,
        description="Scale the logits of the registered model by a fitted temperature.",
    )
    wide: WideFeatures | None = Field(
        default=None, description="Hashed n-grams straight to the logits; null: none."
    )
    ece_bins: int = Field(
        default=15,
        ge=2,
        le=1000,
        description="Equal-width confidence bins of the calibration error.",
    )
    worst_errors: int = Field(
        default=20, ge=0, le=1000, description="Most confident errors listed in the report."
    )

    abstain: AbstainConfig | None = Field(
        default=None,
        description="Say of which answers the model is not sure enough for a promised precision; "
        "null: it says nothing.",
    )
    conformal: ConformalConfig | None = Field(
        default=None, description="Answer a set of labels beside the label; null: none."
    )

    @property
    def parts(self) -> tuple[str, ...]:
        return ("wide",) if self.wide else ()

    def refusals(self, recipe: Recipe) -> Iterator[str]:
        if self.class_weights != "none" and recipe.distillation is not None:
            yield (
                "task.class_weights weigh labels; beside a teacher's probabilities they must "
                "be none"
            )

    @classmethod
    def suggest(
        cls, rows: Rows, contract: DataContract, backbone: str | None, folder: str | None
    ) -> tuple[str, list[Choice]]:
        from data_contracts.recipe.profile import profile
        from data_contracts.recipe.suggest import suggest

        seen = profile(rows, cast("ClassifyContract", contract))
        head = (
            f"Suggested for {seen.rows:,} texts in {seen.classes} classes (the rarest has "
            f"{seen.rarest:,}), half of them up to {seen.median_tokens} tokens long."
        )
        return head, suggest(seen, backbone, folder)

    @classmethod
    def candidates(
        cls, rows: Rows, contract: DataContract, choices: list[Choice]
    ) -> dict[str, tuple[Choice, ...]]:
        from data_contracts.recipe.candidates import of_classification
        from data_contracts.recipe.profile import profile

        return of_classification(profile(rows, cast("ClassifyContract", contract)), choices)

    def outputs(self, facts: dict[str, Any]) -> tuple[Column, ...]:
        """`label`, and a probability for each; null where there is no text to answer."""
        answers = [
            Column(f"{_PROBABILITY}{one}", "double", required=False) for one in facts["labels"]
        ]
        if self.abstain is not None:
            answers.append(Column("abstain", "boolean", required=False))
        if self.conformal is not None:
            answers.append(Column("label_set", "string", required=False))
        return (Column("label", "string", required=False), *answers)

    undrawn: ClassVar[str] = ""

    @classmethod
    def certainty(
        cls, answers: Mapping[str, Sequence[Any]], draws: Sequence[Mapping[str, Sequence[Any]]]
    ) -> dict[str, list[float]]:
        """`entropy` of the probabilities, in nats; with draws `mutual_information`, the part of it
        that more training rows could take away: the entropy of the draws' mean less the mean of
        their entropies (Houlsby et al. 2011, https://arxiv.org/abs/1112.5745).
        """
        import numpy as np

        def shares(columns: Mapping[str, Sequence[Any]]) -> Any:
            names = [name for name in columns if name.startswith(_PROBABILITY)]
            return np.array([columns[name] for name in names], np.float64).T  # (N, C)

        def entropy(shares_NC: Any) -> Any:
            return -(shares_NC * np.log(np.maximum(shares_NC, 1e-300))).sum(axis=1)

        found = {"entropy": entropy(shares(answers)).tolist()}
        if draws:
            each = [shares(one) for one in draws]
            mean_of_entropies = np.mean([entropy(one) for one in each], axis=0)
            found["mutual_information"] = np.maximum(
                entropy(np.mean(each, axis=0)) - mean_of_entropies, 0.0
            ).tolist()
        return found

    def served_facts(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        """The fitted temperature where it is applied, otherwise 1; and what decides of `abstain`
        and `label_set`, where the model is to answer them.
        """
        applied = measured["temperature_applied"]
        beside = {name: measured.get(name) for name in ("abstain_below", "conformal")}
        return {
            "temperature": measured["temperature"] if applied else 1.0,
            **{name: value for name, value in beside.items() if value is not None},
        }

    def card(self, facts: Mapping[str, Any], measured: Mapping[str, Any]) -> Card:
        labels = tuple(facts["labels"])
        fitted = measured["temperature"]
        if why_not := measured["temperature_why_not"]:
            how = f"No temperature is applied; none could be fitted: {why_not}."
        elif measured["temperature_applied"]:
            how = (
                f"Its logits are divided by {fitted:.3f}, a temperature fitted on the valid split."
            )
        else:
            how = f"No temperature is applied; the one fitted on valid would be {fitted:.3f}."
        if self.abstain is not None:
            how += (
                f" It abstains below a probability of {measured['abstain_below']:.3f}, from which "
                f"on {self.abstain.precision:.0%} of its answers were right on the valid split."
            )
        if self.conformal is not None:
            how += (
                f" Its label sets are to hold the true label of {self.conformal.coverage:.0%} of "
                "the texts, if these are like those of the valid split."
            )
        return Card(
            does=f"Sorts a text into one of {len(labels)} classes",
            parts=labels,
            how=how,
            answers="label, probability_<label> per class",
            windows="their windows' probabilities are averaged",
            limits=(
                "One label per text, from the classes above, also for a text that fits none of "
                "them.",
                "A probability is as good as the calibration error above.",
                "An empty text gets no label.",
            ),
        )

    @classmethod
    def told(cls, answer: Mapping[str, Any]) -> dict[str, Any]:
        """`label`, the probabilities by label, and `abstain` and `label_set` of a model that has
        them.
        """
        shares = {
            name.removeprefix(_PROBABILITY): share
            for name, share in answer.items()
            if name.startswith(_PROBABILITY)
        }
        beside = {name: answer[name] for name in ("abstain", "label_set") if name in answer}
        if answer["label"] is None:
            return {"label": None, "probabilities": None, **beside}
        if "abstain" in beside:
            beside["abstain"] = bool(beside["abstain"])
        if "label_set" in beside:
            beside["label_set"] = json.loads(beside["label_set"])
        rounded = {label: round(float(share), 6) for label, share in shares.items()}
        return {"label": answer["label"], "probabilities": rounded, **beside}

    @classmethod
    def brief(cls, answer: Mapping[str, Any]) -> dict[str, str]:
        """`label`, its probability, and whether the model abstains."""
        beside = {"abstain": ""} if "abstain" in answer else {}
        if answer["label"] is None:
            return {"label": "", "probability": "", **beside}
        if answer.get("abstain"):
            beside = {"abstain": "yes"}
        shares = [share for name, share in answer.items() if name.startswith(_PROBABILITY)]
        best = max(share for share in shares if not math.isnan(share))
        return {"label": answer["label"], "probability": f"{best:.3f}", **beside}
