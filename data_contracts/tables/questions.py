"""Questions on contexts as SQuAD, CMRC and Hugging Face's copies of them nest them."""

from __future__ import annotations

ANSWERED_IMPOSSIBLE = "answered_impossible"  # marked `is_impossible`, and there is an answer
