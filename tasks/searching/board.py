"""What a search has come to so far: its trials, the best few with further seeds, the winner, and
what all of it took.
"""

from __future__ import annotations

from contextlib import suppress
from statistics import fmean, stdev

from data_contracts.artifacts import TokenDataset, TrainedModel, ValidatedCorpus
from data_contracts.errors import NoisefoldError
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.search import Search
from data_contracts.recipe.searched import Finalist, Searched, TrialResult
from data_contracts.recipe.sections import WarmStartConfig
from tasks.artifacts.store import ArtifactStore, digest_of
from tasks.ingest import ingest, survey
from tasks.searching.study import Study, spent
from tasks.searching.table import ranked
from tasks.settings import Settings
from tasks.stage import RunContext, looking
from tasks.start import fetched_start, with_tokenizer_of
from tasks.tokenize import tokenize
from tasks.train import train
from tasks.validate import validate


class SearchBoard:
    """The state of a search on some rows.

    Args:
        key: of the search and its rows, see `key_of`.
        command: how a person runs this search again.
    """

    def __init__(
        self, search: Search, corpus: ValidatedCorpus, key: str, settings: Settings, command: str
    ) -> None:
        self.search, self.corpus, self.command = search, corpus, command
        self.study = Study(search, settings.root, key[:12])
        self.ended = ""
        # With further seeds: by trial and seed, the model, or why there is none.
        self.again: dict[int, dict[int, TrainedModel | str]] = {}

    def results(self) -> list[TrialResult]:
        return self.study.results()

    def spent(self) -> float:
        """CPU seconds of all trainings."""
        again = [one for models in self.again.values() for one in models.values()]
        costs = [one.cpu_seconds for one in again if isinstance(one, TrainedModel)]
        return spent(self.results()) + sum(costs)

    def best(self) -> list[TrialResult]:
        """The trials that are trained with all seeds; one alone has nothing to win."""
        seen: dict[str, TrialResult] = {}
        for one in ranked(self.trials()):
            if one.state == "finished":
                seen.setdefault(digest_of(one.overrides), one)
        best = list(seen.values())[: self.search.finalists]
        return best if len(best) > 1 else []

    def kept(self) -> float:
        """CPU seconds that the best so far would take with their other seeds."""
        return sum(one.cpu_seconds for one in self.best()) * (len(self.search.seeds) - 1)

    def goes_on(self, under_way: int) -> bool:
        """Whether the next trial may begin; otherwise `ended` says why not.

        Args:
            under_way: trials that are not over.
        """
        results, search = self.results(), self.search
        costs = [one.cpu_seconds for one in results if one.state == "finished"]
        needed = spent(results) + self.kept() + under_way * (fmean(costs) if costs else 0.0)
        tried = {digest_of(one.overrides) for one in results}
        if len(results) + under_way >= search.trials:
            self.ended = f"It ended at its {search.trials} trials."
        elif len(tried) + under_way >= search.points:
            self.ended = "Every point of the space has been tried."
        elif results and needed >= search.budget_seconds:
            self.ended = f"It ended at its budget of {search.budget}."
        else:
            return True
        return False

    def trials(self) -> Searched:
        """The trials alone."""
        return Searched(
            name=self.search.name,
            kind=self.search.recipe.task.kind,
            figure=self.search.figure,
            better=self.search.by.better,
            command=self.command,
            corpus=self.corpus.digest,
            valid_rows=self.corpus.splits.get("valid", 0),
            trials=tuple(self.results()),
            budget_seconds=self.search.budget_seconds,
        )

    def found(self) -> Searched:
        """All of it: the finalists by their means, and the winner."""
        found = self.trials()
        finalists, seeds = self._finalists()
        first = next((one for one in ranked(found) if one.state == "finished"), None)
        winner = finalists[0].number if finalists else first.number if first else None
        return found.model_copy(
            update={
                "finalists": finalists,
                "seeds": seeds,
                "importance": self.study.importance(),
                "winner": winner,
                "cpu_seconds": round(self.spent(), 1),
                "ended": self.ended,
            }
        )

    def _finalists(self) -> tuple[tuple[Finalist, ...], tuple[int, ...]]:
        """By their means over the seeds that all of them have; one that a seed has failed comes
        last.
        """
        values: dict[int, dict[int, float]] = {}
        failed: dict[int, dict[int, str]] = {}
        for one in self.best():
            values[one.number] = {self.search.seeds[0]: one.value or 0.0}
            for seed, model in self.again.get(one.number, {}).items():
                if isinstance(model, TrainedModel):
                    values[one.number][seed] = model.validation[self.search.figure]
                else:
                    failed.setdefault(one.number, {})[seed] = model
        whole = [known for number, known in values.items() if number not in failed]
        whole = whole or list(values.values())
        seeds = tuple(seed for seed in self.search.seeds if all(seed in known for known in whole))
        found = []
        for number, known in values.items():
            shared = [known[seed] for seed in seeds if seed in known]
            found.append(
                Finalist(
                    number=number,
                    values=known,
                    failed=failed.get(number, {}),
                    mean=fmean(shared),
                    sd=stdev(shared) if len(shared) > 1 else None,
                )
            )
        sign = -1 if self.search.by.better == "higher" else 1
        found.sort(key=lambda one: (bool(one.failed), sign * one.mean, one.number))
        return tuple(found), seeds if found else ()


def key_of(search: Search, corpus: ValidatedCorpus) -> str:
    """Of a search on these rows: its trials are the same wherever it is the same."""
    versions = {one.name: one.version for one in (ingest, validate, tokenize, train)}
    identity = [search.identity_of_search(), search.recipe.identity_of_run()]
    return digest_of("search", identity, corpus.digest, versions)


def finished_search(search: Search, settings: Settings, command: str) -> Searched | None:
    """What there is of a search by now; runs nothing. None where its rows have not been read."""
    store = ArtifactStore(settings.artifacts_url, settings.work)
    run = looking(search.recipe, settings, store)
    raw = ingest.find(run, survey(search.recipe.source))
    corpus = raw and validate.find(run, raw)
    if corpus is None:
        return None
    board = SearchBoard(search, corpus, key_of(search, corpus), settings, command)
    for one in board.best():
        for seed in search.seeds[1:]:
            with suppress(NoisefoldError):  # a model that it starts from is not at hand
                model = _find(run, search.recipe_of(one.overrides, seed), corpus)
                if model is not None:
                    board.again.setdefault(one.number, {})[seed] = model
    return board.found()


def _find(run: RunContext, recipe: Recipe, corpus: ValidatedCorpus) -> TrainedModel | None:
    """A finished training; None where there is none, or it learns from a teacher's answers."""
    start = fetched_start(recipe, run.store)
    if start is None and isinstance(recipe.training.warm_start, WarmStartConfig):
        return None
    if start is not None:
        recipe = with_tokenizer_of(recipe, start)
    own = looking(recipe, run.settings, run.store)
    tokens: TokenDataset | None = tokenize.find(own, corpus)
    if tokens is None or recipe.distillation is not None:
        return None
    return train.find(own, tokens, start)
