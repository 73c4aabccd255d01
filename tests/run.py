"""Runs the suite once per backend, in processes of their own, and counts.

    python tests/run.py                                   # the three backends
    python tests/run.py --backends jax torch -- -k resnet # some; the rest goes to pytest

The last line is `N passed, M failed, K skipped`. Errors count as failed, and so does a backend
whose pytest crashed, collected nothing, or is not installed. Each backend runs in two parts, every
other file in each, so that two processes end at about the same time.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("jax", "tensorflow", "torch")
PARTS = 2
NO_TESTS_COLLECTED = 5


@dataclasses.dataclass
class Result:
    """What one backend's tests came to."""

    backend: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    problem: str = ""
    failures: list = dataclasses.field(default_factory=list)
    collected: bool = True


def main():
    """Runs the backends asked for and returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], usage="%(prog)s [options] [-- PYTEST_ARGS ...]"
    )
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument(
        "--jobs",
        type=int,
        default=min(2, num_cores()),
        help="processes that run at the same time (default: %(default)s)",
    )
    ours, pytest_args = split(sys.argv[1:])
    options = parser.parse_args(ours)
    # Asked to end by another program: end the tests too, as for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    backends = list(dict.fromkeys(options.backends))
    with tempfile.TemporaryDirectory(prefix="keras-lpl-tests-") as reports:
        runs = [
            Run(backend, part, pytest_args, Path(reports))
            for backend in backends
            for part in range(PARTS)
        ]
        try:
            results = run_all(runs, max(1, options.jobs))
        except KeyboardInterrupt:
            for run in runs:
                run.stop()
            print("\nInterrupted.", file=sys.stderr)
            return 130
    return report([merged(backend, results) for backend in backends])


def num_cores():
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def split(arguments):
    """Separates this script's arguments from pytest's, which follow `--`."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


class Run:
    """Pytest on one backend, with a part of the files."""

    def __init__(self, backend, part, pytest_args, reports):
        self.backend = backend
        self.part = part
        self.pytest_args = pytest_args
        self.xml = reports / f"{backend}{part}.xml"
        self.cache = reports / "compiled"
        self.process = None
        self.stopped = False

    def __call__(self, show):
        """Runs the tests, gives `show` each line of output, and returns a `Result`."""
        if importlib.util.find_spec(self.backend) is None:
            problem = f"{self.backend} is not installed"
            show(problem)
            return Result(self.backend, failed=1, problem=problem)
        start = time.monotonic()
        command = [
            *(sys.executable, "-m", "pytest", f"--junit-xml={self.xml}"),
            *("-o", "console_output_style=count", "-o", "junit_family=xunit2"),
            *self.pytest_args,
        ]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={
                **environment(self.backend, self.cache),
                "KERAS_LPL_TEST_PART": f"{self.part}/{PARTS}",  # read by conftest.py
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        if self.stopped:
            self.stop()
        for line in self.process.stdout:
            if "generated xml file" not in line:
                show(line.rstrip())
        status = self.process.wait()
        result = count(self.backend, self.xml, status)
        result.seconds = time.monotonic() - start
        return result

    def stop(self):
        """Ends the tests and what they started."""
        self.stopped = True
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)


def environment(backend, cache):
    """The environment of one backend's tests: one thread each, and quiet.

    JAX keeps what it has compiled in `cache`, for as long as the run lasts: many tests train the
    same small model.
    """
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Compiled code that runs a few times need not be fast. What XLA makes of the mathematics is
        # the same; it is LLVM that does less.
        "XLA_FLAGS": " ".join(
            [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0"]
        ),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": str(max(60, shutil.get_terminal_size((100, 24)).columns - 13)),
    }


def run_all(runs, jobs):
    """Runs at most `jobs` at a time, showing each one's lines under its backend's name."""
    results = []
    lock = threading.Lock()
    waiting = iter(runs)

    def work():
        while True:
            with lock:
                run = next(waiting, None)
            if run is None or run.stopped:
                return

            def show(line, backend=run.backend):
                with lock:
                    print(f"{backend:<10} | {line}", flush=True)

            try:
                result = run(show)
            except Exception as error:
                result = Result(run.backend, failed=1, problem=repr(error))
            results.append(result)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        while worker.is_alive():
            worker.join(timeout=0.2)  # with a timeout, so that Ctrl-C gets through
    return results


def merged(backend, results):
    """The parts of one backend as one result."""
    parts = [each for each in results if each.backend == backend]
    collected = any(part.collected for part in parts)
    problems = dict.fromkeys(part.problem for part in parts if part.problem)
    if not collected:
        problems = {"no test was collected": None}
    return Result(
        backend,
        passed=sum(part.passed for part in parts),
        failed=sum(part.failed for part in parts) + (not collected),
        skipped=sum(part.skipped for part in parts),
        seconds=sum(part.seconds for part in parts),
        problem="; ".join(problems),
        failures=[failure for part in parts for failure in part.failures],
    )


def count(backend, xml, status):
    """Counts a JUnit report, and adds a failure for what the report cannot show."""
    result = Result(backend)
    try:
        cases = list(ElementTree.parse(xml).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        cases = []
        result.problem = f"pytest left no report (exit status {status})"
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed += 1
            result.failures.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is not None:
            result.skipped += 1
        else:
            result.passed += 1
    if status == NO_TESTS_COLLECTED:
        return Result(backend, collected=False)
    if status != 0 and not result.failed:
        result.problem = result.problem or f"pytest ended with exit status {status}"
    if result.problem:
        result.failed += 1
    return result


def report(results):
    """Prints what failed, a table and the closing line, and returns the exit status."""
    for each in results:
        for failure in each.failures:
            print(f"{each.backend:<10} | FAILED {failure}")
    print(f"\n{'backend':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'minutes':>9}")
    for each in results:
        minutes = f"{int(each.seconds // 60)}:{int(each.seconds % 60):02d}"
        numbers = f"{each.passed:>8}{each.failed:>8}{each.skipped:>9}{minutes:>9}"
        print(f"{each.backend:<12}{numbers}{'  ' + each.problem if each.problem else ''}")
    passed, failed, skipped = (
        sum(getattr(each, what) for each in results) for what in ("passed", "failed", "skipped")
    )
    print()
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
