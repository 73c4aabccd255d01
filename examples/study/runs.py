"""Runs the cells of a recipe: one set under one regime, all methods and seeds."""

import hashlib
import json
import time
import tomllib
from pathlib import Path

import numpy as np

from examples.study import measures, sets
from examples.study.methods import expand
from examples.study.trainer import Regime, Trainer

DIGITS = 4


def load_recipe(path):
    """The recipe's cells, each a dict with all that decides its numbers."""
    with open(path, "rb") as file:
        recipe = tomllib.load(file)
    cells = []
    for table in recipe["sets"]:
        table = dict(table)
        name, regimes = table.pop("name"), table.pop("regimes")
        groups = table.pop("methods", ["main", "rules"])
        methods = [method for group in groups for method in recipe["methods"][group]]
        for regime, settings in recipe["regimes"][regimes].items():
            cells.append(
                {
                    "set": name,
                    "regime": regime,
                    "seeds": recipe["seeds"],
                    "split": table,
                    "training": settings,
                    "methods": methods,
                    "post_hoc": recipe["post_hoc"],
                }
            )
    return cells


def file_of(cell, folder):
    """Where the results of a cell lie; another setting is another file."""
    digest = hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{cell['set']}_{cell['regime']}_{digest}".replace(" ", "-")
    return Path(folder) / f"{name}.json"


def run_cell(cell, environment, seeds_at_once, report=lambda done: None):
    """Trains and measures every method with every seed.

    Returns:
        The content of the cell's result file.
    """
    started = time.monotonic()
    methods = expand(cell["methods"])
    regime = Regime(**cell["training"])
    seeds = list(range(cell["seeds"]))
    split = sets.split(seeds=seeds, **cell["split"])
    rows = []
    for start in range(0, len(seeds), seeds_at_once):
        which = slice(start, start + seeds_at_once)
        part, share = split.of_seeds(which), len(seeds[which]) / len(seeds)
        trainer = Trainer(split.x, *part.train, split.class_counts, methods, regime, seeds[which])
        begun = start / len(seeds)
        weights = trainer.fit(report=lambda done, b=begun, s=share: report(b + s * done))
        for index in range(len(seeds[which])):
            of_seed = {name: value[index] for name, value in weights.items()}
            rows.append(_measure_seed(trainer, of_seed, part, index, cell["post_hoc"]))
    return {
        "cell": {key: value for key, value in cell.items() if key != "methods"},
        "class_counts": np.asarray(split.class_counts).tolist(),
        "environment": environment,
        "seconds": round(time.monotonic() - started, 1),
        "lanes": _by_lane(rows, methods, cell["post_hoc"]),
    }


def _measure_seed(trainer, weights, part, seed, post_hoc):
    """Dicts of a measure's name to an array over lanes, the post-hoc ones after the trained."""
    counts = trainer.class_counts
    logits, labels = {}, {}
    for name in ("train", "held_out", "test"):
        rows, labels[name] = (array[seed] for array in getattr(part, name))
        logits[name] = trainer.logits(weights, rows)
    trained_accuracy = (logits["train"].argmax(-1) == labels["train"]).mean(-1)
    plain = [method.family for method in trainer.methods].index("cross-entropy")
    prior = np.log(np.asarray(counts) / np.sum(counts))
    extra = np.array(post_hoc)[:, None, None] * prior
    for name in ("held_out", "test"):
        adjusted = logits[name][plain] - extra
        logits[name] = np.concatenate([logits[name], adjusted])
    row = measures.measure(logits["test"], labels["test"], counts)
    held_out = measures.measure(logits["held_out"], labels["held_out"], counts)
    for name in ("balanced_accuracy", "accuracy", "macro_f1"):
        row[f"held_out_{name}"] = held_out[name]
    row["train_accuracy"] = np.concatenate(
        [trained_accuracy, np.repeat(trained_accuracy[plain], len(post_hoc))]
    )
    if len(counts) == 2:
        pairs = (logits["test"], labels["test"], logits["held_out"], labels["held_out"])
        row |= measures.measure_positives(*pairs)
    return row


def _by_lane(rows, methods, post_hoc):
    lanes = [(method.name, method.family, method.settings) for method in methods]
    lanes += [(f"post-hoc LA, tau {tau:g}", "post-hoc LA", {"tau": tau}) for tau in post_hoc]
    results = []
    for index, (name, family, settings) in enumerate(lanes):
        values = {
            key: [round(float(row[key][index]), DIGITS) for row in rows]
            for key in rows[0]
            if rows[0][key] is not None
        }
        results.append({"name": name, "family": family, "settings": settings, **values})
    return results


def write(path, content):
    """Writes a result file whole or not at all, one lane a line."""
    lanes = ",\n".join("  " + json.dumps(lane) for lane in content["lanes"])
    head = {key: value for key, value in content.items() if key != "lanes"}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    text = "{\n" + ",\n".join(lines) + ',\n "lanes": [\n' + lanes + "\n ]\n}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)
