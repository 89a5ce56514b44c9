"""predict: texts through a registered version, by the very file that serves it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from data_contracts.errors import NoisefoldError
from tasks.register import quiet_mlflow
from tasks.settings import Settings
from tasks.tracking import connect

if TYPE_CHECKING:
    import pandas as pd


def predict_texts(settings: Settings, name: str, alias: str, texts: list[str]) -> tuple[pd.DataFrame, str]:
    """Label and probabilities per text, and the version that gave them.

    Args:
        alias: an alias such as champion, or a version number.
    Raises:
        NoisefoldError: where the registry has no such model, alias or version.
    """
    client, _ = connect(settings)
    import mlflow
    import pandas as pd
    from mlflow.exceptions import MlflowException

    try:
        found = (
            client.get_model_version(name, alias) if alias.isdigit() else client.get_model_version_by_alias(name, alias)
        )
    except MlflowException as error:
        known = sorted(model.name for model in client.search_registered_models())
        there = f"The registry has {', '.join(known)}." if known else "The registry is empty."
        raise NoisefoldError(
            f"There is no {alias} of a model named {name}. {there}",
            "`noisefold retrain` makes one; --model and --version choose another.",
        ) from error
    with quiet_mlflow():
        model = mlflow.pyfunc.load_model(f"models:/{name}/{found.version}")
        return model.predict(pd.DataFrame({"text": texts})), str(found.version)


def probabilities(frame: pd.DataFrame) -> pd.DataFrame:
    """The probability columns alone, named by their labels."""
    columns = [column for column in frame.columns if str(column).startswith("probability_")]
    return frame[columns].rename(columns=lambda column: re.sub("^probability_", "", column))
