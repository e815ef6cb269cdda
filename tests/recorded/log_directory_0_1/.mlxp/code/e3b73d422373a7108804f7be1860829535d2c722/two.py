import hydra


@hydra.main(version_base=None, config_path="conf", config_name="config")
def one(cfg):
    print("one")


@hydra.main(version_base=None, config_path="conf", config_name="config")
def two(cfg):
    print("two")


if __name__ == "__main__":
    one()
    two()
