"""The runs that a command asks for, and those of them that are missing."""

import copy
import dataclasses
import itertools

from reproduction import configs, recipes

HELD_OUT = 0.2  # of each class of the training set, when parameters are searched


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: what it is called on the terminal, and its description."""

    label: str
    config: dict

    @property
    def name(self):
        return configs.run_name(self.config)

    @property
    def epochs(self):
        return self.config["training"]["epochs"]


def missing(options, failed=()):
    """The runs without a result, in the order in which they are made.

    With `search`, the runs of the search come first. The others are planned when it is done.

    Args:
        options: The command's: `table`, `rows`, `columns`, `scale`, `seeds`, `search`,
            `precision`, `data` and `out`.
        failed: Names of runs to leave out.
    """
    runs = {}
    for run in asked_for(options):
        runs.setdefault(run.name, run)  # at scale smoke several columns are one run
    return [
        run
        for name, run in runs.items()
        if name not in failed and configs.result_of(run.config, options.out) is None
    ]


def asked_for(options):
    """All runs, those with a result too."""
    table = recipes.read_table(options.table)
    rows = recipes.selected(table["rows"], options.rows, "row")
    columns = recipes.selected(table["columns"], options.columns, "column")
    searched, final = [], []
    for column in columns:
        scale = recipes.recipe_of(table, column)["scales"][options.scale]
        for seed, row in itertools.product(range(options.seeds or scale["seeds"]), rows):
            config = configs.config_of(
                table, column, row, options.scale, seed, options.data, options.precision
            )
            label = f"{row['name']}, {column['name']}"
            if options.search and row.get("grid"):
                searched += [Run(f"search {label}", point) for point in grid(config, row)]
                config = with_best(config, row, options.out)
            if config is not None:
                final.append(Run(f"{label}, seed {seed}", config))
    return searched + final


def grid(config, row):
    """The descriptions that a search compares: every point of the row's grid, on held-out data."""
    axes = list(_axes(row.get("grid", {})))
    points = []
    for values in itertools.product(*(values for _, values in axes)):
        point = copy.deepcopy(config)
        point["seed"] = 0
        point["data"]["held_out"] = HELD_OUT
        for (path, _), value in zip(axes, values, strict=True):
            _assign(point, path, value)
        points.append(point)
    return points


def _axes(grid, path=()):
    for key, value in grid.items():
        if isinstance(value, dict):
            yield from _axes(value, (*path, key))
        else:
            yield (*path, key), value


def _assign(config, path, value):
    for key in path[:-1]:
        config = config.setdefault(key, {})
    config[path[-1]] = value


def with_best(config, row, out):
    """`config` with the parameters that were best on held-out data.

    `None` while a result of the search is missing.
    """
    results = [configs.result_of(point, out) for point in grid(config, row)]
    if any(result is None for result in results):
        return None
    best = min(results, key=lambda result: result["balanced_error"])["config"]
    return {**config, **{name: best[name] for name in configs.METHOD_ARGUMENTS if name in best}}
