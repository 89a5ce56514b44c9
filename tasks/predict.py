"""predict: texts through a registered version, by the very file that serves it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from data_contracts.errors import NoisefoldError
from tasks.serve_check import Unservable, fetch_version
from tasks.settings import Settings
from tasks.tracking import connect, quiet_mlflow

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
    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
        try:
            folder = fetch_version(client, name, str(found.version), Path(scratch))
            with quiet_mlflow():
                model = mlflow.pyfunc.load_model(str(folder))
                return model.predict(pd.DataFrame({"text": texts})), str(found.version)
        except (Unservable, ValueError) as error:  # BundleError is a ValueError
            raise NoisefoldError(
                f"{name} version {found.version} cannot be loaded: {error}.",
                "`noisefold history` shows the others; --version chooses one.",
            ) from error
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise NoisefoldError(error.message.rstrip(".") + ".", "Mend the text.") from error


def probabilities(frame: pd.DataFrame) -> pd.DataFrame:
    """The probability columns alone, named by their labels."""
    columns = [column for column in frame.columns if str(column).startswith("probability_")]
    return frame[columns].rename(columns=lambda column: re.sub("^probability_", "", column))
