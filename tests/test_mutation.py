"""helpers/mutants.py and tests/mutation.py: which faults are made of a source, and how many of them count as caught."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mutants import mutants_of, parses, sample
from support import ROOT
from tree_copy import Outcome, Ran, TreeCopy

sys.path.insert(0, str(ROOT / "tests"))
import mutation

sys.path.remove(str(ROOT / "tests"))


def lines(source: str) -> list[str]:
    """What the first line that changes becomes, in each mutant."""
    found = mutants_of("a.py", source.encode())
    assert all(parses(mutant, source.encode()) for mutant in found)
    return [mutant.mutated for mutant in found]


@pytest.mark.parametrize(
    ("source", "mutated"),
    [
        ("a < b", ["a <= b"]),
        ("(a) is not b", ["(a) is b"]),
        ("a not in b", ["a in b"]),
        ("0 <= a != b", ["1 <= a != b", "(-1) <= a != b", "0 < a != b", "0 <= a == b"]),
        ("(a) and b", ["b", "(a) or b", "(a)"]),
        ("a = é(b or c)", ["a = é(c)", "a = é(b and c)", "a = é(b)"]),
        ("a if b else c", ["a if (not (b)) else c"]),
        ("a if b == c else d", ["a if b != c else d"]),
        ("not (a)", ["(a)"]),
        ("[a for a in b if c]", ["[a for a in b if True]"]),
        ("a - b // c", ["a + b // c", "a - b * c"]),
        ("a / 'x' / b", []),
        ("x: int | None = True", ["x: int | None = False"]),
        ("print(min(a))", ["pass", "print(max(a))"]),
        ("a = any(b)", ["a = all(b)"]),
        ("a = sorted(b)", ["a = list(reversed(sorted(b)))"]),
        ("a = sorted(b, reverse=True)", ["a = sorted(b, reverse=False)"]),
        ("a = b[c:d]", ["a = b[:d]", "a = b[c:]"]),
        ("a = b['c']", ["a = b['cX']"]),
        ("a = b.get('c', 'd')", ["a = b.get('cX', 'd')"]),
        ("a = {'b': 'c'}", ["a = {'bX': 'c'}"]),
        ("a.b = c", ["pass"]),
        ("a = zip(b, strict=True)", []),
        ("a = f'{b + c}'", []),
        ("log.info('a', 1)", []),
        ("'''Text.'''", []),
        ("if __name__ == '__main__':\n    main(1)", []),
        ("while True:\n    break", ["while False:", "continue"]),
        ("def f(a=1) -> 'd':\n    return a", ["def f(a=2) -> 'd':", "def f(a=0) -> 'd':", "return None"]),
        ("def f(*, a='b'):\n    return False", ["def f(*, a='bX'):", "return True"]),
        ("def f(a):\n    b = 'c'\n    a = b\n    return ''", ["pass"]),
        ("def f():\n    raise A(1 + 2)", ["pass"]),
        ("try:\n    a()\nexcept (B, C.D):\n    e += f", ["pass", "except (C.D,):", "except (B,):", "pass", "e -= f"]),
        ("try:\n    a = 'b'\nexcept B as c:\n    ''", ["except () as c:"]),
        ("match a:\n    case 'b' | 2:\n        ''", ["case 'bX' | 2:", "case 'b' | 3:", "case 'b' | 1:"]),
    ],
)  # fmt: skip
def test_a_source_has_these_mutants(source: str, mutated: list[str]) -> None:
    """Bug: a kind of fault that is never put in, or one that is no program, or in what no test should hold to."""
    assert sorted(lines(source)) == sorted(mutated)


SOURCE = b"""\
LIMIT = 1


class A:
    b = c[0:]

    def d(self, e=f < g):
        if (
            self
            and e
        ):
            return 1
        return ""
"""


def test_a_mutant_knows_where_it_is() -> None:
    """Bug: tests are chosen by the lines that they reach, and these are other lines, or run at import."""
    places = {m.mutated: (m.where, m.statement, m.last, m.at_import) for m in mutants_of("a.py", SOURCE)}
    assert places["LIMIT = 2"] == ("", 1, 1, True)
    assert places["b = c[1:]"] == ("A", 5, 5, True)
    assert places["def d(self, e=f <= g):"] == ("A", 7, 7, True)
    assert places["or e"] == ("A.d", 8, 10, False)
    assert places["return 2"] == ("A.d", 12, 12, False)


def test_a_seed_gives_the_same_mutants_of_all_files_by_their_share() -> None:
    """Bug: a figure that nobody can repeat, or of small files more than of large ones."""
    sources = {"a.py": b"a < b\n" * 30, "b.py": b"a == b\n" * 10}
    chosen = sample(sources, 8, 1)
    assert chosen == sample(sources, 8, 1)
    assert chosen != sample(sources, 8, 2)
    assert [mutant.path for mutant in chosen].count("a.py") == 6
    assert len({mutant.key for mutant in chosen}) == 8
    later = sample({"a.py": sources["a.py"] + b"a < b\n", "b.py": b"x = 1\n" + sources["b.py"]}, 8, 1)
    assert len({mutant.key for mutant in chosen} & {mutant.key for mutant in later}) >= 6


def test_each_argued_equivalent_is_a_mutant_that_there_is() -> None:
    """Bug: the code has changed, and an argument for what it was excuses what it is."""
    stale = []
    for key, reason in mutation.load_equivalents().items():
        path = key.split("::")[0]
        assert reason.strip()
        source = (ROOT / path).read_bytes() if (ROOT / path).exists() else b""
        if key not in {mutant.key for mutant in mutants_of(path, source)}:
            stale.append(key)
    assert stale == []


class Suite:
    """Tests that a Judge has at its hands: by name how long each takes, and what becomes of it, run by run."""

    def __init__(self, seconds: dict[str, float], **outcomes: list[str]) -> None:
        self.seconds, self.outcomes = seconds, outcomes
        self.steady = {"a.py::s"}
        self.ran: list[list[str]] = []
        self.mutated = False

    def tests(self, mutant: object) -> list[str]:
        return list(self.seconds)

    def put(self, mutant: object, path: str) -> None:
        self.mutated = mutant is not None

    def run(self, tests: list[str], seconds: float, limits: object) -> Ran:
        self.ran.append(tests)
        done = []
        for test in tests:
            words = self.outcomes.get(test.removeprefix("a.py::"), [])
            word = words.pop(0) if words else "passed"
            if word in {"hangs", "exits"}:
                return Ran(done, None if word == "hangs" else 137)
            done.append(Outcome(test, word, 0.0))
            if word == "failed":
                return Ran(done, 1)
        return Ran(done, 0)


@pytest.mark.parametrize(
    ("seconds", "outcomes", "status", "runs"),
    [
        ({}, {}, "not reached", []),
        ({"a": 0.1, "b": 0.1}, {}, "survived", ["ab"]),
        ({"a": 0.1, "b": 0.1}, {"a": ["failed", "passed"]}, "caught", ["ab", "a"]),
        ({"a": 0.1, "s": 0.1}, {"s": ["failed", "failed"]}, "caught", ["as"]),  # when the map was made, it passed
        ({"a": 0.1, "b": 0.1}, {"a": ["failed", "failed"]}, "survived", ["ab", "a", "b"]),  # without the fault, too
        ({"a": 9, "b": 9}, {"a": ["failed", "passed"]}, "survived", ["a", "a", "b"]),  # by chance
        ({"a": 9, "b": 9}, {"a": ["failed", "failed", "passed"]}, "caught", ["a", "a", "a"]),
        ({"a": 0.1, "b": 9}, {"b": ["hangs"]}, "caught", ["ab", "ab"]),
        ({"a": 0.1, "b": 9}, {"b": ["exits"]}, "caught", ["ab", "ab"]),
        ({"a": 0.1, "b": 9}, {"b": ["hangs", "hangs"]}, "survived", ["ab", "ab", "b"]),
    ],
)
def test_a_test_counts_that_fails_with_the_fault_and_because_of_it(
    seconds: dict[str, float], outcomes: dict[str, list[str]], status: str, runs: list[str]
) -> None:
    """Bug: a test that fails by chance, or always, catches all faults."""
    suite = Suite({f"a.py::{name}": time for name, time in seconds.items()}, **outcomes)
    (mutant,) = mutants_of("a.py", b"a < b\n")
    result = mutation.Judge(suite, suite, budget=60).judge(mutant)
    assert result["status"] == status
    assert ["".join(test.removeprefix("a.py::") for test in tests) for tests in suite.ran] == runs
    assert not suite.mutated


def test_a_fault_is_in_the_copy_alone_and_in_the_programs_that_tests_start_there(tmp_path: Path) -> None:
    """Bug: tests run what is installed, or what was compiled before, and no fault is ever caught."""
    copy = TreeCopy(tmp_path)
    tests = ["tests/ground/test_nested.py::test_a_path_that_leads_nowhere_gives_the_default"]
    path = "mlxp_core/nested.py"
    source = (ROOT / path).read_bytes()
    (mutant,) = (it for it in mutants_of(path, source) if it.key.endswith("return value -> return None"))
    show = ["-c", "import mlxp_core.nested as n; print(n.__file__, n.value_at({1: 2}, (1,)))"]
    for fault, failed, value in ((mutant, tests, None), (None, [], 2)):
        copy.put(fault, path)
        assert copy.run(tests, 60).failed == failed
        shown = subprocess.run([copy.python, *show], cwd=copy.folder, capture_output=True, text=True, check=True).stdout
        assert shown == f"{copy.tree / path} {value}\n"
        assert (ROOT / path).read_bytes() == source


def test_the_interval_is_wilsons() -> None:
    """Bug: 10 of 10 caught, and the figure says that no fault would ever pass. Values: Wilson 1927, by hand."""
    assert mutation.wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-3)
    assert mutation.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)


def test_results_count_by_package_and_equivalents_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: an equivalent lowers the figure, or a fault without a result raises it."""
    chosen = mutants_of("mlxp_core/runs/a.py", b"a < b\nc < d\ne < f\ng < h\n")
    keys = [mutant.key for mutant in chosen]
    of = {"caught": {"status": "caught"}, "survived": {"status": "survived", "ran": 3, "reached_by": 4}}
    results = dict(zip(keys, (of["caught"], of["survived"], of["survived"]), strict=False))
    monkeypatch.setattr(mutation, "load_equivalents", lambda: {keys[2]: "because"})
    mutation.report(chosen, results)
    shown = capsys.readouterr().out
    assert "runs                          1        1           0          1       1    50% (9% to 91%)" in shown
    assert "1: mlxp_core/runs/a.py:2  [comparison] survived 3 of 4 tests\n- c < d\n+ c <= d\n" in shown
    assert "e <= f" not in shown
