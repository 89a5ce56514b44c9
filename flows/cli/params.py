"""Options of a command that are a model's parameters. Light: the command line imports it."""

from __future__ import annotations

import click

from data_contracts.errors import NoisefoldError


def written_params(texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """Names and values of `--param NAME=VALUE`; a model's own names may be written with hyphens.

    Raises:
        NoisefoldError: one that is not written so.
    """
    found = []
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise NoisefoldError(
                f"--param {text}: expected NAME=VALUE.", "For example --param temperature=0.5."
            )
        found.append((name.strip().replace("-", "_"), value))
    return found


_TYPES = {"string": str, "double": float, "long": int}


class OfParams(click.Command):
    """Has an option for each parameter of the models that it asks, known once it runs."""

    params_are_there = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not self.params_are_there:
            from data_contracts.kinds.base import AnyTask

            asked = [kind for kind in AnyTask.kinds.values() if kind.command == self.name]
            params = {one.name: one for kind in asked for one in kind.params}
            self.params[1:1] = [
                click.Option(
                    [f"--{one.name.replace('_', '-')}"],
                    type=_TYPES[one.type],
                    multiple=one.listed,
                    help=f"{one.words} Otherwise as the model's recipe says.",
                )
                for one in params.values()
            ]
            self.params_are_there = True
        return super().get_params(ctx)
