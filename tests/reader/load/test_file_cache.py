"""The cache of small files: what has not changed is not parsed again, what has changed is."""

from __future__ import annotations

import os

from mlxp_core.reader import scan_runs
from mlxp_core.reader.load import file_cache


def test_a_file_is_not_parsed_again_until_it_changes(logs, monkeypatch):
    """Catches: 10,000 YAML files parsed at every look; and a cache that does not see an edit of the same length."""
    run = logs.run(1, {"x": 1}, {"status": "RUNNING", "hostname": "elsewhere"})
    config = run / "metadata/config.yaml"
    monkeypatch.setattr(file_cache, "RACY_NS", 0)  # nothing counts as just written
    opened = []
    frame = scan_runs(logs.path)
    frame.collect()
    from mlxp_core.reader.load import run as folders

    load, folders._load_yaml = folders._load_yaml, lambda path: opened.append(path) or load(path)
    try:
        assert frame.collect()["config.x"].to_list() == [1]
        assert opened == []
        config.write_text("x: 2\n")
        assert frame.collect()["config.x"].to_list() == [2]
        assert opened == [str(config)]
    finally:
        folders._load_yaml = load


def test_a_file_rewritten_within_the_same_tick_is_read_again(logs):
    """Catches: trust in a time stamp that two versions of a file share."""
    config = logs.run(1, {"x": 1}) / "metadata/config.yaml"
    frame = scan_runs(logs.path)
    assert frame.collect()["config.x"].to_list() == [1]
    stat = config.stat()
    config.write_text("x: 2\n")  # in place: the same inode, the same size
    os.utime(config, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert frame.collect()["config.x"].to_list() == [2]
