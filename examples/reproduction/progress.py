"""How far the runs are, and how long the rest will take."""

from reporting import progress_bar
from rich.console import Console


class Display:
    """Progress over runs and epochs, with the time left: a bar on a terminal, lines elsewhere."""

    def __init__(self, jobs):
        self.console, self.jobs = Console(soft_wrap=True, highlight=False), jobs
        self.left, self.seconds = {}, {}

    def __enter__(self):
        self.bar = progress_bar() if self.console.is_terminal else None
        if self.bar is not None:
            self.console = self.bar.console
            self.bar.start()
            self.task = self.bar.add_task("epochs of all runs", total=None)
        return self

    def __exit__(self, *exception):
        if self.bar is not None:
            self.bar.stop()

    def plan(self, runs):
        """Takes up runs: counts their epochs."""
        self.left = {run.name: run.epochs for run in runs}
        self.total = sum(self.left.values())
        self.console.print(f"{len(runs)} runs, {self.total} epochs")
        if self.bar is not None:
            self.bar.update(self.task, total=self.total, completed=0)

    def waits(self, run, process):
        """Says that a run is being made by another process."""
        self.console.print(f"{run.label}: process {process} is at it, waiting for that to end")

    def epoch(self, run, logs):
        """Takes up one epoch of one run."""
        self.left[run.name] = run.epochs - logs["epoch"]
        self.seconds[run.name] = logs["seconds"]
        left = sum(self.left.values())
        pace = sum(self.seconds.values()) / len(self.seconds) / self.jobs
        if self.bar is not None:
            self.bar.update(self.task, description=run.label, completed=self.total - left)
            return
        self.console.print(
            f"{run.label}: epoch {logs['epoch']}/{run.epochs}, loss {logs['loss']:.3f}, "
            f"accuracy {logs['accuracy']:.3f}, {logs['seconds']:.1f} s; "
            f"all {duration(pace * left)} left"
        )

    def done(self, run, text):
        """Ends a run, and says how."""
        self.left.pop(run.name, None)
        self.console.print(f"{run.label}: {text} ({len(self.left)} runs left)")


def duration(seconds):
    """`1 h 05 min`, `12 min` or `40 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 60 else f"{round(seconds)} s"
