"""The command `noisefold explain`. Light: the command line imports it."""

from __future__ import annotations

import click


@click.command()
@click.argument("texts", nargs=-1)
@click.option(
    "--model",
    metavar="NAME",
    help="Registered model; without it noisefold-sample, or the only one that there is.",
)
@click.option(
    "--version", "alias", default="champion", show_default=True, help="Alias or version number."
)
@click.option(
    "--target",
    metavar="ANSWER",
    help="Explain this in place of the model's own answer: a label; of a ranking the place (1 is "
    "the best); of a text that is read, words in it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per text.")
def explain(
    texts: tuple[str, ...], model: str | None, alias: str, target: str | None, as_json: bool
) -> None:
    """Tell which tokens of TEXTS, or of the lines of standard input, carried the champion's answer.

    \b
    noisefold explain "the room was cold and the staff were rude"
    noisefold explain --target positive --json < reviews.txt

    Integrated gradients: what the tokens add sums up to the score of the answer above that of
    unknown tokens. Each explanation is checked by deletion: how far the score falls without its
    strongest fifth, and without as many tokens at random. A model that is asked two texts (a
    question and its context) takes them one after the other, or from standard input as JSON Lines.
    """
    from flows.cli.explained import explain_in_terminal

    explain_in_terminal(list(texts), (model, alias), target, as_json=as_json)
