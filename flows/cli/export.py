"""The command `noisefold export`. Light: the command line imports it."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--model",
    metavar="NAME",
    help="Registered model; without it noisefold-sample, or the only one that there is.",
)
@click.option(
    "--version", "alias", default="champion", show_default=True, help="Alias or version number."
)
@click.option("--onnx", is_flag=True, default=True, help="The format; there is one so far.")
@click.option("--int8", is_flag=True, help="Weights of 8 bits: smaller, and not quite the same.")
@click.option("--output", "-o", required=True, metavar="FOLDER", help="A new folder for it.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON object.")
def export(
    model: str | None, alias: str, onnx: bool, int8: bool, output: str, as_json: bool
) -> None:
    """Write a version as an ONNX model that is served without torch.

    \b
    noisefold export --onnx --output sample-onnx
    mlflow models serve --model-uri sample-onnx --env-manager local

    What is written is asked the version's test rows, by a process of its own: in float32 it gives
    the same probabilities to 1e-5, or is not written; with --int8 it is told how many rows have the
    same answer.
    """
    from flows.cli.exported import export_in_terminal

    export_in_terminal((model, alias), output, int8=int8, as_json=as_json)
