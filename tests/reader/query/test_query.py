"""The query language: what holds of which run, and what an error says."""

from __future__ import annotations

import math
import string
import time
from datetime import datetime, timezone

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
RICH = TABLE.with_columns(
    pl.Series("info.start_time", [datetime(2026, 11, day, 12, tzinfo=timezone.utc) for day in (28, 29, 30)] + [None]),
    pl.Series("config.names", [["adam", "sgd"], [], None, ["adamw"]]),
    pl.Series("config.sizes", [[1, 2], [3], None, [2**62]]),
    pl.Series("config.ends", [[2**63 - 1], [-(2**63)], None, []]),
    pl.Series("config.other", [1.0, 0.5, 3.0, None]),
    pl.Series("val.acc", [[0.5, 0.9, 0.7], [float("nan"), 0.2], [], None]),
    pl.Series("val.note", [["x"], ["7", None], None, ["NaN"]]),
).with_columns(pl.col("info.start_time").dt.cast_time_unit("us"))
NOW = datetime(2026, 12, 1, 6, tzinfo=timezone.utc)


def found(query):
    condition = compile_query(query, RICH.schema, untyped={"config.mixed", "config.none"}, now=NOW)
    assert RICH.select(condition.alias("x"))["x"].null_count() == 0
    return RICH.filter(condition)["id"].to_list()


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
        (r"`config.odd key/x` != '\ud83d\ude00' & config.seed == 1  ", [1]),
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
            """no column 'COMPLETE'; Reader(...).fields lists the 9 there are; text is written in quotes: 'COMPLETE'
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
            """the query ends too early: expected a column or a value
    config.seed ==
                  ^""",
        ),
        (
            "config.seed == 1\n  & <",
            """'<' is not understood here: expected not or a column or ~ or ( or a value
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
            """train.loss holds lists: ask for one value, as in last(train.loss) > 0, for one in it, as in \
1 in train.loss, or whether it is null; Polars can do more, with .lazy()
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
    ("query", "expected"),
    [
        # either side, and chains
        ("1 >= config.optimizer.lr", [1, 3]),
        ("'COMPLETE' == info.status", [1, 2]),
        ("null != config.seed", [1, 2, 3]),
        ("0 < config.optimizer.lr < 5", [1, 3]),
        ("1 < config.seed <= 3 & id > 2", [3]),
        ("3 > config.seed > 1", [2]),
        ("1 <= config.seed == config.other", [1, 3]),
        # columns with columns; false where one is missing
        ("config.seed == config.other", [1, 3]),
        ("config.seed != config.other", [2]),
        ("config.other < config.seed", [2]),
        ("config.optimizer.lr >= config.seed", [1, 2]),  # NaN and null: neither
        ("~config.optimizer.lr < config.seed", [1, 2, 4]),
        ("last(val.acc) < config.other", [1, 2]),
        # alone
        ("config.flag", [1, 4]),
        ("not config.flag", [2, 3]),
        ("config.flag & id > 1 || config.mixed", [3, 4]),
        ("config.flag && !(id == 4)", [1]),
        # in parentheses, and in lists and text
        ("config.seed in (1, 3)", [1, 3]),
        ("config.seed not in (1, 3,)", [2]),
        ("config.seed in ()", []),
        ("'adam' in config.names", [1]),
        ("'adam' not in config.names", [2, 4]),
        ("not 'adam' in config.names", [2, 3, 4]),
        ("2 in config.sizes", [1]),
        ("3.0 in config.sizes", [2]),
        ("2.5 in config.sizes", []),
        ("4611686018427387905 in config.sizes", []),  # 2**62 + 1: the same float
        ("9223372036854775807 in config.ends", [1]),  # the highest of 64 bits
        ("-9223372036854775808 in config.ends", [2]),
        ("9223372036854775808 in config.ends", []),
        ("0.2 in val.acc", [2]),
        ("'PLET' in info.status", [1, 2]),
        ("config.seed in config.sizes", [1]),
        # prefixes and patterns
        ("info.status startswith 'COMP'", [1, 2]),
        ("startswith(info.status, 'COMP')", [1, 2]),
        ("info.status.startswith('COMP')", [1, 2]),
        ("info.status endswith 'ED'", [3]),
        ("info.status =~ '^(COMP|RUN)'", [1, 2]),
        (r"info.status =~ 'L.T'", [1, 2]),
        ("info.status !~ '^COMP'", [3]),
        ("~ info.status =~ '^COMP'", [3, 4]),
        # metrics by one of their values
        ("last(val.acc) > 0.6", [1]),
        ("first(val.acc) == .5", [1]),
        ("best(val.acc, max) > 0.8", [1]),
        ("best(val.acc, 'min') < 0.3", [2]),
        ("best(val.acc, mode=min) < 0.3", [2]),
        ("max(val.acc) > 0.8", [1]),
        ("max(val.acc) < 5", [1]),  # the second is NaN
        ("max(val.acc) != 5", [1, 2]),
        ("0.69 < mean(val.acc) < 0.71", [1]),
        ("0.1 < min(val.acc) < 0.6", [1]),
        ("last(val.acc) in [0.7, 0.2]", [1, 2]),
        ("last(val.acc) is null", [3, 4]),
        ("last(val.note) == 'x'", [1]),
        ("last(val.note) > 6", [2]),
        ("max(config.sizes) >= 3", [2, 4]),
        ("last(config.seed) == 2", [2]),
        # times: UTC where nothing is said
        ("info.start_time > '2026-11-29'", [2, 3]),
        ("info.start_time >= '2026-11-29T12:00'", [2, 3]),
        ("info.start_time > '2026-11-29T12:00:00Z'", [3]),
        ("info.start_time == '2026-11-29T21:00:00+09:00'", [2]),
        ("info.start_time in ['2026-11-29 12:00:00 UTC', '2026-11-30T07:00-05:00']", [2, 3]),
        ("'2026-11-29' <= info.start_time < '2026-11-30'", [2]),
        ("info.start_time > -2d", [2, 3]),  # 06:00 on the 29th
        ("info.start_time > '-2d'", [2, 3]),
        ("info.start_time < -18.5h", [1, 2]),
        ("info.start_time > -18h", []),
        ("info.start_time >= -18h", [3]),
        ("-1w < info.start_time <= -1080m", [1, 2, 3]),
        ("info.start_time is null", [4]),
        ("id >-2 & config.seed>-1", [1, 2, 3]),
    ],
)
def test_what_people_write_holds_of_these_runs(query, expected):
    """Bug: a value on the left, a chain, a list, a metric or a time is a syntax error, or holds of other runs."""
    assert found(query) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "info.status == 'COMPLET'",
            """no run has the status 'COMPLET': did you mean 'COMPLETE'? There is PENDING, RUNNING, COMPLETE, FAILED, \
CANCELLED, TIMEOUT, PREEMPTED, LOST
    info.status == 'COMPLET'
                   ^^^^^^^^^""",
        ),
        ("info.status in ['FAILED', 'failed']", "no run has the status 'failed': did you mean 'FAILED'? There is"),
        ("'DONE' != info.status", "no run has the status 'DONE': "),
        (
            "info.start_time == '2026-11-30'",
            """'2026-11-30' is midnight; a day is '2026-11-30' <= info.start_time < the next one
    info.start_time == '2026-11-30'
                       ^^^^^^^^^^^^""",
        ),
        (
            "info.start_time > 'yesterday'",
            "'yesterday' is no time: write '2026-11-30', '2026-11-30T09:00:00+01:00', or -2d (s m h d w)",
        ),
        ("info.start_time > 5", "5 is no time"),
        ("info.start_time > -99999999999w", "-99999999999w is no time"),
        ("config.seed > -2d", "config.seed holds numbers, which does not compare with -2d"),
        ("info.status == -2d", "info.status holds text, which does not compare with -2d"),
        ("config.mixed == -2d", "config.mixed holds values of several types, which does not compare with -2d"),
        ("val.acc > 0.9", "val.acc holds lists: ask for one value, as in last(val.acc) > 0, for one in it"),
        (
            "best(val.acc) > 0.9",
            """best needs its direction: best(val.acc, max) or best(val.acc, min)
    best(val.acc) > 0.9
    ^^^^^^^^^^^^^""",
        ),
        ("best(val.acc, maximum) > 0.9", "best needs its direction"),
        ("best(val.acc, top=max) > 0.9", "best has no option top"),
        ("last(val.acc, max) > 0.9", "last takes a column alone"),
        ("lsat(val.acc) > 0.9", "no function 'lsat': did you mean last?"),
        ("mean(val.note) > 0.9", "mean takes numbers: val.note holds lists of text"),
        ("max(info.status) > 'A'", "max takes numbers: info.status holds text"),
        ("last(3) > 2", "last takes a column, such as train.loss, and not 3"),
        ("1 < 2", "1 < 2 asks for no column"),
        ("true", "true alone is no condition"),
        ("config.seed", "config.seed holds numbers: compare it, as in config.seed == …"),
        ("1 in [1]", "1 is no column, of which `in [..]` is asked"),
        ("config.seed == config.flag", "config.seed holds numbers, which does not compare with config.flag: true or"),
        ("config.flag < config.flag", "true and false have no order"),
        ("config.mixed == config.seed", "config.mixed holds values of several types: compare it with a value"),
        ("'adam' in config.seed", "config.seed holds numbers: `in` looks into lists and text"),
        ("1 in config.names", "config.names holds lists of text, in which 1 cannot be"),
        ("null in config.names", "config.names holds lists of text, in which null cannot be"),
        ("'1' in config.mixed", "config.mixed holds values of several types: `in` looks"),
        ("config.seed =~ '1'", "config.seed holds numbers: =~ is asked of text"),
        (
            "info.status =~ '('",
            "this is no regular expression that Polars knows: regex parse error: ( ^ error: unclosed group\n",
        ),
        ("startswith(info.status)", "startswith takes a column and a quoted string"),
        ("info.status startswith COMP", "'COMP' is not understood here: expected a quoted string"),
    ],
)
def test_what_has_no_meaning_says_what_has(query, message):
    """Bug: an empty table for a slip, a date that equals no moment, a direction that was guessed."""
    with pytest.raises(QueryError) as error:
        found(query)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "query",
    [
        "id in [" + ",".join(map(str, range(20_000))) + "]",
        "config.name in [" + ",".join(f"'name {number}'" for number in range(20_000)) + "]",
        " & ".join(f"id != {number}" for number in range(100, 2100)),
        " | ".join(f"id == {number}" for number in range(2000)),
        " and ".join(f"last(train.loss) != {number} & id != {number}" for number in range(100, 1100)),
    ],
    ids=lambda query: query[:12],
)
def test_a_query_that_a_program_has_written_takes_time_by_its_length(logs, query):
    """Bug: 1,000 terms took 37 s, the square of their number, and 20,000 values 8 s."""
    for number in (1, 2):
        logs.run(number, {"name": f"name {number}"}, metrics={"train": [{"loss": 0.5}]})
    reader = Reader(logs.path)
    start = time.process_time()
    assert [run["id"] for run in reader.filter(query)] == [1, 2]
    assert time.process_time() - start < 4


def test_whole_numbers_and_floats_in_two_columns_are_compared_as_they_are():
    """Bug: 2**53 + 1 equal to the float 2**53; or a float beyond all whole numbers, or none, taken for null."""
    frame = pl.DataFrame(
        {"n": [2**53 + 1] * 4 + [-1, 0], "x": [2.0**53, 1e300, -math.inf, math.nan, -1.5, 0.0]},
        schema={"n": pl.Int64, "x": pl.Float64},
    )
    for query, expected in {
        "n == x": [False, False, False, False, False, True],
        "n > x": [True, False, True, False, True, False],
        "x >= n": [False, True, False, False, False, True],
        "n <= x": [False, True, False, False, False, True],
        "x != n": [True, True, True, True, True, False],
    }.items():
        assert frame.select(compile_query(query, frame.schema).alias("x"))["x"].to_list() == expected, query


def test_metric_files_are_read_for_the_runs_alone_that_pass_the_rest(logs):
    """Bug: a query of a metric that opens the files of all runs."""
    for number in range(1, 5):
        logs.run(number, {"lr": number}, metrics={"val": [{"acc": number / 10}], "train": [{"loss": 1.0}]})
    reader = Reader(logs.path)
    with logs.metric_files_opened() as opened:
        assert [run["id"] for run in reader.filter("config.lr > 2 & last(val.acc) < 0.4")] == [3]
    assert sorted(set(opened)) == ["3/val", "4/val"]
    many = " & ".join(f"config.lr != {number}" for number in range(5, 30))
    with logs.metric_files_opened() as opened:
        assert [run["id"] for run in reader.filter(f"{many} & config.lr > 2 & last(val.acc) < 0.4")] == [3]
    assert sorted(set(opened)) == ["3/val", "4/val"]


@pytest.mark.parametrize(
    "key", ["a b", "größe", "x`y", "``", "a'b", 'a"b', "a.b", "1", "in", "a\nb", "学习 率", "&", "a:b", "-"]
)
def test_a_key_with_any_characters_is_found_in_backticks(logs, key):
    """Catches: a configuration that cannot be asked for; a backtick in it that ends the name."""
    logs.run(1, {key: 5})
    logs.run(2, {key: 6})
    quoted = "`config." + key.replace("`", "``") + "`"
    assert [run["id"] for run in Reader(logs.path).filter(f"{quoted} == 5 & {quoted} is not null")] == [1]


@pytest.mark.parametrize("query", ["~" * 5000 + "id == 1", "(~" * 5000 + "id == 1" + ")" * 5000])
def test_a_query_of_absurd_depth_is_an_error(query):
    """Catches: a RecursionError, or a crash of the interpreter."""
    with pytest.raises(QueryError, match="nested too deeply"):
        ids(query)


def test_parentheses_alone_are_no_depth():
    """Bug: what a program has put 300 pairs of parentheses around is refused."""
    assert ids("(" * 5000 + "id == 1" + ")" * 5000) == [1]


@given(
    st.text(alphabet=string.printable + "é損\x00", max_size=40)
    | st.lists(
        st.sampled_from(
            [
                "id",
                "config.seed",
                "info.start_time",
                "train.loss",
                "config.names",
                "last(train.loss)",
                "best(train.loss, max)",
                "min(",
                "==",
                "<",
                "=~",
                "!~",
                "startswith",
                "endswith(",
                "-2d",
                "'2026-11-30'",
                "true",
                "&&",
                "||",
                "!",
                "=",
                "max",
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
        condition = compile_query(query, RICH.schema)
    except QueryError:
        return
    assert RICH.select(condition.alias("x"))["x"].null_count() == 0


# --- the same answer as plain Python ---------------------------------------------------------------------------------

VALUES = {
    "config.i": st.integers(-3, 3),
    "config.j": st.integers(-3, 3),
    "config.f": st.sampled_from([-1.5, 0.0, 0.5, 2.0, float("nan"), float("inf")]),
    "config.s": st.sampled_from(["a", "b", "a b", "", "é", "it's"]),
    "config.t": st.sampled_from(["a", "b", "ab", ""]),
    "config.b": st.booleans(),
    "config.c": st.booleans(),
    "config.l": st.lists(st.none() | st.sampled_from(["a", "b", ""]), max_size=3),
    "config.m": st.lists(st.none() | st.sampled_from([-1.0, 0.5, 2.0, float("nan")]), max_size=3),
}
LITERALS = {
    "config.i": st.integers(-3, 3) | st.sampled_from([-0.5, 1.0, 2.5]),
    "config.f": st.integers(-2, 2) | st.sampled_from([-1.5, 0.5, 2.0]),
    "config.s": VALUES["config.s"],
    "config.b": VALUES["config.b"],
}
SCHEMA = {
    "config.i": pl.Int64(),
    "config.j": pl.Int64(),
    "config.f": pl.Float64(),
    "config.s": pl.String(),
    "config.t": pl.String(),
    "config.b": pl.Boolean(),
    "config.c": pl.Boolean(),
    "config.l": pl.List(pl.String()),
    "config.m": pl.List(pl.Float64()),
}
PAIRS = [("config.i", "config.j"), ("config.i", "config.f"), ("config.s", "config.t"), ("config.b", "config.c")]
ORDERED = ["==", "!=", "<", "<=", ">", ">="]


def written(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return '"' + value + '"' if isinstance(value, str) else repr(value)


def comparison(operation, held, value):
    """Say what the documentation says: false of a missing field, else as Python compares."""
    if held is None or value is None:
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
def leaves_of_pairs(draw):
    """Draw a comparison of two columns, or of one of true and false alone."""
    one, other = draw(st.sampled_from(PAIRS + [(b, a) for a, b in PAIRS]))
    if one in {"config.b", "config.c"}:
        if draw(st.booleans()):
            return 3, one, lambda run: run[one] is True
        operation = draw(st.sampled_from(["==", "!="]))
    else:
        operation = draw(st.sampled_from(ORDERED))
    return 3, f"{one} {operation} {other}", lambda run: comparison(operation, run[one], run[other])


@st.composite
def chains(draw):
    """Draw a chain of comparisons."""
    low, high = draw(LITERALS["config.f"]), draw(LITERALS["config.f"])
    first, second = draw(st.sampled_from(["<", "<=", "==", "!="])), draw(st.sampled_from(["<", "<=", "!="]))
    text = f"{written(low)} {first} config.f {second} {written(high)}"
    return (
        3,
        text,
        lambda run: (
            comparison(first, *((low, run["config.f"]) if run["config.f"] is not None else (None, low)))
            and comparison(second, run["config.f"], high)
        ),
    )


@st.composite
def leaves_of_text(draw):
    """Draw a condition on the parts of a text."""
    name, part = draw(st.sampled_from(["config.s", "config.t"])), draw(st.sampled_from(["a", "b", "", "it'"]))
    form = draw(st.sampled_from(["startswith", "endswith", "function", "method", "=~", "!~", "in", "not in"]))
    text = {
        "function": f"startswith({name}, {written(part)})",
        "method": f"{name}.startswith({written(part)})",
        "in": f"{written(part)} in {name}",
        "not in": f"{written(part)} not in {name}",
    }.get(form, f"{name} {form} {written(part)}")

    def holds(run):
        held = run[name]
        if held is None:
            return False
        if form in {"startswith", "function", "method"}:
            return held.startswith(part)
        return held.endswith(part) if form == "endswith" else (part in held) is (form in {"=~", "in"})

    return 3, text, holds


def reduced(function, held):
    """Reduce a list of numbers as the documentation says."""
    values = [value for value in held or () if value is not None]
    has_nan = any(map(math.isnan, values))
    if function.startswith("best"):
        values = [value for value in values if not math.isnan(value)]
    if not values:
        return None
    if function in {"min", "max", "mean"} and has_nan:
        return float("nan")
    return {
        "last": lambda: values[-1],
        "first": lambda: values[0],
        "min": lambda: min(values),
        "max": lambda: max(values),
        "mean": lambda: math.fsum(values) / len(values),
        "best min": lambda: min(values),
        "best max": lambda: max(values),
    }[function]()


@st.composite
def leaves_of_lists(draw):
    """Draw a condition on one value of a list."""
    if draw(st.booleans()):
        wanted = draw(st.sampled_from([True, False]))
        name, value = draw(st.sampled_from([("config.l", "a"), ("config.l", ""), ("config.m", 2.0), ("config.m", 2)]))
        text = f"{written(value)} {'in' if wanted else 'not in'} {name}"
        return 3, text, lambda run: run[name] is not None and (value in run[name]) is wanted
    function = draw(st.sampled_from(["last", "first", "min", "max", "mean", "best min", "best max"]))
    operation, value = draw(st.sampled_from(ORDERED)), draw(st.sampled_from([-1.0, 0.5, 1]))
    name, _, mode = function.partition(" ")
    call = f"{name}(config.m{f', {mode}' if mode else ''})"
    text = f"{call} {operation} {written(value)}"
    return 3, text, lambda run: comparison(operation, reduced(function, run["config.m"]), value)


@st.composite
def leaves(draw):
    """Draw a condition as (binding strength, text, function of a run)."""
    if draw(st.booleans()):
        return draw(leaves_of_lists() | leaves_of_pairs() | chains() | leaves_of_text())
    name = draw(st.sampled_from(sorted(LITERALS)))
    form = draw(st.sampled_from(["compare", "in", "not in", "is null", "is not null"]))
    if form == "compare":
        operation = draw(st.sampled_from(ORDERED[:2] if name == "config.b" else ORDERED))
        value = draw(LITERALS[name])
        text = f"{name} {operation} {written(value)}"
        if draw(st.booleans()):
            mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(operation, operation)
            text = f"{written(value)} {mirrored} {name}"
        return 3, text, lambda run: comparison(operation, run[name], value)
    if form in {"in", "not in"}:
        values = draw(st.lists(LITERALS[name], max_size=3))
        brackets = draw(st.sampled_from(["[]", "()"]))
        text = f"{name} {form} {brackets[0]}{', '.join(map(written, values))}{brackets[1]}"
        wanted = form == "in"
        return 3, text, lambda run: run[name] is not None and (run[name] in values) is wanted
    return 3, f"{name} {form}", lambda run: (run[name] is None) is (form == "is null")


def bracketed(condition, strength):
    """Write a condition with the parentheses it needs, and no others, beside an operator of some strength."""
    return condition[1] if condition[0] >= strength else f"({condition[1]})"


@st.composite
def compounds(draw, children):
    one = draw(children)
    operation = draw(st.sampled_from(["~", "!", "not ", " & ", " && ", " and ", " | ", " || ", " or "]))
    if operation in {"~", "!", "not "}:
        return 2, operation + bracketed(one, 2), lambda run: not one[2](run)
    other = draw(children)
    strength = 1 if operation in {" & ", " && ", " and "} else 0
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
    table = pl.DataFrame(runs, schema=SCHEMA).with_row_index("place")
    found = table.filter(compile_query(text, SCHEMA))["place"].to_list()
    assert found == [place for place, run in enumerate(runs) if holds(run)]


@given(runs=RUNS, condition=st.recursive(leaves(), compounds, max_leaves=4))
@examples(25)
def test_any_query_finds_the_same_runs_in_a_log_directory(new_logs, runs, condition):
    """Catches: what the way through YAML, column types and the pushed-down predicate may add to that."""
    logs = new_logs()
    for number, run in enumerate(runs, 1):
        logs.run(number, {name.removeprefix("config."): value for name, value in run.items()})
    # a run that gives every column its type and that no condition is about
    typical = {"i": 1, "j": 1, "f": 0.5, "s": "a", "t": "a", "b": True, "c": True, "l": ["a"], "m": [0.5]}
    logs.run(99, typical)
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
