#!/usr/bin/env bash
# Writes the three lock files with uv. TORCH_CPU_WHEELS names a folder or index page that offers torch's CPU build.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${TORCH_CPU_WHEELS:?set it to a folder or page with the CPU build of torch}"
compile=(uv pip compile pyproject.toml --extra dev --extra pretrained --generate-hashes --python-version 3.11 --no-header --quiet)
"${compile[@]}" --find-links "$TORCH_CPU_WHEELS" --no-emit-package torch -o requirements/base.lock
"${compile[@]}" --find-links "$TORCH_CPU_WHEELS" --no-annotate -o requirements/cpu.tmp
"${compile[@]}" --no-annotate -o requirements/cuda.tmp
# The two resolutions differ in torch and what its CUDA build brings along; one file with both hashes would not do,
# since pip then takes whichever wheel its index offers first.
python3 - <<'PY'
import re
from pathlib import Path

folder = Path("requirements")
for build, title in (("cpu", "CPU build. Used by `make` where no NVIDIA driver is found."),
                     ("cuda", "CUDA build, with what it needs. Used by `make` where an NVIDIA driver is found.")):
    blocks = re.split(r"\n(?=[a-z0-9])", (folder / f"{build}.tmp").read_text())
    keep = [b.rstrip() for b in blocks if re.match(r"(torch==|triton==|cuda-|nvidia-)", b)]
    (folder / f"torch-{build}.lock").write_text(f"# torch, {title}\n" + "\n".join(keep) + "\n")
    (folder / f"{build}.tmp").unlink()
PY
