"""Config files read once for all the compositions of a sweep; Hydra reads them for each anew."""

import copy
from typing import Any

from hydra._internal.config_repository import ConfigRepository

Memo = dict[tuple[str, ...], Any]  # (search path, config name) → the file as loaded


class Remembering(ConfigRepository):  # type: ignore[misc]
    """Hydra's repository of files, which is asked for copies of itself by every composition."""

    def __init__(self, plain: Any, memo: Memo) -> None:
        self.sources = plain.sources
        self._memo = memo

    def __deepcopy__(self, _: Any) -> "Remembering":
        return copy.copy(self)  # with the same memo

    def load_config(self, config_path: str) -> Any:
        key = (*(source.path for source in self.sources), config_path)
        if key not in self._memo:
            self._memo[key] = super().load_config(config_path)
        loaded = copy.copy(self._memo[key])
        if loaded is not None:  # a composition merges others into what it has loaded
            loaded.config = copy.deepcopy(loaded.config)
        return loaded
