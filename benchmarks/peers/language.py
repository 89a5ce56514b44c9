"""Language models and compressors on Tiny Shakespeare, at the same CPU time as noisefold's.

    .venv-peers/bin/python -m benchmarks.peers.language nanogpt --seeds 0,1,2 [--seconds 180]
    .venv-peers/bin/python -m benchmarks.peers.language ppmd

`nanogpt`: a GPT of the sizes and settings that nanoGPT publishes for a CPU (4 layers and heads, 128
wide, 64 characters, batches of 12, AdamW at 1e-3, cosine). `hf_trainer`: such a GPT-2 through
transformers' own Trainer, as its example run_clm trains one: blocks side by side, linear decay. Both
read characters, and go on until `--seconds` of CPU time are spent. A compressor's figure is what
the test text adds to the train text. All train on the same text as noisefold, that which tells
noisefold's epoch besides.

A network sees windows, so each character of the test text is told with at least half a window before
it. What is written: nats of each thousand characters, so that differences have an interval.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before torch reads it

import argparse  # noqa: E402
import bz2  # noqa: E402
import json  # noqa: E402
import lzma  # noqa: E402
import math  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from dataclasses import asdict, dataclass, field  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

HOME = Path(__file__).resolve().parents[2] / ".noisefold" / "benchmarks"
BLOCK = 1000  # characters of the test text that are resampled together
WARM_UP = 100  # steps


@dataclass(frozen=True)
class Figure:
    """What one peer came to on the test text."""

    peer: str
    seed: int | None
    bits_per_byte: float
    cpu_seconds: float
    parameters: int | None = None
    settings: str = ""
    nats: list[float] = field(default_factory=list)  # of each block; none: known as a whole alone


def texts(folder: str) -> tuple[str, str]:
    """Train text and the text to measure: the test of `final`, the valid of `choose`."""
    home = HOME / "shakespeare" / folder
    if folder == "choose":
        return (home / "train.txt").read_text(), (home / "valid.txt").read_text()
    return (home / "valid.txt").read_text() + (home / "train.txt").read_text(), (
        home / "test.txt"
    ).read_text()


# --- compressors


def compressed(name: str) -> Callable[[bytes, bytes], int]:
    """Bytes that a compressor adds for the second text where it has the first."""
    plain: dict[str, Callable[[bytes], bytes]] = {
        "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
        "bz2": lambda data: bz2.compress(data, 9),
    }
    if name in plain:
        return lambda train, test: len(plain[name](train + test)) - len(plain[name](train))
    if name == "zstd":
        import zstandard

        def beside(train: bytes, test: bytes) -> int:
            known = zstandard.ZstdCompressionDict(train, zstandard.DICT_TYPE_RAWCONTENT)
            return len(zstandard.ZstdCompressor(level=19, dict_data=known).compress(test))

        return beside

    def ppmd(data: bytes) -> int:
        import pyppmd

        encoder = pyppmd.Ppmd7Encoder(max_order=6, mem_size=256 << 20)
        return len(encoder.encode(data)) + len(encoder.flush())

    return lambda train, test: ppmd(train + test) - ppmd(train)


def compressor(name: str, folder: str) -> Figure:
    train, test = (text.encode() for text in texts(folder))
    started = time.process_time()
    size = compressed(name)(train, test)
    return Figure(name, None, 8 * size / len(test), round(time.process_time() - started, 1))


# --- networks


def gpt(vocab_size: int, context: int, dropout: float = 0.0) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 128, "n_layer": 4, "n_head": 4, "n_positions": context}
    off = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, **sizes, **off, **tokens))


def nanogpt(ids: Any, vocab_size: int, seed: int, seconds: float, options: Any) -> tuple[Any, int]:
    """nanoGPT's training on a CPU, whose cosine ends with the time."""
    import torch
    from torch.nn import functional as F

    context, batch, peak = 64, 12, options.rate or 1e-3
    torch.manual_seed(seed)
    model = gpt(vocab_size, context)
    matrices = [one for one in model.parameters() if one.ndim > 1]
    vectors = [one for one in model.parameters() if one.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.99))
    started, step = time.process_time(), 0
    while (spent := time.process_time() - started) < seconds:
        share = 0.1 + 0.45 * (1 + math.cos(math.pi * spent / seconds))
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / WARM_UP) * share
        first = torch.randint(len(ids) - context, (batch, 1))
        window = ids[first + torch.arange(context + 1)]
        logits = model(window[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    return model, context


def hf_trainer(
    ids: Any, vocab_size: int, seed: int, seconds: float, options: Any
) -> tuple[Any, int]:
    """run_clm's way: blocks side by side, Trainer with its linear decay; as many steps as fit into
    the time, which a few steps tell before."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    context, batch = 128, 8
    many = len(ids) // context
    blocks = [
        {"input_ids": block, "labels": block} for block in ids[: many * context].view(many, context)
    ]

    class UntilSpent(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop |= time.process_time() - started >= seconds

    def train(steps: int) -> Any:
        set_seed(seed)
        model = gpt(vocab_size, context)
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder, max_steps=steps, per_device_train_batch_size=batch, use_cpu=True, seed=seed,
                learning_rate=options.rate or 2e-3, lr_scheduler_type="linear", warmup_steps=WARM_UP,
                weight_decay=0.1, report_to=[], save_strategy="no", logging_strategy="no",
                disable_tqdm=True, dataloader_num_workers=0,
            )  # fmt: skip
            Trainer(model, arguments, train_dataset=blocks, callbacks=[UntilSpent()]).train()
        return model

    started = time.process_time()
    train(30)
    each = (time.process_time() - started) / 30
    seconds -= time.process_time() - started
    started = time.process_time()
    torch.manual_seed(seed)
    return train(max(1, int(seconds / each))), context


NETWORKS = {"nanogpt": nanogpt, "hf_trainer": hf_trainer}
COMPRESSORS = ("xz", "bz2", "zstd", "ppmd")


def network(peer: str, folder: str, seed: int, options: Any) -> Figure:
    import torch

    torch.set_num_threads(1)
    train, test = texts(folder)
    characters = sorted(set(train + test))
    number = {character: at for at, character in enumerate(characters)}
    ids = torch.tensor([number[character] for character in train])
    started = time.process_time()
    model, context = NETWORKS[peer](ids, len(characters), seed, options.seconds, options)
    spent = time.process_time() - started
    found = [*nats(model.eval(), torch.tensor([number[one] for one in test]), context)]
    blocks = [sum(found[at : at + BLOCK]) for at in range(0, len(found), BLOCK)]
    bits = sum(found) / math.log(2) / len(test.encode())
    count = sum(one.numel() for one in model.parameters())
    settings = f"rate {options.rate}" if options.rate else ""
    return Figure(peer, seed, bits, round(spent, 1), count, settings, blocks)


def nats(model: Any, ids: Any, context: int) -> Iterator[float]:
    """Of each character in turn; the first one, which nothing stands before, is any of all."""
    import torch
    from torch.nn import functional as F

    vocab_size = model.config.vocab_size
    yield math.log(vocab_size)
    half = context // 2
    with torch.inference_mode():
        logits = model(ids[None, :context]).logits[0]
        yield from F.cross_entropy(logits[:-1], ids[1:context], reduction="none").tolist()
        rest = ids[half:]
        whole = (len(rest) - half) // half
        full = rest[: (whole + 1) * half].unfold(0, context, half) if whole else rest.new_empty(0)
        left = rest[whole * half :].unsqueeze(0)  # the last window, of more than half or none
        for windows in (*full.split(64), left):
            if not windows.numel() or windows.shape[1] <= half:
                continue
            said = model(windows).logits[:, half - 1 : -1]
            targets = windows[:, half:]
            told = F.cross_entropy(said.flatten(0, 1), targets.flatten(), reduction="none")
            yield from told.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", choices=[*NETWORKS, *COMPRESSORS])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--rate", type=float, help="Learning rate, to choose one on choose/.")
    parser.add_argument("--on", choices=["final", "choose"], default="final")
    options = parser.parse_args()
    folder = HOME / "peers" / "shakespeare"
    folder.mkdir(parents=True, exist_ok=True)
    if options.peer in COMPRESSORS:
        found = [compressor(options.peer, options.on)]
    else:
        seeds = map(int, options.seeds.split(","))
        found = (network(options.peer, options.on, seed, options) for seed in seeds)
    for one in found:
        told = f"{one.peer} seed {one.seed}: {one.bits_per_byte:.4f} bits per byte, "
        print(f"{told}{one.cpu_seconds} CPU s, {one.settings}", flush=True)
        if options.on == "final":
            file = folder / f"{one.peer}-{one.seed or 0}.json"
            file.write_text(json.dumps(asdict(one)))


if __name__ == "__main__":
    main()
