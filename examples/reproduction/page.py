"""The tables in the pages of the documentation, made from the result files in `docs/results`.

    python examples/reproduce.py --pages            # rewrites the pages, and draws the charts
    python examples/reproduce.py --pages --check    # fails if a table is not what the files say

A table stands between `<!-- table: GLOB -->` and `<!-- end -->`; GLOB names result files below
`docs/results`: files of single runs, or files with a list `runs`. `<!-- benchmarks: FOLDER -->`
names a folder of `benchmarks/run.py`, and `<!-- reproduction: TABLE/SCALE -->` what `reproduce.py`
has made of a table of the paper; with `/PRECISION` behind it, in another than the scale's.
"""

import json
import re
import sys
from pathlib import Path

from reporting import markdown_table, summary

from reproduction import pictures, tables

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
TABLE = re.compile(
    r"(<!-- (table|benchmarks|reproduction): (\S+) -->\n).*?(<!-- end -->)", re.DOTALL
)


def fill(check=False):
    """Rewrites every page whose tables differ from the result files; with `check`, fails if so.

    Draws the charts, too; their files are not compared, as Matplotlib's versions differ by a pixel.
    """
    for file in sorted(DOCS.rglob("*.md")):
        page = file.read_text()
        if page == filled(page):
            continue
        if check:
            sys.exit(f"{file}: the tables differ from the result files; run this without --check")
        file.write_text(filled(page))
    if not check:
        pictures.draw(RESULTS)


def filled(page):
    """The page with every table made anew."""
    return TABLE.sub(lambda m: f"{m[1]}\n{MAKERS[m[2]](m[3])}\n\n{m[4]}", page)


def table_of_runs(pattern):
    """All runs in the files of a pattern, in the order of the methods."""
    from methods import METHODS  # loads Keras

    runs = []
    for file in sorted(RESULTS.glob(pattern)):
        content = json.loads(file.read_text())
        runs += content.get("runs", [content])
    if not runs:
        raise SystemExit(f"There are no results for {pattern}")
    order = list(METHODS)
    # What is no method of its own, such as a phase of training, stays in the order of its file.
    runs.sort(key=lambda run: order.index(run["method"]) if run["method"] in METHODS else -1)
    return markdown_table(*summary(runs))


def table_of_benchmarks(folder):
    """What was timed, in the order of the cases."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from run import markdown

    return markdown(RESULTS / folder)


def table_of_the_paper(name):
    """A table of the paper."""
    table, scale, *precision = name.split("/")
    return tables.markdown(table, scale, RESULTS / "reproduction", False, *precision)


MAKERS = {
    "table": table_of_runs,
    "benchmarks": table_of_benchmarks,
    "reproduction": table_of_the_paper,
}
