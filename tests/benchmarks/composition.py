"""What a sweep costs from the command to its last submission: CPU seconds, children included, with a stub sbatch.

    python tests/benchmarks/composition.py [--rounds 3] [--jobs 1 100 720 2000] [--submitit PYTHON] [--mlxpsub PYTHON]

floor: a bare Python program that writes the same files and runs the stub once, which is one array by hand. mlxp: our
sweeper and our launcher. basic: Hydra's sweeper and our launcher. hydra: a program that composes each job once by
Hydra's load_sweep_config and does nothing else (Hydra's own sweeper and a launcher do so twice). submitit: Hydra's
sweeper and hydra-submitit-launcher, until its first question to Slurm, and mlxpsub: MLXP's, on a script with the same
combinations; each where an interpreter is given that has it. Ways take turns; shown are the median, and the median
ratio of neighbours to the floor. More than 100 jobs: the slow ones have one turn. `mlxp` of one job is what a start
costs.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MAIN = """\
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    pass

if __name__ == "__main__":
    main()
"""
CONFIG = """\
defaults: [optimizer: adam, model: resnet, _self_]
seed: 0
data: {root: /data/images, batch_size: 256, workers: 4, augment: [flip, crop, jitter]}
trainer: {epochs: 100, amp: true, clip: null, checkpoint_every: 10, device: cuda, precision: 16}
name: ${model.name}-${optimizer.lr}
"""
GROUPS = {
    "optimizer/adam": "{name: adam, lr: 0.001, betas: [0.9, 0.999], weight_decay: 0.0001}",
    "optimizer/sgd": "{name: sgd, lr: 0.1, momentum: 0.9}",
    "model/resnet": "{name: resnet, width: 64, depth: 18, dropout: 0.1, norm: batch, mem: 4G}",
    "model/vit": "{name: vit, width: 256, depth: 12, dropout: 0.1, heads: 8, mem: 8G}",
}
FLOOR = """\
import os, pickle, subprocess, sys
files = pickle.load(open(sys.argv[1], "rb"))
for name, content in files.items():
    place = os.path.join(sys.argv[2], name)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "wb") as file:
        file.write(content)
subprocess.run(["sbatch"], stdout=subprocess.DEVNULL, check=True)
"""
HYDRA = """\
import sys
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
with initialize_config_dir(sys.argv[1], version_base=None):
    loader = GlobalHydra.instance().config_loader()
    master = loader.load_configuration("config", ["hydra/launcher=mlxp_slurm"], RunMode.MULTIRUN)
    for number in range(int(sys.argv[2])):
        group = "optimizer=" + ("adam" if number % 2 else "sgd")
        loader.load_sweep_config(master, [group, "model=resnet", "optimizer.lr=0.1", f"seed={number}"])
"""
MLXPS_MAIN = """\
import mlxp

@mlxp.launch(config_path="./configs")
def main(ctx):
    pass

if __name__ == "__main__":
    main()
"""
SBATCH = """\
#!/bin/sh
case "$*" in *--parsable*) echo 1 ;; *) echo Submitted batch job 1 ;; esac
"""
# the first thing that submitit asks once it has submitted, for it waits
SACCT = """\
#!/bin/sh
kill "$PPID"
"""
SLOW = {"hydra", "submitit", "mlxpsub"}


def cpu(command: list[str], folder: Path) -> float:
    """CPU seconds of a command and its children."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    path = os.pathsep.join([str(folder / "bin"), str(Path(command[0]).parent), environment["PATH"]])
    environment |= {"PATH": path, "PYTHONWARNINGS": "ignore"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in {0, -signal.SIGTERM}:
        raise SystemExit(f"{command} failed:\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prepare(folder: Path) -> None:
    """Make a user's repository, and the stub."""
    files = {"main.py": MAIN, "main_mlxp.py": MLXPS_MAIN, ".gitignore": "logs\nmultirun\nbin\nfloor*\nscript.sh\n"}
    for directory in ("conf", "configs"):  # MLXP's must have this name
        files[f"{directory}/config.yaml"] = CONFIG
        files |= {f"{directory}/{name}.yaml": text for name, text in GROUPS.items()}
    files |= {"bin/sbatch": SBATCH, "bin/sacct": SACCT, "floor.py": FLOOR, "floor_hydra.py": HYDRA}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name in ("sbatch", "sacct"):
        (folder / "bin" / name).chmod(0o755)
    who = ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def ways_of(folder: Path, count: int, peers: dict[str, str]) -> dict[str, list[str]]:
    """Give the command of each way to submit so many jobs."""
    seeds = max(1, count // 20)
    swept = ["optimizer=adam,sgd", "model=resnet,vit", "optimizer.lr=0.1,0.2,0.3,0.4,0.5"] if count > 1 else []
    by_range, by_list = [*swept, f"seed=range({seeds})"], [*swept, "seed=" + ",".join(map(str, range(seeds)))]
    ours = [sys.executable, "main.py", "-m", "hydra/launcher=mlxp_slurm", *by_range]
    ways = {
        "mlxp": [*ours, "hydra/sweeper=mlxp"],
        "floor": [sys.executable, "floor.py", "floor.pickle", "logs"],
        "basic": ours,
        "hydra": [sys.executable, "floor_hydra.py", str(folder / "conf"), str(count)],
    }
    if "submitit" in peers:
        ways["submitit"] = [peers["submitit"], "main.py", "-m", "hydra/launcher=submitit_slurm", *by_range]
    if "mlxpsub" in peers:
        ways["mlxpsub"] = [str(Path(peers["mlxpsub"]).with_name("mlxpsub")), "script.sh"]
        command = " ".join(["python main_mlxp.py", *by_list])
        (folder / "script.sh").write_text(f"#!/bin/bash\n#SBATCH --time=1\n\n{command}\n")
    return ways


def measure(folder: Path, count: int, rounds: int, peers: dict[str, str]) -> None:
    """Print what so many jobs cost."""
    seen: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds):
        for way, command in ways_of(folder, count, peers).items():
            if way in SLOW and turn and count > 100:
                continue
            for name in ("logs", "multirun"):
                shutil.rmtree(folder / name, ignore_errors=True)
            seen[way].append(cpu(command, folder))
            made = {"submitit": "multirun/*/*/.submitit/*/*.pkl", "hydra": None}.get(way, "logs/*/script.sh")
            if made and (there := len(list(folder.glob(made)))) != count:
                raise SystemExit(f"{way} made {there} jobs, not {count}")
            if way == "mlxp":
                logs = folder / "logs"
                kept = {str(path.relative_to(logs)): path.read_bytes() for path in logs.rglob("*") if path.is_file()}
                (folder / "floor.pickle").write_bytes(pickle.dumps(kept))
    for way, values in seen.items():
        ratios = [one / floor for one, floor in zip(values, seen["floor"], strict=False)]
        median, ratio = statistics.median(values), statistics.median(ratios)
        print(f"{count:5} jobs  {way:8} {median:8.3f} s CPU  {ratio:7.2f} times the floor", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1, 100, 720, 2000])
    parser.add_argument("--submitit", metavar="PYTHON", help="of an environment with hydra-submitit-launcher")
    parser.add_argument("--mlxpsub", metavar="PYTHON", help="of an environment with mlxp")
    given = parser.parse_args()
    peers = {name: getattr(given, name) for name in ("submitit", "mlxpsub") if getattr(given, name)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for count in given.jobs:
            measure(folder, count, given.rounds, peers)


if __name__ == "__main__":
    main()
