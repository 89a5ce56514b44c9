"""Where state lives: addresses and credentials, from the environment alone (never part of a recipe
or a cache key).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from data_contracts.urls import netloc_login, shown_url


class Settings(BaseSettings):
    """`NOISEFOLD_HOME`, `NOISEFOLD_ARTIFACTS` and `NOISEFOLD_MLFLOW_UI_URL`; `MLFLOW_TRACKING_URI`
    and `PREFECT_API_URL` keep their own names.
    """

    model_config = SettingsConfigDict(env_prefix="NOISEFOLD_", frozen=True)
    home: Path = Field(default=Path(".noisefold"), description="Folder of all local state.")
    artifacts: str | None = Field(
        default=None, description="fsspec URL of the artifact store; null: <home>/artifacts."
    )
    mlflow_tracking_uri: str | None = Field(
        default=None,
        validation_alias="MLFLOW_TRACKING_URI",
        description="MLflow's store or server; null: SQLite in <home>/mlflow.db.",
    )

    mlflow_ui_url: str | None = Field(
        default=None,
        description="Where browsers find MLflow, if not where runs are sent to; for links.",
    )

    @property
    def root(self) -> Path:
        return self.home.expanduser().resolve()

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def reports(self) -> Path:
        """Pages of runs, as files."""
        return self.root / "reports"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def artifacts_url(self) -> str:
        return self.artifacts or str(self.root / "artifacts")

    @property
    def tracking_uri(self) -> str:
        """Without the login that an http(s) address may hold: see `tracking_login`."""
        given = self.mlflow_tracking_uri or f"sqlite:///{self.root / 'mlflow.db'}"
        return shown_url(given) if given.startswith(("http://", "https://")) else given

    @property
    def tracking_login(self) -> tuple[str, str] | None:
        given = self.mlflow_tracking_uri or ""
        return netloc_login(given) if given.startswith(("http://", "https://")) else None
