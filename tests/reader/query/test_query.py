"""The query language: what holds of which run, and what an error says."""

from __future__ import annotations

import string

import polars as pl
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.errors import QueryError
from mlxp_core.reader import Reader, compile_query

# run:        1           2          3          4
TABLE = pl.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "info.status": ["COMPLETE", "COMPLETE", "FAILED", None],
        "config.optimizer.lr": [1.0, 10.0, 0.1, float("nan")],
        "config.seed": [1, 2, 3, None],
        "config.flag": [True, False, None, True],
        "config.mixed": ["1", "auto", "true", None],
        "config.odd key/x": ["a'b", 'a"b', "a\\b", "a\nb"],
        "config.none": pl.Series([None] * 4, dtype=pl.String),
        "train.loss": [[1.0], None, [2.0], None],
    }
)


def ids(query):
    condition = compile_query(query, TABLE.schema, untyped={"config.mixed", "config.none"})
    assert TABLE.select(condition.alias("x"))["x"].null_count() == 0
    return TABLE.filter(condition)["id"].to_list()


@pytest.mark.parametrize("digits", [300, 399, 400, 401, 5000])
def test_a_number_of_any_length_is_larger_than_all(digits):
    """Catches: ValueError for what int() refuses to read, beyond 4300 digits, or an overflow on the way to a float."""
    number = "9" * digits
    assert ids(f"config.seed < {number}") == [1, 2, 3]
    assert ids(f"config.optimizer.lr > -{number}") == [1, 2, 3]
    assert ids(f"config.seed == {number}") == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3, 4]),
        ("  \n ", [1, 2, 3, 4]),
        ("info.status == 'COMPLETE' & config.optimizer.lr <= 1.", [1]),
        ('info.status == "COMPLETE"', [1, 2]),
        # precedence: comparison, ~, &, |
        ("~info.status == 'COMPLETE' & config.seed == 3 | config.seed == 1", [1, 3]),
        ("config.seed == 1 | config.seed == 2 & info.status == 'FAILED'", [1]),
        ("(config.seed == 1 | config.seed == 2) & info.status == 'COMPLETE'", [1, 2]),
        ("~(config.seed == 1 | config.seed == 2)", [3, 4]),
        ("~~config.seed == 1", [1]),
        ("not config.seed == 1 and config.seed < 3 or id == 4", [2, 4]),
        # a missing field: every comparison is false, its negation true
        ("config.seed == 1", [1]),
        ("config.seed != 1", [2, 3]),
        ("~config.seed == 1", [2, 3, 4]),
        ("~config.seed != 1", [1, 4]),
        ("config.seed < 3", [1, 2]),
        ("~config.seed < 3", [3, 4]),
        ("config.seed in [1, 3]", [1, 3]),
        ("config.seed in [1, 3,]", [1, 3]),
        ("config.seed in []", []),
        ("config.seed not in []", [1, 2, 3]),
        ("config.seed not in [1]", [2, 3]),
        ("~config.seed in [1]", [2, 3, 4]),
        ("config.seed is null", [4]),
        ("config.seed is not null", [1, 2, 3]),
        ("config.seed == null", [4]),
        ("config.seed != None", [1, 2, 3]),
        ("config.seed in [1, null]", [1, 4]),
        ("config.seed not in [1, null]", [2, 3]),
        ("train.loss is null", [2, 4]),
        ("config.none == 3 | config.none == 'x'", []),
        # NaN: only != is true of it
        ("config.optimizer.lr > 0", [1, 2, 3]),
        ("config.optimizer.lr >= 1", [1, 2]),
        ("config.optimizer.lr < 100", [1, 2, 3]),
        ("config.optimizer.lr != 1", [2, 3, 4]),
        ("config.optimizer.lr not in [1, 10]", [3, 4]),
        # numbers
        ("config.optimizer.lr == 1e-1", [3]),
        ("config.optimizer.lr == .1E0", [3]),
        ("config.seed >= 2.0", [2, 3]),
        ("config.seed>-2", [1, 2, 3]),
        ("config.seed > +2.5", [3]),
        (f"config.seed < {'9' * 30}", [1, 2, 3]),
        (f"config.seed > -{'9' * 500}", [1, 2, 3]),
        # truth
        ("config.flag == true", [1, 4]),
        ("config.flag != True", [2]),
        ("config.flag in [false]", [2]),
        # a field of several types
        ("config.mixed == 1", [1]),
        ("config.mixed == 1.0", [1]),
        ("config.mixed != 1", [2, 3]),
        ("config.mixed < 2", [1]),
        ("config.mixed == 'auto'", [2]),
        ("config.mixed < 'b'", [2]),
        ("config.mixed >= 'a'", [2]),
        ("config.mixed == true", [3]),
        ("config.mixed in [1, 'auto', false]", [1, 2]),
        # text
        ("info.status < 'D'", [1, 2]),
        (r"`config.odd key/x` == 'a\'b'", [1]),
        ('`config.odd key/x` == "a\'b"', [1]),
        (r'`config.odd key/x` == "a\"b"', [2]),
        (r"`config.odd key/x` == 'a\\b'", [3]),
        (r"`config.odd key/x` in ['a\nb', 'a\u0027b']", [1, 4]),
        ("`id` == 1", [1]),
        # a pair of escapes for one character, as JSON has it
        (r"info.status != '\ud83d\ude00' & config.seed == 1  ", [1]),
        # lists are null or not
        ("train.loss == null", [2, 4]),
        ("train.loss != null", [1, 3]),
        # beyond the whole numbers of a column
        ("config.seed == 9223372036854775808", []),
        ("config.seed < 9223372036854775808", [1, 2, 3]),
        ("config.seed > -9223372036854775809", [1, 2, 3]),
    ],
)
def test_a_query_holds_of_these_runs(query, expected):
    """Catches: a wrong precedence, null or NaN that passes, a literal or an escape misread."""
    assert ids(query) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "info.status == 'COMPLETE' & config.optimizer.lrr < 1",
            """no column 'config.optimizer.lrr': did you mean 'config.optimizer.lr'?
    info.status == 'COMPLETE' & config.optimizer.lrr < 1
                                ^^^^^^^^^^^^^^^^^^^^""",
        ),
        (
            "lr < 1",
            """no column 'lr': did you mean 'config.optimizer.lr'?
    lr < 1
    ^^""",
        ),
        (
            "Optimzer.LR < 1",
            """no column 'Optimzer.LR': did you mean 'config.optimizer.lr'?
    Optimzer.LR < 1
    ^^^^^^^^^^^""",
        ),
        (
            "zzz < 1",
            """no column 'zzz'; Reader(...).fields lists the 9 there are
    zzz < 1
    ^^^""",
        ),
        (
            "info.status == COMPLETE",
            """'COMPLETE' is not understood here: expected a number or a quoted string or true or false or null, \
and text is written in quotes
    info.status == COMPLETE
                   ^^^^^^^^""",
        ),
        (
            "info.status == 'COMPLETE",
            """this ' is never closed
    info.status == 'COMPLETE
                   ^""",
        ),
        (
            "config.seed = 1",
            """no comparison: equality is ==
    config.seed = 1
                ^""",
        ),
        (
            "(config.seed == 1",
            """the query ends too early: expected )
    (config.seed == 1
                     ^""",
        ),
        (
            "\tid == 1 & `config.模型` == 1",
            """no column 'config.模型'; Reader(...).fields lists the 9 there are
    \tid == 1 & `config.模型` == 1
    \t          ^^^^^^^^^^^^^""",
        ),
        (
            "config.seed ==  ",
            """the query ends too early: expected a number or a quoted string or true or false or null
    config.seed ==
                  ^""",
        ),
        (
            "config.seed == 1\n  & <",
            """'<' is not understood here: expected not or a column or ~ or (
      & <
        ^""",
        ),
        (
            "info.status < 3",
            """info.status holds text, which does not compare with 3; in quotes, '3' is text
    info.status < 3
                  ^""",
        ),
        (
            "config.seed in [1, 'x']",
            """config.seed holds numbers, which does not compare with 'x'
    config.seed in [1, 'x']
                       ^^^""",
        ),
        (
            "config.flag == 1",
            """config.flag holds true or false, which does not compare with 1
    config.flag == 1
                   ^""",
        ),
        (
            "config.flag < true",
            """true and false have no order
    config.flag < true
                  ^^^^""",
        ),
        (
            "config.seed >= null",
            """null has no order; `config.seed is null` asks for it
    config.seed >= null
                   ^^^^""",
        ),
        (
            "train.loss < 1",
            """train.loss holds lists: a query knows only whether it is null; Polars can do more, with .lazy()
    train.loss < 1
    ^^^^^^^^^^""",
        ),
        (
            r"info.status == 'a\qb'",
            r"""unknown escape \q (a backslash itself is written \\)
    info.status == 'a\qb'
                   ^^^^^^""",
        ),
    ],
)
def test_an_error_points_at_the_place_and_says_what_to_do(query, message):
    """Catches: a parser's own words, a caret in the wrong place, an empty answer instead of an error."""
    with pytest.raises(QueryError) as error:
        ids(query)
    assert str(error.value) == message
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize(
    "key", ["a b", "größe", "x`y", "``", "a'b", 'a"b', "a.b", "1", "in", "a\nb", "学习 率", "&", "a:b", "-"]
)
def test_a_key_with_any_characters_is_found_in_backticks(logs, key):
    """Catches: a configuration that cannot be asked for; a backtick in it that ends the name."""
    logs.run(1, {key: 5})
    logs.run(2, {key: 6})
    quoted = "`config." + key.replace("`", "``") + "`"
    assert [run["id"] for run in Reader(logs.path).filter(f"{quoted} == 5 & {quoted} is not null")] == [1]


@pytest.mark.parametrize("query", ["~" * 5000 + "id == 1", "(" * 5000 + "id == 1" + ")" * 5000])
def test_a_query_of_absurd_depth_is_an_error(query):
    """Catches: a RecursionError, or a crash of the interpreter."""
    with pytest.raises(QueryError, match="nested too deeply"):
        ids(query)


@given(
    st.text(alphabet=string.printable + "é損\x00", max_size=40)
    | st.lists(
        st.sampled_from(
            [
                "id",
                "config.seed",
                "==",
                "<",
                "in",
                "not",
                "is",
                "null",
                "[",
                "]",
                "(",
                ")",
                "&",
                "|",
                "~",
                "1",
                "'a'",
                ",",
                "`",
                "'",
            ]
        ),
        max_size=12,
    ).map(" ".join)
)
@examples(400)
def test_no_text_does_anything_but_compile_or_raise_a_query_error(query):
    """Catches: any other exception out of the parser or the compiler."""
    try:
        condition = compile_query(query, TABLE.schema)
    except QueryError:
        return
    TABLE.filter(condition)


# --- the same answer as plain Python ---------------------------------------------------------------------------------

VALUES = {
    "config.i": st.integers(-3, 3),
    "config.f": st.sampled_from([-1.5, 0.0, 0.5, 2.0, float("nan"), float("inf")]),
    "config.s": st.sampled_from(["a", "b", "a b", "", "é", "it's"]),
    "config.b": st.booleans(),
}
LITERALS = {
    "config.i": st.integers(-3, 3) | st.sampled_from([-0.5, 1.0, 2.5]),
    "config.f": st.integers(-2, 2) | st.sampled_from([-1.5, 0.5, 2.0]),
    "config.s": VALUES["config.s"],
    "config.b": VALUES["config.b"],
}
ORDERED = ["==", "!=", "<", "<=", ">", ">="]


def written(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return '"' + value + '"' if isinstance(value, str) else repr(value)


def comparison(operation, held, value):
    """Say what the documentation says: false of a missing field, else as Python compares."""
    if held is None:
        return False
    return {
        "==": held == value,
        "!=": held != value,
        "<": not isinstance(held, bool) and held < value,
        "<=": not isinstance(held, bool) and held <= value,
        ">": not isinstance(held, bool) and held > value,
        ">=": not isinstance(held, bool) and held >= value,
    }[operation]


@st.composite
def leaves(draw):
    """Draw a condition as (binding strength, text, function of a run)."""
    name = draw(st.sampled_from(sorted(VALUES)))
    form = draw(st.sampled_from(["compare", "in", "not in", "is null", "is not null"]))
    if form == "compare":
        operation = draw(st.sampled_from(ORDERED[:2] if name == "config.b" else ORDERED))
        value = draw(LITERALS[name])
        return 3, f"{name} {operation} {written(value)}", lambda run: comparison(operation, run[name], value)
    if form in {"in", "not in"}:
        values = draw(st.lists(LITERALS[name], max_size=3))
        text = f"{name} {form} [{', '.join(map(written, values))}]"
        wanted = form == "in"
        return 3, text, lambda run: run[name] is not None and (run[name] in values) is wanted
    return 3, f"{name} {form}", lambda run: (run[name] is None) is (form == "is null")


def bracketed(condition, strength):
    """Write a condition with the parentheses it needs, and no others, beside an operator of some strength."""
    return condition[1] if condition[0] >= strength else f"({condition[1]})"


@st.composite
def compounds(draw, children):
    one = draw(children)
    operation = draw(st.sampled_from(["~", "not ", " & ", " and ", " | ", " or "]))
    if operation in {"~", "not "}:
        return 2, operation + bracketed(one, 2), lambda run: not one[2](run)
    other = draw(children)
    strength = 1 if operation in {" & ", " and "} else 0
    text = bracketed(one, strength) + operation + bracketed(other, strength)
    if strength == 1:
        return 1, text, lambda run: one[2](run) and other[2](run)
    return 0, text, lambda run: one[2](run) or other[2](run)


RUNS = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), min_size=1, max_size=6
)


@given(runs=RUNS, condition=st.recursive(leaves(), compounds, max_leaves=6))
@examples(300)
def test_any_query_finds_the_runs_that_plain_python_finds(runs, condition):
    """Catches: any difference in precedence, null, NaN or types between the language as documented and as compiled."""
    _, text, holds = condition
    schema = {"config.i": pl.Int64(), "config.f": pl.Float64(), "config.s": pl.String(), "config.b": pl.Boolean()}
    table = pl.DataFrame(runs, schema=schema).with_row_index("place")
    found = table.filter(compile_query(text, schema))["place"].to_list()
    assert found == [place for place, run in enumerate(runs) if holds(run)]


@given(runs=RUNS, condition=st.recursive(leaves(), compounds, max_leaves=4))
@examples(25)
def test_any_query_finds_the_same_runs_in_a_log_directory(new_logs, runs, condition):
    """Catches: what the way through YAML, column types and the pushed-down predicate may add to that."""
    logs = new_logs()
    for number, run in enumerate(runs, 1):
        logs.run(number, {name.removeprefix("config."): value for name, value in run.items()})
    # a run that gives every column its type and that no condition is about
    logs.run(99, {"i": 1, "f": 0.5, "s": "a", "b": True})
    _, text, holds = condition
    found = [run["id"] for run in Reader(logs.path).filter(f"({text}) & id < 99")]
    assert found == [number for number, run in enumerate(runs, 1) if holds(run)]


def test_large_whole_numbers_are_compared_as_they_are():
    """Bug: 2**53 and 2**53 + 1 are the same float."""
    frame = pl.DataFrame({"n": [2**53, 2**53 + 1, 2**63 - 1]})
    for query, count in (("n == 9007199254740992.0", 1), ("n == 9007199254740993", 1), ("n <= 1e300", 3)):
        assert frame.filter(compile_query(query, frame.schema)).height == count
    frame = pl.DataFrame({"n": [0, 2**64 - 1], "x": [0.0, 1.0]}, schema={"n": pl.UInt64, "x": pl.Float64})
    huge = "1" + "0" * 350
    for query, count in ((f"n == {2**64 - 1}", 1), ("n >= -1", 2), (f"x < {huge}", 2), (f"n > -{huge}", 2)):
        assert frame.filter(compile_query(query, frame.schema)).height == count


def test_a_query_is_one_value_a_run_wherever_it_stands():
    """Bug: a query that is true of all runs, or of none, is one row, and a sum over it is 1."""
    for query, count in (("", 4), ("id in []", 0), ("not id in []", 4)):
        condition = compile_query(query, TABLE.schema)
        assert TABLE.select(condition.alias("x")).height == 4
        assert TABLE.group_by("config.none").agg(condition.sum().alias("x"))["x"].to_list() == [count]
