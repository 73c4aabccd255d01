"""The description of one run, its name, and its result.

A description is a plain dict, so that it can be a file:

    data       name or path, imbalance factor, seed of the long-tailed subset, share held out
    network    name in `keras_lpl.networks`, and its arguments
    method     a name in `methods.METHODS`
    lpl, lpl_by_confidence, tau
               arguments of the method, where it has them
    training   epochs, batch size, schedule, weight decay, augmentation, precision
    seed       of weights, order of samples and augmentation
"""

import copy
import hashlib
import json
from pathlib import Path

from reproduction import recipes

METHOD_ARGUMENTS = ("lpl", "lpl_by_confidence", "tau")


def config_of(table, column, row, scale, seed=0, data_folder=None, precision=None):
    """The description of a table's cell at a scale.

    Args:
        table: As `recipes.read_table` returns it.
        column: One of its columns.
        row: One of its rows.
        scale: One of `recipes.SCALES`.
        seed: Of the run.
        data_folder: Where data files are looked for before anything is downloaded.
        precision: Takes the place of the recipe's.
    """
    recipe = recipes.recipe_of(table, column)
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
    if precision is not None:
        config["training"]["precision"] = precision
    for name in METHOD_ARGUMENTS:
        if name in row:
            config[name] = copy.deepcopy(row[name])
    if scale == "smoke" and isinstance(config.get("lpl", {}).get("threshold"), int):
        config["lpl"]["threshold"] = 0.4  # the digits have ten classes, whatever the table has
    return config


def public(config):
    """The description without what is this machine's: the folder of a data file."""
    data = {**config["data"], "name": Path(config["data"]["name"]).stem}
    return {**config, "data": data}


def run_name(config):
    """A name to read, and a hash that tells apart what it does not say."""
    config = public(config)
    text = json.dumps(config, sort_keys=True)
    data, network = config["data"], config["network"]
    parts = [data["name"], *([f"if{data['imbalance']:g}"] if data.get("imbalance") else [])]
    parts += [network["name"].replace("_", "-") + network_size(network)]
    parts += [f"{config['training']['epochs']}epochs", config["method"].replace(" ", "-").lower()]
    parts += [f"seed{config['seed']}", hashlib.sha256(text.encode()).hexdigest()[:8]]
    return "_".join(parts)


def network_size(network):
    """Depth and width of a network, `"28-10"`."""
    return "-".join(str(network[key]) for key in ("depth", "width") if key in network)


def result_file(config, out):
    """The file of a run's result."""
    return Path(out) / f"{run_name(config)}.json"


def result_of(config, out):
    """The result of a run, or `None` if there is none yet."""
    file = result_file(config, out)
    return json.loads(file.read_text()) if file.exists() else None
