#!/usr/bin/env bash
# Writes the three lock files with uv, for Python 3.11 to 3.13 on Linux and macOS. TORCH_CPU_WHEELS names a folder or an
# index page that offers torch's CPU build for Linux.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${TORCH_CPU_WHEELS:?set it to a folder or page with the CPU build of torch}"
options=(--universal --python-version 3.11 --generate-hashes --no-header --quiet)
# What the last locks hold stays, where it still fits.
cat requirements/base.lock requirements/torch-cuda.lock > requirements/all.tmp
uv pip compile pyproject.toml --extra dev --extra pretrained --extra postgres --extra onnx "${options[@]}" -o requirements/all.tmp
torch=$(sed -nE 's/^torch==([^ ;]+).*/\1/p' requirements/all.tmp)
echo "torch==$torch+cpu" |
    uv pip compile - --no-deps --find-links "$TORCH_CPU_WHEELS" "${options[@]}" --no-annotate -o requirements/cpu.tmp
python3 - "$torch" <<'PY'
import re
import sys
from pathlib import Path

folder, version = Path("requirements"), sys.argv[1]
HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


def blocks(name: str) -> list[str]:
    """A requirement with its hashes and notes each."""
    found = re.split(r"^(?=[a-z0-9])", (folder / name).read_text(), flags=re.M)
    return [block.rstrip() for block in found if block[:1].isalnum()]


def write(name: str, requirements: list[str], title: str = "") -> None:
    (folder / name).write_text("\n".join([title, *requirements] if title else requirements) + "\n")


def pin(requirement: str, hashes: list[str]) -> str:
    return " \\\n".join([requirement, *(f"    --hash={one}" for one in hashes)])


# PyPI's torch for Linux brings CUDA along, and its hashes stand apart from those of the CPU build: one file with both
# would not do, since pip then takes whichever wheel its index offers first.
everything = blocks("all.tmp")
of_cuda = [block for block in everything if re.match(r"(torch==|triton==|cuda-|nvidia-)", block)]
(torch,) = [block for block in of_cuda if block.startswith("torch==")]
# A page may offer this build for one Python alone: the hashes of the same version that are known already stay.
known = [block for block in blocks("torch-cpu.lock") if block.startswith(f"torch=={version}+cpu ")]
cpu = sorted({found for block in [*blocks("cpu.tmp"), *known] for found in HASH.findall(block)})
write("base.lock", [block for block in everything if block not in of_cuda])
write(
    "torch-cpu.lock",
    [
        pin(f"torch=={version}+cpu ; sys_platform == 'linux'", cpu),
        pin(f"torch=={version} ; sys_platform == 'darwin'", HASH.findall(torch)),
    ],
    "# torch, CPU build. Used by `make` where no NVIDIA driver is found. macOS takes PyPI's, which knows no CUDA.",
)
write(
    "torch-cuda.lock",
    [re.sub(r"\n +#.*", "", block) for block in of_cuda],
    "# torch, CUDA build, with what it needs. Used by `make` where an NVIDIA driver is found.",
)
for name in ("all.tmp", "cpu.tmp"):
    (folder / name).unlink()
PY
