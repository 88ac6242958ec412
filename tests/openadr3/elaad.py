"""ElaadNL's openadr3-client, a foreign client of OpenADR 3, in an environment of its own.

FLEXLOAD_ELAAD names the Python of an environment with what is in requirements-ci-elaad.txt; it takes
Python 3.12 or later, and `.ci/run` sets it up.
"""

import json
import os
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

from tests.requirement import missing

_PROGRAM = Path(__file__).with_name("utility.py")


class Utility:
    """An OAuth client of a VTN that does as business logic. Skips or fails the test where there is none."""

    client_id = "utility"

    def __init__(self, vtn_url: str, secret: str) -> None:
        python = os.environ.get("FLEXLOAD_ELAAD", "")
        if not Path(python).is_file():
            missing("interop", "no openadr3-client (FLEXLOAD_ELAAD, requirements-ci-elaad.txt)")
        self._command = (python, _PROGRAM, vtn_url, self.client_id, secret)

    async def ask(self, *what: str) -> Any:
        """Have it do one of the things that utility.py lists; what it says."""
        process = await create_subprocess_exec(
            *self._command, *what, stdout=PIPE, env={"OAUTHLIB_INSECURE_TRANSPORT": "1"}
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(said)
