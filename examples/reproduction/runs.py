"""Makes runs, each in a process of its own: one that fails does not take the others down.

A run's process reads its description from standard input, which is kept open for it. When it is
closed, this process is gone, killed perhaps, and the run ends as well.
"""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from reproduction import configs
from reproduction.progress import Display

COMMAND = [sys.executable, Path(__file__).parent.parent / "reproduce.py", "--child"]
# What a run's process has to say begins with one of these, and goes on in JSON.
EPOCH, WAITS = "epoch: ", "waits: "


class Runner:
    """Makes runs, several at a time.

    Args:
        out: Folder of the results.
        data: Folder of data files, or `None`.
        jobs: Runs at a time.

    Attributes:
        failed: The names of the runs that failed.
    """

    def __init__(self, out, data=None, jobs=1):
        self.out, self.data, self.jobs = out, data, jobs
        self.failed = []
        self._processes = []
        self._is_interrupted = False

    def make(self, missing):
        """Makes the runs that `missing(failed)` returns, until there are none."""
        with Display(self.jobs) as display:
            # A search that is complete brings new runs, hence the loop.
            while runs := missing(self.failed):
                display.plan(runs)
                with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
                    futures = [pool.submit(self._make_one, run, display) for run in runs]
                    try:
                        for future in concurrent.futures.as_completed(futures):
                            future.result()
                    except BaseException:
                        pool.shutdown(wait=False, cancel_futures=True)
                        self._stop()
                        raise

    def _make_one(self, run, display):
        process = self._start(run)
        said = []
        for line in process.stdout:
            if line.startswith(EPOCH):
                display.epoch(run, json.loads(line.removeprefix(EPOCH)))
            elif line.startswith(WAITS):
                display.waits(run, json.loads(line.removeprefix(WAITS)))
            else:
                said.append(line)
        code = process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        if not self._is_interrupted:
            self._finish(run, code, said, display)

    def _start(self, run):
        process = subprocess.Popen(
            [*COMMAND, "--out", self.out, *(["--data", self.data] if self.data else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**shared_environment(self.jobs), **os.environ},
            start_new_session=True,  # Ctrl-C is for this process to deal with
        )
        self._processes.append(process)
        if self._is_interrupted:
            process.terminate()
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its output says why
            process.stdin.write(json.dumps(run.config) + "\n")
            process.stdin.flush()
        return process

    def _stop(self):
        self._is_interrupted = True
        for process in self._processes:
            process.terminate()

    def _finish(self, run, code, said, display):
        log = self.out / "failed" / f"{run.name}.txt"
        if code == 0:
            log.unlink(missing_ok=True)
            error = configs.result_of(run.config, self.out)["balanced_error"]
            display.done(run, f"error {100 * error:.2f}%")
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("".join(said))
            self.failed.append(run.name)
            reason = said[-1].strip() if said else f"exit code {code}"
            display.done(run, f"FAILED, {reason} (all of it: {log})")


def shared_environment(jobs):
    """What lets several runs share a machine: a part of the processors each, and of a GPU."""
    if jobs == 1:
        return {}
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    return {
        "TF_NUM_INTRAOP_THREADS": threads,  # TensorFlow
        "OMP_NUM_THREADS": threads,  # PyTorch
        "NPROC": threads,  # JAX
        # None takes all of a GPU's memory.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }


def run_child(out, data=None):
    """The process of one run."""
    config = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from reproduction import training  # takes seconds

    def say(prefix, content):
        print(prefix + json.dumps(content), flush=True)

    training.run(
        config,
        out,
        data,
        report=lambda epoch, logs: say(EPOCH, {"epoch": epoch, **logs}),
        waits=lambda process: say(WAITS, process),
    )


def _end_with_parent():
    """Ends this process when its standard input is closed."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)
