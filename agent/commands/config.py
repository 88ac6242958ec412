"""`flexload config example|program|schema`: what a configuration looks like."""

import argparse
import json
from importlib.resources import files

from agent.errors import ConfigError


def run(options: argparse.Namespace) -> int:
    """Print the commented example, a program to append to it, or the JSON Schema for editors."""
    if options.name is not None and options.what != "program":
        raise ConfigError(f"config {options.what} takes no name, but got {options.name!r}")
    if options.what == "example":
        print(files("agent").joinpath("example.toml").read_text(encoding="utf-8"), end="")
    elif options.what == "program":
        _print_program(options.name)
    else:
        from agent.config import Config

        print(json.dumps(Config.model_json_schema(), indent=2))
    return 0


def _print_program(name: str | None) -> None:
    """The ready program of that name; without a name, what there is, each by its first line."""
    ready = {
        file.name.removesuffix(".toml"): file.read_text(encoding="utf-8")
        for file in files("agent").joinpath("programs").iterdir()
        if file.name.endswith(".toml")
    }
    if name is None:
        for known, text in sorted(ready.items()):
            print(f"{known:27}{text.partition(chr(10))[0].removeprefix('# ')}")
    elif name in ready:
        print(f"\n{ready[name]}", end="")
    else:
        raise ConfigError(f"no program {name!r} is ready; there are: {', '.join(sorted(ready))}")
