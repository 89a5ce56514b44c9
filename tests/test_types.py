"""What the type checker promises to who writes a flow: a stage takes its own manifests, no others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CHECKER = Path(sys.executable).parent / "basedpyright"

FLOW = """\
from data_contracts.artifacts import TokenDataset, TrainedModel, ValidatedCorpus
from tasks.evaluate import evaluate
from tasks.stage import RunContext


def flow(
    run: RunContext, model: TrainedModel, tokens: TokenDataset, corpus: ValidatedCorpus
) -> None:
    reveal_type(evaluate(run, model, tokens, corpus))
    reveal_type(run.made[TokenDataset])
    evaluate(run, tokens, model, corpus)
    evaluate(run, model, tokens)
    evaluate.find(run, corpus, tokens, corpus)
"""


def test_a_wrong_manifest_is_an_error_of_the_type_checker(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(FLOW)
    told = subprocess.run(
        [str(CHECKER), "--outputjson", str(file)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,  # whose pyproject.toml has the rules
        timeout=300,
    )
    found = json.loads(told.stdout)["generalDiagnostics"]
    lines = FLOW.splitlines()
    said: dict[str, list[str]] = {}
    for one in found:
        line = lines[one["range"]["start"]["line"]].strip()
        said.setdefault(line, []).append(f"{one.get('rule')}: {one['message'].splitlines()[0]}")

    assert said.pop("reveal_type(evaluate(run, model, tokens, corpus))") == [
        'None: Type of "evaluate(run, model, tokens, corpus)" is "EvaluationReport"'
    ]
    assert said.pop("reveal_type(run.made[TokenDataset])") == [
        'None: Type of "run.made[TokenDataset]" is "TokenDataset"'
    ]
    swapped = said.pop("evaluate(run, tokens, model, corpus)")
    assert len(swapped) == 2 and all("reportArgumentType" in one for one in swapped)
    (missing,) = said.pop("evaluate(run, model, tokens)")
    assert missing == 'reportCallIssue: Argument missing for parameter "corpus"'
    (wrong,) = said.pop("evaluate.find(run, corpus, tokens, corpus)")
    assert "reportArgumentType" in wrong and "ValidatedCorpus" in wrong
    assert not said
