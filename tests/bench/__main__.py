"""Run every benchmark (or those named) and print one JSON object a figure: `bench`, `value`, `unit`, and
`against` with the rival's value where there is one.
"""

import json
import sys
from collections.abc import Iterator
from importlib import import_module

NAMES = ("planner", "limits", "listing", "poll", "response", "notice", "idle", "freeze", "phoenix")

Figure = dict[str, object]


def figures(names: list[str]) -> Iterator[Figure]:
    for name in names:
        yield from import_module(f"tests.bench.{name}").figures()


def main() -> None:
    for figure in figures(sys.argv[1:] or list(NAMES)):
        print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
