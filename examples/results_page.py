"""Fills the tables of the documentation's pages from the result files in `docs/results`.

    python examples/results_page.py            # rewrites the pages
    python examples/results_page.py --check    # fails if a table does not say what the files say

A table stands between `<!-- table: GLOB -->` and `<!-- end -->`; GLOB names result files below
`docs/results`: files of single runs, or files with a list `runs`. `<!-- benchmarks: FOLDER -->`
names a folder of `benchmarks/run.py`, and `<!-- reproduction: TABLE/SCALE -->` what `reproduce.py`
has made of a table of the paper.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import reproduction
from common import markdown_table
from methods import METHODS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TABLE = re.compile(
    r"(<!-- (table|benchmarks|reproduction): (\S+) -->\n).*?(<!-- end -->)", re.DOTALL
)


def table_of_runs(pattern):
    """All runs in the files of a pattern, in the order of the methods."""
    runs = []
    for file in sorted((DOCS / "results").glob(pattern)):
        content = json.loads(file.read_text())
        runs += content.get("runs", [content])
    if not runs:
        raise SystemExit(f"There are no results for {pattern}")
    order = list(METHODS)
    # What is no method of its own, such as a phase of training, stays in the order of its file.
    runs.sort(key=lambda run: order.index(run["method"]) if run["method"] in METHODS else -1)
    return markdown_table(runs)


def table_of_benchmarks(folder):
    """What was timed, in the order of the cases."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from run import markdown

    return markdown(DOCS / "results" / folder)


def table_of_the_paper(name):
    """A table of the paper, from the runs in `docs/results/reproduction`."""
    table, scale = name.split("/")
    return reproduction.markdown(table, scale, DOCS / "results" / "reproduction")


def filled(page):
    """The page with every table made anew."""

    def table(match):
        return f"{match[1]}\n{MAKERS[match[2]](match[3])}\n\n{match[4]}"

    return TABLE.sub(table, page)


MAKERS = {
    "table": table_of_runs,
    "benchmarks": table_of_benchmarks,
    "reproduction": table_of_the_paper,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    for file in PAGES:
        page = file.read_text()
        if page == filled(page):
            continue
        if options.check:
            sys.exit(f"{file}: the tables differ from the result files; run this without --check")
        file.write_text(filled(page))


if __name__ == "__main__":
    main()
