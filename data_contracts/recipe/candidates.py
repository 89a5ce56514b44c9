"""What is worth measuring beside a suggested recipe: the few changes of which studies found now
one, now another ahead (`docs/method.md`, `benchmarks/results/`).

A candidate is what it changes of the suggestion, each change with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_contracts.recipe.profile import Profile
from data_contracts.recipe.suggest import Choice

SUGGESTED = "as suggested"
Candidates = dict[str, tuple[Choice, ...]]
_METHODS = {
    "noise": {"dropout": 0.0, "reparameterization": {"kind": "multiplicative_noise"}},
    "dropout": {"dropout": 0.5, "reparameterization": {"kind": "none"}},
}


def of_any_kind(choices: Sequence[Choice]) -> Candidates:
    """The suggestion, and another regularizer in place of its own; of weights that are given and
    frozen, whether their factors have noise.
    """
    model = fields_of(choices).get("model", {})
    if (method := model.get("reparameterization", {})).get("kind") == "low_rank":
        plain = {name: value for name, value in method.items() if name != "noise"}
        noisy = {**plain, "noise": {"kind": "multiplicative_noise"}}
        other = plain if "noise" in method else noisy
        name = "low rank without noise" if "noise" in method else "low rank with noise"
        return {SUGGESTED: (), name: (Choice("model", {"reparameterization": other}, name),)}
    usual = {"reparameterization": {"kind": "multiplicative_noise"}, "dropout": 0.0}
    own = {name: model.get(name, usual[name]) for name in usual}
    return {
        SUGGESTED: (),
        **{
            name: (Choice("model", fields, name),)
            for name, fields in _METHODS.items()
            if fields != own
        },
    }


def of_classification(seen: Profile, choices: Sequence[Choice]) -> Candidates:
    """N-grams beside the network in each of their ways, and almost alone; another encoder; another
    regularizer. In the order in which a small budget is best spent.
    """
    chosen = fields_of(choices)
    model, task = chosen.get("model", {}), chosen.get("task", {})
    methods = of_any_kind(choices)
    if "path" in model.get("encoder", {}):
        return methods | ({} if "wide" in task else {"n-grams beside": (_wide(seen, share=0.4),)})
    found: Candidates = {
        SUGGESTED: (),
        "n-grams almost alone": (_wide(seen), _NO_VECTORS, _SMALL),
        "two in one": (_wide(seen, scale=8.0, naive_bayes=True, share=0.5),),
    }
    short = model.get("encoder", {}).get("kind") != "tanh"
    other: dict[str, Any] = {"kind": "tanh"} if short else {"kind": "bilstm_attention"}
    found[f"{other['kind']} encoder"] = (
        Choice("model", {"encoder": other}, "Another encoder than the suggested one."),
    )
    found |= {name: change for name, change in methods.items() if name != SUGGESTED}
    found["n-grams to the logits"] = (_wide(seen), _NO_VECTORS)
    if seen.classes == 2:
        found["log ratios"] = (_wide(seen, scale=5.0, naive_bayes=True), _NO_VECTORS)
    return found


_NO_VECTORS = Choice("model", {"ngrams": None}, "Without n-grams as vectors.")
_SMALL = Choice(
    "model",
    {"embedding": {"size": 16}, "encoder": {"kind": "tanh", "hidden_size": 16}},
    "A network of 16 units beside them.",
)


def _wide(seen: Profile, **more: Any) -> Choice:
    from data_contracts.recipe.suggest import buckets

    fields = {"buckets": buckets(seen), "max_n": 3 if seen.han else 2, **more}
    return Choice("task", {"wide": fields}, "N-grams straight to the logits.")


def fields_of(choices: Iterable[Choice]) -> dict[str, dict[str, Any]]:
    """What choices come to, by section."""
    found: dict[str, dict[str, Any]] = {}
    for one in choices:
        found.setdefault(one.section, {}).update(one.fields)
    return found


def overrides_of(change: Iterable[Choice]) -> dict[str, Any]:
    """A candidate's changes by dotted field."""
    return {
        f"{section}.{name}": value
        for section, fields in fields_of(change).items()
        for name, value in fields.items()
    }


def space_of(rate: float, dropout: float) -> dict[str, list[Any]]:
    """What is drawn with the budget that the candidates leave: values that a person would write.

    Args:
        rate, dropout: the suggestion's own.
    """
    rates = [float(f"{rate * factor:.3g}") for factor in (0.25, 0.5, 1, 2)]
    return {
        "training.learning_rate": [one if one != rates[2] else rate for one in rates],
        "model.dropout": sorted({dropout, 0.0, 0.25, 0.5}),
    }


def settled(choices: Sequence[Choice], changed: Mapping[str, Any], why: str) -> list[Choice]:
    """The suggestion as a measurement has left it: what it changes, for the reason that it was
    measured, and what it leaves of the rest.

    Args:
        changed: by dotted field of a section.
    """
    sections: dict[str, dict[str, Any]] = {}
    for dotted, value in changed.items():
        section, _, name = dotted.partition(".")
        sections.setdefault(section, {})[name] = value
    kept = [
        Choice(one.section, fields, one.reason)
        for one in choices
        if (fields := _without(one.fields, sections.get(one.section, {})))
    ]
    return [*kept, *(Choice(section, fields, why) for section, fields in sections.items())]


def _without(fields: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in changed}
