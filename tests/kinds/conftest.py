"""The debug-size corpus of classes, beside the kinds of the tests."""

from __future__ import annotations

from tests.lightning_modules.conftest import arguments as arguments
from tests.lightning_modules.conftest import token_folder as token_folder
from tests.lightning_modules.conftest import tokenizer_json as tokenizer_json
from tests.pipeline.conftest import here as here
from tests.pipeline.conftest import prefect_api as prefect_api
