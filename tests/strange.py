"""A job for tests of processes that does what the name of its input says. Every process imports it, so it is short."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from ldcodec.errors import UsageError
from ldcodec.jobs.limits import Limits
from ldcodec.jobs.messages import JobResult
from ldcodec.jobs.models import Models
from ldcodec.jobs.paths import Job


def strange(job: Job, options: Any, models: Models, limits: Limits) -> JobResult:
    """Write the process number, OMP_NUM_THREADS and the threads given; then end well, die, hang, refuse or claim memory
    ("wants 200", in MB).
    """
    name = Path(job.source).name
    Path(job.target).write_text(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')} {models.threads}")
    if "dies" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hangs" in name and job.unfinished is not None:
        Path(job.unfinished).write_text("begun")
        time.sleep(600)
    if "wants" in name:
        limits.check_memory(1e6 * float(name.split()[1]))
    if "wrong" in name:
        raise UsageError("wrong for all")
    return JobResult(1, 1, 1, 1, 0.0)
