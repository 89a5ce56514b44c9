-- Prefect's database is made by the image; MLflow has one of its own.
CREATE DATABASE mlflow;
