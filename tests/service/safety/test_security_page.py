"""SECURITY.md names tests that exist."""

import ast
import re

from service_server import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 25
    tests: dict[str, set[str]] = {}
    for path, name in named:
        if path not in tests:
            tree = ast.parse((ROOT / path).read_text())
            tests[path] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in tests[path], f"{path} has no {name}"


def test_every_threat_has_a_proof() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 14
    for row in rows:
        threat, defence, proof = (cell.strip() for cell in row.strip("|").split("|"))
        assert threat
        assert defence
        assert "::test_" in proof, threat


def test_every_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make ([a-z-]+)", PAGE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
