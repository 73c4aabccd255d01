"""A table of the paper in Markdown: our results beside the paper's numbers."""

import itertools

from reporting import SHOTS, markdown_table, mean_and_spread

from reproduction import configs, plan, recipes

COLUMNS = ["method", "error, ours", "seeds", *(f"{shot}-shot" for shot in SHOTS), "error, paper"]


def markdown(name, scale, out, searched=False, precision=None):
    """One table for each column of the paper's that has results.

    Args:
        name: Of the table, as in `recipes.tables()`.
        scale: One of `recipes.SCALES`.
        out: The folder of the results.
        searched: Whether parameters are those that a search found.
        precision: As for `configs.config_of`.
    """
    table = recipes.read_table(name)
    parts = []
    for column in table["columns"]:
        lines, results = [], []
        for row in table["rows"]:
            config = configs.config_of(table, column, row, scale, precision=precision)
            if searched and row.get("grid"):
                config = plan.with_best(config, row, out)
            runs = runs_of(config, out) if config else []
            # Beside a smoke run the paper's number would only mislead.
            paper = row.get("paper", {}).get(column["name"]) if scale != "smoke" else None
            if runs:
                lines.append(_line(row["name"], runs, paper))
                results += runs
        if lines:
            parts.append(_heading(table, column, scale, results, searched))
            parts.append(markdown_table(COLUMNS, lines))
    if not parts:
        raise SystemExit(f"There are no results of table {name} at scale {scale} in {out}")
    return "\n\n".join(parts)


def runs_of(config, out):
    """The results of seeds 0, 1, ... up to the first that is missing."""
    results = (configs.result_of({**config, "seed": seed}, out) for seed in itertools.count())
    return list(itertools.takewhile(lambda result: result is not None, results))


def _line(name, runs, paper):
    keys = ["balanced_error", *(f"{shot}_shot_accuracy" for shot in SHOTS)]
    error, *shots = (mean_and_spread([run[key] for run in runs], decimals=2) for key in keys)
    return [name, error, str(len(runs)), *shots, "-" if paper is None else f"{paper:.2f}"]


def _heading(table, column, scale, results, searched):
    """What was run, in a line, for every table: a small run must not pass for the paper's."""
    config, training = results[0]["config"], results[0]["config"]["training"]
    network = config["network"]
    parts = [
        config["data"]["name"],
        f"{network['name'].replace('_', ' ')} {configs.network_size(network)}",
        f"{training['epochs']} epochs",
        training.get("precision", "float32"),
        " and ".join(sorted({result["backend"] for result in results})),
        f"parameters {'searched on held-out training data' if searched else 'not searched'}",
    ]
    return f"**{table['title']}; {column['name']}.** Scale *{scale}*: {', '.join(parts)}."
