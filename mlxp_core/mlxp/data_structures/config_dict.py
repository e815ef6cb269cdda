"""A configuration whose values are attributes as well as items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxp_core.yaml_io import dump_yaml


class ConfigDict(dict[str, Any]):
    """A dict whose items are attributes: ``config.optimizer.lr`` is ``config["optimizer"]["lr"]``."""

    def __getattr__(self, name: str) -> Any:
        """Give an item. Raises AttributeError where there is none."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r}, but {', '.join(map(str, self))}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an item."""
        self[name] = value

    def __delattr__(self, name: str) -> None:
        """Take an item away."""
        try:
            del self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        """Show it as YAML."""
        return dump_yaml(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Give plain dicts and lists."""
        plain: dict[str, Any] = convert_dict(self, dst_class=dict)
        return plain

    def update(self, new_dict: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Take values over, those of nested mappings one by one."""
        for key, value in new_dict.items():
            inner = self.get(key)
            if isinstance(inner, ConfigDict) and isinstance(value, Mapping):
                inner.update(value)
            else:
                self[key] = convert_dict(value)


def convert_dict(src_dict: Any, src_class: type | tuple[type, ...] = Mapping, dst_class: type = ConfigDict) -> Any:
    """Turn mappings of one class into those of another, also where they are in others or in lists."""
    if isinstance(src_dict, src_class):
        return dst_class({key: convert_dict(value, src_class, dst_class) for key, value in src_dict.items()})  # type: ignore[attr-defined]
    if isinstance(src_dict, list):
        return [convert_dict(value, src_class, dst_class) for value in src_dict]
    return src_dict
