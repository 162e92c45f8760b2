"""All notebooks under other machines' rounding, each by itself: python -m tests.arithmetic [part of a name ...]

Another number of threads, other kernels of OpenBLAS and NumPy's own loops without the processor's
extensions round differently in the last digits; what nbval compares must not show it.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
VARIANTS = {
    "as it is": {},
    "one thread": {"OPENBLAS_NUM_THREADS": "1"},
    "Prescott": {"OPENBLAS_CORETYPE": "Prescott"},
    "Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "SkylakeX": {"OPENBLAS_CORETYPE": "SkylakeX"},
    "lowered": {"NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])},
}
if not __cpu_features__["AVX512_SKX"]:  # its kernels are of instructions that this processor hasn't
    del VARIANTS["SkylakeX"]


def run(path, environment):
    """(passed, seconds, output) of nbval on one notebook."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(path)],
        cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.returncode == 0, time.perf_counter() - start, done.stdout


def main(parts=()):
    """Print a table; exit status 1 if a notebook fails anywhere."""
    paths = [path for path in sorted(FOLDER.rglob("*.ipynb")) if not parts or any(part in str(path) for part in parts)]
    print("| notebook | " + " | ".join(VARIANTS) + " |")
    print("|---|" + "---|" * len(VARIANTS))
    failures = []
    for path in paths:
        cells = []
        for name, environment in VARIANTS.items():
            passed, seconds, output = run(path, environment)
            cells.append(f"{seconds:.0f} s" if passed else "failed")
            if not passed:
                failures.append((path.name, name, output))
        print(f"| {path.relative_to(FOLDER).with_suffix('')} | {' | '.join(cells)} |", flush=True)
    for notebook, name, output in failures:
        print(f"\n{notebook}, {name}:\n{output[-3000:]}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
