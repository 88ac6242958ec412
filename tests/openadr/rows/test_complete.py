"""Every row of what openleadr's client does wrong has a test here."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.openadr2


def test_every_row_from_v1_to_v32_has_a_test():
    found = {
        node.name[5:8]
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_v")
    }
    assert found >= {f"v{number:02}" for number in range(1, 33)}
