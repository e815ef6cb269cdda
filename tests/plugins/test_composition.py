"""Fast composition against Hydra's own, case by case and at random: the same configuration, or the same error."""

from __future__ import annotations

import copy
import enum
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.types import RunMode
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from hydra_plugins.mlxp import _omegaconf
from hydra_plugins.mlxp._composer import Composer
from mlxp_core.scheduler.variables import is_of_a_job


class Norm(enum.Enum):
    BATCH = 1
    LAYER = 2


@dataclass
class Head:
    width: int = 8
    drop: float | None = None


@dataclass
class Typed:
    name: str = MISSING
    norm: Norm = Norm.BATCH
    head: Head = field(default_factory=Head)
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    by_name: dict[str, float] = field(default_factory=dict)


FILES = {
    "config.yaml": """\
defaults:
  - db: mysql
  - model: small
  - schema: typed
  - optional experiment: null
  - override hydra/job_logging: stdout
  - _self_
lr: 0.1
seed: 0
name: run-${lr}
data: {root: /data, sizes: [1, 2, 3], deep: {x: 1, y: null}}
must: ???
link: ${data}
same: ${data.root}
where: ${hydra.job.num}
choice: ${hydra:runtime.choices.db}
now: ${now:%Y}
stamp: ${now:%f}
nil: null
list: [{a: 1}, [2, 3], "${lr}"]
""",
    "server.yaml": """\
defaults:
  - db@source: mysql
  - db@target: postgresql
  - model: small
  - loss: ${model}_loss
  - _self_
lr: 0.1
hydra:
  sweep: {subdir: "${hydra.job.override_dirname}"}
  job: {config: {override_dirname: {exclude_keys: [seed], kv_sep: ":"}}, env_set: {A: b}}
seed: 1
""",
    "named.yaml": """\
defaults: [_self_]
lr: 0.1
model: {name: "???"}
hydra:
  job: {name: "${model.name}"}
""",
    "unsettled.yaml": """\
defaults:
  - db: ???
  - _self_
lr: 0.1
""",
    "frozen.yaml": """\
defaults: [db: mysql, _self_]
lr: 0.1
free: {a: 1}
""",
    "db/mysql.yaml": "driver: mysql\nport: 3306\nuser: me\n",
    "db/postgresql.yaml": 'driver: postgresql\nport: 5432\ntimeout: 10\nextra: {a: "${lr}"}\n',
    "model/small.yaml": "width: 8\ndepth: ${.width}\n",
    "model/big.yaml": "defaults: [/db@store: postgresql, _self_]\nwidth: 64\ndepth: 4\n",
    "loss/small_loss.yaml": "# @package _global_\nloss: {kind: s}\nseed: 3\n",
    "loss/big_loss.yaml": "loss: {kind: b}\n",
    "experiment/first.yaml": "# @package _global_\ndefaults: [{override /db: postgresql}]\nlr: 7\nnew: {a: 1}\n",
    "schema/plain.yaml": "name: plain\n",
}


def described(node: Any) -> Any:
    """All there is to a node: kind, types, flags, value, and those of what it holds; no interpolation resolved."""
    if isinstance(node, (DictConfig, ListConfig)):
        content = node._content
        inside: Any = content
        if isinstance(content, dict):
            inside = [(key, described(item)) for key, item in content.items()]
        elif isinstance(content, list):
            inside = [described(item) for item in content]
        kind = node._metadata
        types = (kind.ref_type, kind.object_type, kind.optional, kind.flags or {}, getattr(kind, "element_type", None))
        return (type(node).__name__, types, node._metadata.resolver_cache, inside, node._key())
    kind = node._metadata
    return (type(node).__name__, kind.ref_type, kind.optional, kind.flags or {}, repr(node._value()))


def outcome(compose: Any) -> Any:
    """What a composition comes to."""
    try:
        return described(compose())
    except Exception as error:  # noqa: BLE001  (whichever it is)
        cause = error.__cause__
        return (type(error), str(error), type(cause), str(cause))


class Application:
    """Hydra's loader for one of the primary configurations above."""

    def __init__(self, name: str, *more: str) -> None:
        self.loader = GlobalHydra.instance().config_loader()
        self.master = self.loader.load_configuration(name, list(more), RunMode.MULTIRUN)
        self.composer = Composer(self.loader, self.master, is_of_a_job)

    def check(self, overrides: Sequence[str]) -> bool:
        """Compare; tell whether it was composed the fast way."""
        given = list(overrides)
        expected = outcome(lambda: self.loader.load_sweep_config(self.master, list(overrides)))
        assert outcome(lambda: self.composer.compose(given).config()) == expected
        assert given == list(overrides)
        quick = self.composer._compose_fast(given)
        if quick is None:
            return False
        config = self.loader.load_sweep_config(self.master, list(overrides))
        assert repr(quick.unresolved) == repr(_omegaconf.unresolved(config))
        assert described(quick.config()) == described(quick.config()) == expected
        assert quick.raw("runtime.choices") == OmegaConf.to_container(config.hydra.runtime.choices)
        assert quick.raw("overrides") == OmegaConf.to_container(config.hydra.overrides)
        if "job.override_dirname" in quick.late_values:
            held = OmegaConf.to_container(config.hydra.job)["override_dirname"]
            assert quick.raw("job.override_dirname") == held
        return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("conf")
    for name, text in FILES.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "db").mkdir()
    (elsewhere / "db" / "sqlite.yaml").write_text("driver: sqlite\n")
    (elsewhere / "more").mkdir()
    (elsewhere / "more" / "a.yaml").write_text("x: 1\n")
    searching = f"defaults: [db: mysql, _self_]\nlr: 1\nhydra: {{searchpath: ['file://{elsewhere}']}}\n"
    (place / "searching.yaml").write_text(searching)
    before = copy.deepcopy(Singleton.get_state())  # version_base is one for the process
    ConfigStore.instance().store(group="schema", name="typed", node=Typed)
    node = OmegaConf.create({"lr": 0.1})
    OmegaConf.set_readonly(node, True)
    with initialize_config_dir(str(place), version_base=None):
        yield place
    Singleton.set_state(before)


@pytest.fixture
def application(folder: Path) -> Application:
    return Application("config", "hydra.launcher.max_parallel=3", "hydra/launcher=mlxp_local")


FAST = [
    [],
    ["lr=0.3"],
    ["lr=0.3", "seed=4"],
    ["seed=4", "db=postgresql", "db.port=1"],
    ["db.timeout=3", "db=postgresql"],
    ["+new=1", "+deep.er.new=1"],
    ["++new=1", "++lr=2"],
    ["~lr"],
    ["~lr=0.1", "~data.deep.x"],
    ["~db"],
    ["must=here"],
    ["nil=null", "lr=null", "must=???"],
    ["data.sizes=[4,5]"],
    ["data.deep={x:2}"],
    ["+data.deep={z:{a:[1,{b:2}]}}"],
    ["++data={new:1}"],
    ["data.deep=5"],
    ["name='a, b=\\'c\\' $x {y}'", 'same="\\"q\\""'],
    ["name=${lr}", "lr=${seed}"],
    ["name='${hydra.job.num}-${now:%f}'"],
    ["same=5"],
    ["link=5"],
    ["schema.head.width=3", "schema.norm=LAYER", "schema.name=x"],
    ["schema.sizes=[3]", "+schema.by_name.a=1.5"],
    ["schema=plain"],
    ["schema.head.drop=null"],
    ["+schema.nothing=1"],
    ["experiment=first"],
    ["experiment=first", "new.a=2"],
    ["+db@second=postgresql", "second.port=2"],
    ["model=big", "model.store.port=3"],
    ["hydra.job.chdir=true", "lr=3"],
    ["lr=3", "hydra.sweep.subdir=x", "+hydra.job.env_set.A=b"],
    ["hydra/job_logging=disabled", "lr=3"],
    ["seed=int(3.2)", "lr=1_000", "name=0x10", "+t=1e-3", "+nan=nan"],
    ["+a.b=1", "+a-b=1", "+a.bc=2"],
]
HYDRAS = [
    ["nothing=1"],
    ["db.nothing=1"],
    ["+lr=1"],
    ["~nothing"],
    ["~lr=5"],
    ["lr=1,2"],
    ["lr=[1"],
    ["db=oracle"],
    ["dbs=mysql"],
    ["+db=mysql"],
    ["++db=mysql"],
    ["db@x=mysql"],
    ["lr@x=1"],
    ["schema.head.width=abc"],
    ["schema.norm=GROUP"],
    ["schema.sizes=[a]"],
    ["schema.nothing=1"],
    ["link.root=5"],
    ["link.deep={x:3}"],
    ["+link.new=1"],
    ["~link.root"],
    ["~same"],
    ["+same=1"],
    ["data.sizes.0=5"],
    ["data.sizes[0]=5"],
    ["list.0.a=2"],
    ["data={root:'${lr}'}"],
    ["link={a:1}"],
    ["lr=1", "lr=2"],
    ["+a=1", "+a.b=2"],
    ["+a.b=2", "+a=1"],
    ["db={port:1}"],
    ["db={port:1}", "db.port=2"],
    ["hydra.searchpath=[pkg://none]"],
    ["hydra={job:{name:x}}"],
    ["hydra.nothing=1"],
    ["hydra.job.name='${lr}'"],
    ["hydra.overrides.task=[a]"],
    ["lr.x=1"],
    ["=1"],
    [""],
    ["lr"],
]


@pytest.mark.parametrize("overrides", FAST, ids=" ".join)
def test_a_usual_job_is_composed_fast_and_is_hydras(application: Application, overrides: list[str]) -> None:
    """Bug: a job that runs another configuration than Hydra would give it."""
    assert application.check(overrides)


@pytest.mark.parametrize("overrides", HYDRAS, ids=" ".join)
def test_an_unusual_job_is_left_to_hydra(application: Application, overrides: list[str]) -> None:
    """Bug: an error that is not Hydra's; a configuration guessed where an interpolation lies in the way."""
    assert not application.check(overrides)


def test_copies_are_independent(application: Application) -> None:
    """Bug: a job that changes what the next one gets."""
    first = application.composer.compose(["lr=1", "+data.deep.z=1"])
    config = first.config()
    config.data.sizes.append(9)
    config.hydra.job.num = 5
    config.hydra.overrides.task.append("x=1")
    first.application().data.sizes.append(9)
    assert application.check(["lr=1"])
    assert application.check(["lr=1", "+data.deep.z=1"])


def test_an_interpolation_in_the_defaults_list_follows_the_choice(folder: Path) -> None:
    """Bug: the base of another choice taken."""
    application = Application("server")
    for overrides in itertools.product(["model=small", "model=big"], ["lr=2"], ["seed=3", "source.port=1"]):
        assert application.check(overrides) == (overrides[0] == "model=small" or overrides[2] != "")
    assert application.check(["db@target=mysql", "target.port=2", "seed=3"])
    assert not application.check(["target.timeout=2", "db@target=mysql"])


def test_settings_of_hydra_that_ask_the_application_are_left_to_hydra(folder: Path) -> None:
    """Bug: hydra.job.name that is the program's where it should be the model's."""
    application = Application("named")
    assert not application.check(["model.name=a"])
    assert not application.check(["lr=1"])


def test_a_group_that_must_be_chosen_is(folder: Path) -> None:
    """Bug: a base composed without it."""
    application = Application("unsettled")
    assert not application.check(["lr=1"])
    assert application.check(["lr=1", "db=mysql"])


def test_groups_on_the_primary_configurations_own_search_path_are_groups(folder: Path) -> None:
    """Bug: a choice taken for a value."""
    application = Application("searching")
    assert application.check(["db=sqlite", "lr=2"])
    assert application.check(["+more=a", "more.x=2"])


def test_what_the_multirun_has_resolved_is_not_resolved_anew(folder: Path) -> None:
    """Bug: ${now:} of each job its own where the sweep has settled it."""
    application = Application("config")
    first = application.master.stamp
    job = application.composer.compose(["lr=2"])
    assert job.config().stamp == first
    assert job.resolved()["stamp"] == first
    assert application.check(["lr=2"])


def test_a_job_knows_itself(application: Application) -> None:
    """Bug: ${hydra:…} of another job; a number that is not the job's."""
    job = application.composer.take(["db=postgresql", "lr=2"], 7)
    job.late_values["sweep.subdir"] = "x"
    assert job.config().hydra.job.num == 7
    assert job.resolved()["choice"] == "postgresql"
    assert job.resolved()["name"] == "run-2"
    assert job.resolved()["where"] == "${hydra.job.num}"
    assert (job.hydra("job.num"), job.hydra("sweep.subdir"), job.raw("launcher.scheduler")) == (7, "x", "local")


KEYS = ["lr", "seed", "name", "data", "data.root", "data.deep", "data.deep.x", "data.sizes", "must", "link"]
KEYS += ["same", "nil", "list", "db", "db.port", "db.extra.a", "model.width", "model.depth", "schema", "link.root"]
KEYS += ["schema.head.width", "schema.norm", "schema.sizes", "new", "new.a", "experiment", "db@data.db", "where"]
KEYS += ["hydra.job.chdir", "hydra.job.name", "hydra/job_logging", "hydra.sweep.subdir", "choice", "now", "model"]
KEYS += ["schema.head"]
PLAIN = ["1", "0.5", "null", "true", "abc", "mysql", "postgresql", "big", "small", "first", "plain", "typed", "LAYER"]
PLAIN += ["'a b'", "???", "${lr}", "'${data.root}'", "${hydra.job.num}", "", "disabled", "1,2", "nan", "'${now:%Y}'"]
values = st.recursive(
    st.sampled_from(PLAIN),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(lambda items: f"[{','.join(items)}]"),
        st.dictionaries(st.sampled_from(["x", "root", "a", "width"]), inner, max_size=2).map(
            lambda items: "{" + ",".join(f"{key}:{item}" for key, item in items.items()) + "}"
        ),
    ),
    max_leaves=4,
)
override = st.builds(
    lambda sign, key, value: f"{sign}{key}" if sign == "~" and value.startswith("1") else f"{sign}{key}={value}",
    st.sampled_from(["", "", "", "+", "++", "~"]),
    st.sampled_from(KEYS),
    values,
)


@examples(80)
@given(overrides=st.lists(override, max_size=4))
def test_random_overrides_come_to_the_same_as_hydras(application: Application, overrides: list[str]) -> None:
    """Bug: any difference at all."""
    application.check(overrides)


leaf = st.one_of(st.none(), st.integers(-3, 3), st.text("ab", max_size=2), st.sampled_from(["${a}", "${b.a}", "???"]))
tree = st.recursive(
    leaf,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=6,
)


@examples(50)
@given(
    content=st.dictionaries(st.sampled_from("abcd"), tree, min_size=1, max_size=4),
    overrides=st.lists(
        st.builds(
            lambda sign, key, value: f"{sign}{key}={value}",
            st.sampled_from(["", "+", "++", "~"]),
            st.sampled_from(["a", "b", "a.b", "a.c", "b.a", "b.b.c", "d", "e", "a.a.a"]),
            values,
        ),
        max_size=3,
    ),
)
def test_random_configurations_come_to_the_same_as_hydras(
    folder: Path, content: dict[str, Any], overrides: list[str]
) -> None:
    """Bug: as above, where the configuration is one that nobody thought of."""
    ConfigStore.instance().repo.pop("random.yaml", None)  # Hydra 1.4 warns of a name that is stored twice
    ConfigStore.instance().store(name="random", node=OmegaConf.create(content))
    Application("random").check(overrides)
