"""From a recipe file to runs, and from results to a table.

A recipe file (`recipes/tableN.toml`) lists the columns of a table (data and network) and its rows
(methods with their parameters, and the numbers of the paper). How a column is trained, and what the
scales make of it, is in the file that its `recipe` names. Nothing is executed here.
"""

import copy
import itertools
import json
import tomllib
from pathlib import Path

import numpy as np
from training import METHOD_ARGUMENTS, run_name

RECIPES = Path(__file__).parent / "recipes"
SCALES = ("smoke", "small", "full")
HELD_OUT = 0.2  # of each class of the training set, when parameters are searched


def tables():
    """The names of the tables: what may stand after `--table`."""
    return sorted(path.stem.removeprefix("table").lstrip("_") for path in RECIPES.glob("table*"))


def read(table):
    """The recipe file of a table, as a dict."""
    for name in (f"table{table}.toml", f"table_{table}.toml"):
        if (RECIPES / name).exists():
            return tomllib.loads((RECIPES / name).read_text())
    raise SystemExit(f"There is no table {table!r}. There are: {', '.join(tables())}")


def selected(entries, text, what):
    """The rows or columns named in the text, in the order of the file; all if there is no text.

    Names are separated by `;`, or by `,` where no name has a comma of its own.
    """
    if text is None:
        return entries
    known = {_key(entry["name"]) for entry in entries}
    names = [text] if _key(text) in known else text.split(";" if ";" in text else ",")
    names = [name.strip() for name in names]
    unknown = [name for name in names if _key(name) not in known]
    if unknown:
        raise SystemExit(
            f"There is no {what} {unknown[0]!r}. There are: "
            + "; ".join(entry["name"] for entry in entries)
        )
    wanted = {_key(name) for name in names}
    return [entry for entry in entries if _key(entry["name"]) in wanted]


def _key(name):
    """`LA + LPL` and `la+lpl` are one name; and `LPL` is `LPL, varied bound`."""
    name = name.lower().replace(" ", "")
    return "lpl,variedbound" if name == "lpl" else name


def config_of(table, column, row, scale, seed=0, data_folder=None):
    """The description of one run, for `training.run`."""
    recipe = tomllib.loads(
        (RECIPES / f"{column.get('recipe', table.get('recipe'))}.toml").read_text()
    )
    size = recipe["scales"][scale]
    data = dict(size.get("data", column["data"]))
    if data_folder is not None and (data_folder / f"{data['name']}.npz").exists():
        data["name"] = str(data_folder / f"{data['name']}.npz")
    config = {
        "data": data,
        "network": {**size.get("network", column["network"]), **row.get("network", {})},
        "method": row["method"],
        "training": {**recipe["training"], **size.get("training", {})},
        "seed": seed,
    }
    for name in METHOD_ARGUMENTS:
        if name in row:
            config[name] = copy.deepcopy(row[name])
    if scale == "smoke" and isinstance(config.get("lpl", {}).get("threshold"), int):
        config["lpl"]["threshold"] = 0.4  # the digits have ten classes, whatever the table has
    return config


def seeds_of(table, column, scale):
    """How many seeds a scale has."""
    return recipe_of(table, column)["scales"][scale]["seeds"]


def recipe_of(table, column):
    """How a column is trained."""
    name = column.get("recipe", table.get("recipe"))
    return tomllib.loads((RECIPES / f"{name}.toml").read_text())


def candidates(config, row):
    """The descriptions that a search compares: every point of the row's grid, on held-out data."""
    axes = list(_axes(row.get("grid", {})))
    configs = []
    for values in itertools.product(*(values for _, values in axes)):
        candidate = copy.deepcopy(config)
        candidate["seed"] = 0
        candidate["data"]["held_out"] = HELD_OUT
        for (path, _), value in zip(axes, values, strict=True):
            _assign(candidate, path, value)
        configs.append(candidate)
    return configs


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
    """`config` with the parameters that were best on held-out data, or `None` while some of the
    search is missing."""
    results = [result_of(candidate, out) for candidate in candidates(config, row)]
    if any(result is None for result in results):
        return None
    best = min(results, key=lambda result: result["balanced_error"])["config"]
    return {**config, **{name: best[name] for name in METHOD_ARGUMENTS if name in best}}


def result_of(config, out):
    """The result of a run, if it is there."""
    file = Path(out) / f"{run_name(config)}.json"
    return json.loads(file.read_text()) if file.exists() else None


def markdown(name, scale, out, searched=False):
    """The table of what was run, beside the paper's numbers; columns without a run are left out."""
    table = read(name)
    parts = []
    for column in table["columns"]:
        lines, results = [], []
        for row in table["rows"]:
            config = config_of(table, column, row, scale)
            if searched and row.get("grid"):
                config = with_best(config, row, out)
            runs = _runs(config, out) if config else []
            # Beside a smoke run the paper's number would only mislead.
            paper = row.get("paper", {}).get(column["name"]) if scale != "smoke" else None
            if runs:
                lines.append(_line(row["name"], runs, paper))
                results += runs
        if lines:
            parts.append(_heading(table, column, scale, results, searched))
            parts.append("\n".join([HEADER, RULE, *lines]))
    if not parts:
        raise SystemExit(f"There are no results of table {name} at scale {scale} in {out}")
    return "\n\n".join(parts)


HEADER = "| method | error, ours | seeds | many-shot | medium-shot | few-shot | error, paper |"
RULE = "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"


def _runs(config, out):
    found = []
    for seed in itertools.count():
        result = result_of({**config, "seed": seed}, out)
        if result is None:
            return found
        found.append(result)
    return found


def _line(name, runs, paper):
    cells = [
        name,
        _mean_and_spread([100 * run["balanced_error"] for run in runs]),
        str(len(runs)),
        *(
            _mean_and_spread([100 * run[f"{shot}_shot_accuracy"] for run in runs])
            if runs[0][f"{shot}_shot_accuracy"] is not None
            else "-"
            for shot in ("many", "medium", "few")
        ),
        "-" if paper is None else f"{paper:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _mean_and_spread(values):
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def _heading(table, column, scale, results, searched):
    """What was run, in a line, for every table: a small run must not pass for the paper's."""
    config, training = results[0]["config"], results[0]["config"]["training"]
    network = config["network"]
    size = "-".join(str(network[key]) for key in ("depth", "width") if key in network)
    parts = [
        config["data"]["name"],
        f"{network['name'].replace('_', ' ')} {size}",
        f"{training['epochs']} epochs",
        training.get("precision", "float32"),
        " and ".join(sorted({result["backend"] for result in results})),
        f"parameters {'searched on held-out training data' if searched else 'not searched'}",
    ]
    return f"**{table['title']}; {column['name']}.** Scale *{scale}*: {', '.join(parts)}."
