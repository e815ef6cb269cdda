"""The cost of the pack for a Hydra program: whole-process CPU of a hello-world, four ways side by side.

    python tests/benchmarks/startup.py [rounds] [PYTHON]

without: the pack is not on the path. installed: it is, and not used. callback: hydra/callbacks=mlxp is on. launch: one
job is submitted, by a stub of sbatch. With the interpreter of another environment, which has the same packages but for
another version of the pack, callback and launch are also measured there. Rounds are interleaved; shown are the median
and the least of user + system time, and the median ratio to `without`.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """\
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    print("hello", cfg.lr)

if __name__ == "__main__":
    main()
"""
# an editable install is an entry of sys.path; without it, neither Hydra's scan nor an import finds the pack
HIDING = f"import sys\nsys.path[:] = [entry for entry in sys.path if entry != {str(ROOT)!r}]\n"


SBATCH = "#!/bin/sh\necho 1\n"
LAUNCH = ["main.py", "-m", "hydra/launcher=mlxp_slurm", "hydra.launcher.snapshot=none"]


def cpu(python: str, arguments: list[str], folder: Path) -> float:
    """CPU seconds of a command, its children included."""
    # where byte code is not written, a package that pip has not compiled would be compiled at each start
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PATH"] = os.pathsep.join([str(folder / "bin"), environment["PATH"]])
    command = [python, "-W", "ignore", *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    null = subprocess.DEVNULL
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=null, stderr=null)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conf").mkdir()
        (folder / "conf" / "config.yaml").write_text("lr: 0.1\nmodel: {width: 64, depth: 3}\n")
        (folder / "main.py").write_text(PROGRAM)
        (folder / "hiding.py").write_text(HIDING + PROGRAM)
        (folder / "bin").mkdir()
        (folder / "bin" / "sbatch").write_text(SBATCH)
        (folder / "bin" / "sbatch").chmod(0o755)
        callback = ["main.py", "hydra/callbacks=mlxp"]
        own = {"without": ["hiding.py"], "installed": ["main.py"], "callback": callback, "launch": LAUNCH}
        ways = {way: (sys.executable, arguments) for way, arguments in own.items()}
        for other in sys.argv[2:]:
            ways |= {"callback there": (other, callback), "launch there": (other, LAUNCH)}
        seen: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, (python, arguments) in ways.items():
                seconds = cpu(python, arguments, folder)
                if number:  # the first round writes byte code
                    seen[way].append(seconds)
    for way, values in seen.items():
        median = statistics.median(values)
        # neighbours in time are compared: the machine's own speed wanders by more than what is measured
        ratio = statistics.median(here / base for here, base in zip(values, seen["without"], strict=True))
        print(f"{way:14} {median * 1000:7.1f} ms CPU  min {min(values) * 1000:7.1f}  ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
