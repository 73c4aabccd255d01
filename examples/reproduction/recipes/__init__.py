"""The tables as data.

`tableN.toml` lists the columns of a table (data and network) and its rows (methods with their
parameters, and the paper's numbers). The recipe that it names, such as `long_tail.toml`, says how a
column is trained, and what the scales make of it.
"""

import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent
SCALES = ("smoke", "tiny", "small", "full")


def tables():
    """The names of the tables: what may stand after `--table`."""
    return sorted(path.stem.removeprefix("table").lstrip("_") for path in FOLDER.glob("table*"))


def read_table(name):
    """The file of a table, as a dict."""
    for file in (FOLDER / f"table{name}.toml", FOLDER / f"table_{name}.toml"):
        if file.exists():
            return tomllib.loads(file.read_text())
    raise SystemExit(f"There is no table {name!r}. There are: {', '.join(tables())}")


def recipe_of(table, column):
    """The recipe of a column, as a dict: how it is trained."""
    name = column.get("recipe", table.get("recipe"))
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


def selected(entries, names, what):
    """The rows or columns of these names, in the order of the file; all of them for `None`.

    Args:
        entries: Dicts with a "name".
        names: Separated by `;`, or by `,` where no name has a comma of its own.
        what: "row" or "column", for the error message.
    """
    if names is None:
        return entries
    known = {_key(entry["name"]) for entry in entries}
    split = [names] if _key(names) in known else names.split(";" if ";" in names else ",")
    wanted = {_key(name): name.strip() for name in split}
    for key, name in wanted.items():
        if key not in known:
            raise SystemExit(
                f"There is no {what} {name!r}. There are: "
                + "; ".join(entry["name"] for entry in entries)
            )
    return [entry for entry in entries if _key(entry["name"]) in wanted]


def _key(name):
    """`LA + LPL` and `la+lpl` are one name; and `LPL` is `LPL, varied bound`."""
    name = name.lower().replace(" ", "")
    return "lpl,variedbound" if name == "lpl" else name
