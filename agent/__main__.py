"""`python -m agent`: the command line, where the console script is not installed."""

import sys

from agent.cli import main

sys.exit(main())
