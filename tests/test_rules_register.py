"""Every rule has a test that bears its id, or a reason why not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.rules import OTHER_FORM, OUT_OF_SCOPE, RULES

TESTS = Path(__file__).resolve().parent
ID = re.compile(r"(?<=_)([A-Z]\d\d)(?=_)", re.IGNORECASE)
FILES = "attributes messages signed_data envelope http capabilities state renewal security".split()
LATER_GROUPS = "PKF"
"""Groups of features that do not exist yet; their tests may bear ids too."""


def named_ids(name: str) -> set[str]:
    """The ids in the name of a test, such as ``test_a03_text`` or ``test_A03_A04_text``."""
    return {found.upper() for found in ID.findall(name)}


def marked_ids(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The ids in ``@pytest.mark.rule("A03")`` above a test."""
    found = set()
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.rule":
            found |= {ast.literal_eval(argument) for argument in decorator.args}
    return found


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(source)):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and node.name.startswith("test_"):
            yield node


def files() -> list[Path]:
    return sorted(TESTS.rglob("test_*.py"))


def rule_files() -> list[Path]:
    return [TESTS / f"test_rules_{name}.py" for name in FILES]


def covered(source: str) -> set[str]:
    """Ids that a test both bears in its name and is marked with."""
    found = set()
    for function in functions(source):
        found |= named_ids(function.name) & marked_ids(function)
    return found


def test_every_rule_has_a_test_or_a_reason() -> None:
    found = {rule for path in files() for rule in covered(path.read_text())}
    assert [rule for rule in RULES if rule not in found and rule not in OUT_OF_SCOPE] == []
    assert [rule for rule in OUT_OF_SCOPE if rule in found] == [], "tested, so not out of scope"


def test_register_is_whole() -> None:
    groups = {"A": 25, "M": 25, "C": 28, "E": 22, "H": 24, "Q": 14, "S": 25, "R": 15, "X": 12}
    expected = [f"{group}{number:02}" for group, size in groups.items()
                for number in range(1, size + 1)]
    assert list(RULES) == expected
    for table in (OUT_OF_SCOPE, OTHER_FORM):
        assert set(table) <= set(RULES)
        assert all(len(reason) > 5 for reason in table.values())


def test_rule_files_name_and_mark_alike() -> None:
    """In the files of the rules, a test's name has ids of its marks, and only such."""
    wrong = []
    for path in rule_files():
        for function in functions(path.read_text()):
            named, marked = named_ids(function.name), marked_ids(function)
            if not named <= marked or (marked and not named):
                wrong.append(f"{path.name}:{function.lineno} {function.name}")
    assert wrong == []


def test_no_mark_names_a_rule_that_does_not_exist() -> None:
    wrong = []
    for path in files():
        for function in functions(path.read_text()):
            for rule in marked_ids(function):
                if rule not in RULES and rule[0] not in LATER_GROUPS:
                    wrong.append(f"{path.name}:{function.lineno} {rule}")
    assert wrong == []


def test_exceptions_beside_the_tests_name_rules() -> None:
    """The tables OUT_OF_SCOPE in the files of the rules: ``"A01 (INTEGER)": "reason"``."""
    wrong = []
    for path in rule_files():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OUT_OF_SCOPE":
                for key in ast.literal_eval(node.value):
                    if key[:3] not in RULES:
                        wrong.append(f"{path.name}: {key}")
    assert wrong == []


def test_the_register_would_notice() -> None:
    source = (
        'import pytest\n@pytest.mark.rule("A03")\ndef test_a03_text(): ...\n'
        '@pytest.mark.rule("A04")\ndef test_another(): ...\ndef test_A05_text(): ...\n'
        '@pytest.mark.rule("S09")\n@pytest.mark.rule("S14")\ndef test_S09_S14_x(): ...\n'
        '@pytest.mark.rule("X50")\ndef test_x509_name(): ...\n')
    assert covered(source) == {"A03", "S09", "S14"}
    assert named_ids("test_h11_sans_io") == {"H11"}
    assert named_ids("test_x509_certificate") == set()
