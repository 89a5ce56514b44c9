"""A text to be labelled as tools for that read it, with the label that the model believes.

Label Studio, tasks with predictions: https://labelstud.io/guide/predictions. Its project needs

    <View>
      <Text name="text" value="$text"/>
      <Choices name="label" toName="text" choice="single"> <Choice value="..."/> ... </Choices>
    </View>

with the columns' own names in place of `text` and `label`. Prodigy, the interface `choice`:
https://prodi.gy/docs/api-interfaces#choice. Does not ship.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_modules.doubting import Task

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle


def label_studio(_: Bundle, task: Task) -> dict[str, Any]:
    """A task with its prediction, whose score is the probability."""
    column, text = task.asked
    result = {
        "from_name": task.answer,
        "to_name": column,
        "type": "choices",
        "value": {"choices": [task.suggestion]},
    }
    prediction = {
        "model_version": task.believed["model"],
        "score": task.believed["probability"],
        "result": [result],
    }
    data = {column: text, **task.others, "doubt": task.believed["doubt"]}
    return {"data": data, "predictions": [prediction]}


def prodigy(bundle: Bundle, task: Task) -> dict[str, Any]:
    """A task with every label as an option, the model's own chosen. Prodigy knows `text` by that
    name alone.
    """
    return {
        "text": task.asked[1],
        "options": [{"id": label, "text": label} for label in bundle.facts["labels"]],
        "accept": [task.suggestion],
        "config": {"choice_style": "single"},
        "meta": {**task.others, **task.believed},
    }


TOOLS = {"label_studio": label_studio, "prodigy": prodigy}
