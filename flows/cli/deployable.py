"""What `noisefold deploy` puts on a schedule: a retrain's recipe, or what another flow is described
by.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from data_contracts.errors import NoisefoldError, RecipeError

if TYPE_CHECKING:
    from data_contracts.recipe.asking import AskingRecipe
    from data_contracts.recipe.recipe import Recipe
    from data_contracts.recipe.search import Search
    from tasks.settings import Settings

OF_ROWS = ("score", "queue", "explain", "monitor")  # flows that ask a registered model
FLOWS = ("retrain", *OF_ROWS, "tune")


@dataclass(frozen=True)
class Deployable:
    """What is deployed of which flow.

    Args:
        described: a `Recipe`, a `Search`, or an `AskingRecipe`.
    """

    flow: str
    described: Any

    @property
    def field(self) -> str:
        """The flow's parameter that takes it."""
        return "search" if self.flow == "tune" else "recipe"

    @property
    def rolls(self) -> bool:
        """Whether each run reads other days."""
        described = self.described.recipe if self.flow == "tune" else self.described
        return described.rolling_window is not None

    @property
    def words(self) -> str:
        """What its runs do, for a description."""
        if self.flow == "retrain":
            return f"Retrains the model `{self.described.model_name}`"
        if self.flow == "tune":
            return f"Searches a better recipe for `{self.described.recipe.name}`"
        does = {
            "score": "Answers rows by",
            "queue": "Chooses rows to label by",
            "explain": "Explains the answers of",
            "monitor": "Watches the rows for",
        }[self.flow]
        return f"{does} the model `{self.described.model}`"

    def parameter(self) -> dict[str, Any]:
        """It as JSON: what it says, so that defaults stay those of the version that runs it; whole,
        where that would read as another one.
        """
        kind = type(self.described)
        said = self.described.model_dump(mode="json", exclude_unset=True)
        return (
            said
            if kind.model_validate(said) == self.described
            else self.described.model_dump(mode="json")
        )

    def check(self, settings: Settings) -> None:
        """Look at what its runs need: the first rows of its source, and the model that is asked.

        Raises:
            NoisefoldError: something of that is not there.
        """
        if self.flow in OF_ROWS:
            _check_asked(self.described, settings)
            return
        recipe = self.described.recipe if self.flow == "tune" else self.described
        if recipe.source.kind != "sample":
            from flows.cli.drafts import check_in_terminal

            check_in_terminal(recipe)


def _check_asked(described: AskingRecipe, settings: Settings) -> None:
    from data_contracts.recipe.source import FileSource
    from tasks.sources.files import list_files
    from tasks.tracking.runs import connect
    from tasks.tracking.versions import find_version

    source = described.on(datetime.now().astimezone().date()).source
    if isinstance(source, FileSource):
        list_files(source)
    client, _ = connect(settings)
    find_version(client, described.model, described.version)


def find_deployable(
    flow: str | None, name_or_file: str, overrides: tuple[str, ...], *, is_file: bool
) -> Deployable:
    """By the path of a file, or by the name of a deployment of prefect.yaml.

    Args:
        flow: of which it is; None: a retrain's, where it is a file, and otherwise the deployment's.
    Raises:
        RecipeError: with one line per fault; or a file describes another flow.
    """
    if flow is None:
        flow = "retrain" if is_file else _flow_of(name_or_file)
        if is_file:
            _refuse_other_flows(name_or_file)
    return Deployable(flow, _found(flow, name_or_file, overrides))


def _found(
    flow: str, name_or_file: str, overrides: tuple[str, ...]
) -> Recipe | Search | AskingRecipe:
    from flows.cli.main import find_recipe

    if flow == "retrain":
        return find_recipe(name_or_file, overrides)
    if flow == "tune":
        from flows.cli.tune import find_search

        return find_search(name_or_file, overrides, {})
    from data_contracts.recipe.explain import ExplainRecipe
    from data_contracts.recipe.monitor import MonitorRecipe
    from data_contracts.recipe.queue import QueueRecipe
    from data_contracts.recipe.score import ScoreRecipe
    from flows.cli.asking import find_asking

    kinds: tuple[type[AskingRecipe], ...] = (
        ScoreRecipe,
        QueueRecipe,
        ExplainRecipe,
        MonitorRecipe,
    )
    return find_asking(next(one for one in kinds if one.verb == flow), name_or_file, overrides)


def _flow_of(name: str) -> str:
    from flows.cli.named import flow_of

    flow = flow_of(name) or "retrain"
    if flow not in FLOWS:
        raise NoisefoldError(
            f"The deployment {name} is one of the flow {flow}, which deploy does not know.",
            f"Send it to the server by prefect deploy --name {name}.",
        )
    return flow


def _refuse_other_flows(file: str) -> None:
    """A file that is no retrain's recipe may be any other flow's: they have fields in common."""
    from data_contracts.yaml_text import read_yaml

    content = read_yaml(file)
    if not isinstance(content, dict):
        return
    if isinstance(content.get("model"), str):
        flows = " or ".join((", ".join(OF_ROWS[:-1]), OF_ROWS[-1]))
        raise RecipeError(
            f"{file} describes what a registered model is asked (model: {content['model']}), and "
            "not a retrain.",
            f"Say of which flow it is: --flow {flows}.",
        )
    if "space" in content or "candidates" in content:
        raise RecipeError(f"{file} describes a search, and not a retrain.", "Say so: --flow tune.")
