"""What a sweep costs from the command to its last submission: CPU seconds, children included, with a stub sbatch.

    python tests/benchmarks/composition.py [rounds [jobs ...]]

floor: a bare Python program that writes the same files and runs the stub once, which is one array by hand. mlxp: our
sweeper and our launcher. basic: Hydra's sweeper and our launcher. hydra: a program that composes each job once by
Hydra's load_sweep_config and does nothing else (Hydra's own sweeper and a launcher do so twice). Ways take turns; shown
are the median, and the median ratio of neighbours to the floor. `mlxp` of one job is what a start costs.
"""

from __future__ import annotations

import os
import pickle
import resource
import shutil
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


def cpu(command: list[str], folder: Path) -> float:
    """CPU seconds of a command and its children."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PATH": f"{folder / 'bin'}{os.pathsep}{environment['PATH']}", "PYTHONWARNINGS": "ignore"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prepare(folder: Path) -> None:
    """Make a user's repository, and the stub."""
    files = {"main.py": MAIN, "conf/config.yaml": CONFIG, ".gitignore": "logs\nbin\nfloor*\n"}
    files |= {f"conf/{name}.yaml": text for name, text in GROUPS.items()}
    files |= {"bin/sbatch": "#!/bin/sh\necho 1\n", "floor.py": FLOOR, "floor_hydra.py": HYDRA}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "bin" / "sbatch").chmod(0o755)
    who = ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def measure(folder: Path, count: int, rounds: int) -> None:
    """Print what so many jobs cost."""
    swept = ["optimizer=adam,sgd", "model=resnet,vit", "optimizer.lr=0.1,0.2,0.3,0.4,0.5", f"seed=range({count // 20})"]
    ours = [sys.executable, "main.py", "-m", "hydra/launcher=mlxp_slurm", *(swept if count > 1 else ["seed=1"])]
    ways = {
        "mlxp": [*ours, "hydra/sweeper=mlxp"],
        "floor": [sys.executable, "floor.py", "floor.pickle", "logs"],
        "basic": ours,
        "hydra": [sys.executable, "floor_hydra.py", str(folder / "conf"), str(count)],
    }
    seen: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for way, command in ways.items():
            shutil.rmtree(folder / "logs", ignore_errors=True)
            if way == "hydra" and seen[way] and count > 100:
                continue
            seen[way].append(cpu(command, folder))
            if way == "mlxp":
                logs = folder / "logs"
                kept = {str(path.relative_to(logs)): path.read_bytes() for path in logs.rglob("*") if path.is_file()}
                (folder / "floor.pickle").write_bytes(pickle.dumps(kept))
    for way in ("floor", "mlxp", "basic", "hydra"):
        ratios = [one / floor for one, floor in zip(seen[way], seen["floor"], strict=False)]
        median, ratio = statistics.median(seen[way]), statistics.median(ratios)
        print(f"{count:5} jobs  {way:6} {median:8.3f} s CPU  {ratio:7.2f} times the floor", flush=True)


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    counts = [int(word) for word in sys.argv[2:]] or [1, 100, 720, 2000]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for count in counts:
            measure(folder, count, rounds)


if __name__ == "__main__":
    main()
