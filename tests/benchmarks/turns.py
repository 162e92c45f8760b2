"""Two programs timed in turns: each in a process of its own, one at work while the other sleeps."""

import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path


def peak_memory_mb():
    """The largest memory that this process has had, in MB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _work(make_step, arguments, pipe):
    step = make_step(*arguments)
    pipe.send("ready")
    while (count := pipe.recv()) is not None:
        times = []
        for _ in range(count):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        pipe.send(times)
    pipe.send(peak_memory_mb())


class Worker:
    """make_step(*arguments), called in a new process, gives the function to be timed there."""

    def __init__(self, make_step, *arguments):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(make_step, arguments, other), daemon=True)
        self.process.start()
        other.close()
        self.pipe.recv()

    def times(self, count):
        """Seconds of `count` calls of the step."""
        self.pipe.send(count)
        return self.pipe.recv()

    def finish(self):
        """End the process; returns its peak memory in MB."""
        self.pipe.send(None)
        peak = self.pipe.recv()
        self.process.join()
        return peak


def in_turns(workers, rounds, calls, warm_up):
    """Median seconds of a call for each worker and each round, a list of rounds for each name."""
    for worker in workers.values():
        worker.times(warm_up)
    medians = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            time.sleep(0.3)  # the other's threads go to sleep
            medians[name].append(statistics.median(worker.times(calls)))
    return medians


def paired_ratio(a, b):
    """Median of the rounds' ratios a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def machine():
    """The machine and versions that a table was made on, in one line."""
    import platform

    import numpy

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores; Python {platform.python_version()}, NumPy {numpy.__version__}"
