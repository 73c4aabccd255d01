"""Runs the suite once per backend, each with two processes (pytest-xdist), and counts.

    python tests/run.py jax tensorflow torch      # or: make test
    python tests/run.py jax -- -k resnet          # the rest goes to pytest

The last line is `N passed, M failed, K skipped`. Errors count as failed, and so does a backend
whose pytest crashed, collected nothing, or is not installed.
"""

import collections
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# A process that is done takes over half of what the other one has left.
PYTEST = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal"]


def main(arguments):
    """Runs the backends, and returns the exit status."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    backends, pytest_arguments = dict.fromkeys(arguments[:at]), arguments[at + 1 :]
    lines, total = [], collections.Counter(passed=0, failed=0, skipped=0)
    for backend in backends:
        print(f"\n{backend}", flush=True)
        counts, problem = run(backend, pytest_arguments)
        if problem == "interrupted":
            print("\nInterrupted.", file=sys.stderr)
            return 130
        total.update(counts)
        lines.append(f"{backend + ':':<12} {said(counts)}{problem and f' ({problem})'}")
    print("", *lines, said(total), sep="\n", flush=True)
    return 1 if total["failed"] or not total["passed"] else 0


def run(backend, pytest_arguments):
    """Runs one backend, and returns its counts and what else went wrong."""
    if importlib.util.find_spec(backend) is None:
        return collections.Counter(failed=1), f"{backend} is not installed"
    with tempfile.TemporaryDirectory(prefix="keras-lpl-tests-") as folder:
        report = Path(folder) / "report.xml"
        pytest, stopped = None, []

        def stop(*_):
            stopped.append(True)
            if pytest is not None:
                os.kill(pytest.pid, signal.SIGINT)  # pytest ends its processes

        # First, so that pytest hears a signal that this process was started to ignore, as it is in
        # the background of a shell.
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        pytest = subprocess.Popen(
            [*PYTEST, f"--junit-xml={report}", "-o", "junit_family=xunit2", *pytest_arguments],
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "KERAS_BACKEND": backend},
            start_new_session=True,  # Ctrl-C comes here, and once to pytest
        )
        status = pytest.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
        counts = count(report)
    if stopped:
        return counts, "interrupted"
    if status == 0 or counts["failed"]:
        return counts, ""
    counts["failed"] += 1
    return counts, "no test was collected" if status == 5 else f"pytest's exit status is {status}"


def count(report):
    """Counts the tests of a JUnit report."""
    if not report.exists():
        return collections.Counter()
    kinds = {"failure": "failed", "error": "failed", "skipped": "skipped"}
    return collections.Counter(
        next((kinds[part.tag] for part in case if part.tag in kinds), "passed")
        for case in ElementTree.parse(report).iter("testcase")
    )


def said(counts):
    """`N passed, M failed, K skipped`."""
    return f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
