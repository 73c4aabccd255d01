"""Fills the tables of `docs/results.md` from the result files beside it.

    python examples/results_page.py            # rewrites the page
    python examples/results_page.py --check    # fails if a table does not say what the files say

A table stands between `<!-- table: GLOB -->` and `<!-- end -->`; GLOB names result files below
`docs/results`: files of single runs, or files with a list `runs`.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from common import markdown_table
from methods import METHODS

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def runs_of(pattern):
    """All runs in the files of a pattern, in the order of the methods."""
    runs = []
    for file in sorted((PAGE.parent / "results").glob(pattern)):
        content = json.loads(file.read_text())
        runs += content.get("runs", [content])
    if not runs:
        raise SystemExit(f"{PAGE.name}: there are no results for {pattern}")
    return sorted(runs, key=lambda run: list(METHODS).index(run["method"]))


def filled(page):
    """The page with every table made anew."""

    def table(match):
        return f"{match[1]}\n{markdown_table(runs_of(match[2]))}\n\n{match[3]}"

    return TABLE.sub(table, page)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    page = PAGE.read_text()
    if options.check:
        if page != filled(page):
            sys.exit(f"{PAGE}: the tables differ from the result files; run this without --check")
    else:
        PAGE.write_text(filled(page))


if __name__ == "__main__":
    main()
