"""`flexload config example|schema`: what a configuration looks like."""

import argparse
import json
from importlib.resources import files


def run(options: argparse.Namespace) -> int:
    """Print the commented example, or the JSON Schema for editors."""
    if options.what == "example":
        print(files("agent").joinpath("example.toml").read_text(encoding="utf-8"), end="")
        return 0
    from agent.config import Config

    print(json.dumps(Config.model_json_schema(), indent=2))
    return 0
