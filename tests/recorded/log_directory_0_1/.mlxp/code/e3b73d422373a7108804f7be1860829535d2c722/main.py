import time
from pathlib import Path

import hydra
from hydra.utils import get_original_cwd

from mlxp_core import current_run

CODE = "second"


def task(cfg):
    run = current_run()
    try:
        start = run.load_checkpoint()
    except FileNotFoundError:
        start = 0
    print(f"code {CODE}, attempt {run.attempt}, from step {start}", flush=True)
    for step in range(start, 3):
        needed = Path(get_original_cwd(), cfg.needs) if cfg.needs else None
        while step and cfg.wait and not needed.exists():
            time.sleep(0.05)
        if step and needed and not needed.exists():
            raise FileNotFoundError(f"there is no {cfg.needs} yet")
        run.log_metrics({"step": step, "loss": cfg.lr * (3 - step)}, log_name="train")
        run.log_checkpoint(step + 1)
    run.log_artifacts({"lr": cfg.lr, "code": CODE}, "result", "json")
    return cfg.lr


main = hydra.main(version_base=None, config_path="conf", config_name="config")(task)

if __name__ == "__main__":
    main()
