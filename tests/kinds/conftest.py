"""The tokenizer of the debug-size corpus, for kinds of the tests."""

from __future__ import annotations

from tests.lightning_modules.conftest import tokenizer_json as tokenizer_json
