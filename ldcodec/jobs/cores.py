"""Cores, and how many threads the libraries that compute may have."""

import os

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bound(threads: int) -> None:
    """Bounds the threads of libraries that are not imported yet; they read the environment when they are."""
    os.environ.update(dict.fromkeys(VARIABLES, str(threads)))
