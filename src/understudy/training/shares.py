"""How the ranks share what one process would train on, so that they train the very same steps.

The stock loaders repeat rows until every rank has equally many, which changes the last step of
every epoch and the validation loss. Ours fill up with blank rows: no loss, no tokens counted.
"""

from collections.abc import Callable, Iterator, Sequence

from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset, concatenate_datasets
from torch.utils.data import Sampler

from understudy.models import ranks
from understudy.training.data import IGNORED

_BLANK = [0, 0]


def is_blank(ids: Sequence[int]) -> bool:
    """Whether a conversation is only there to fill up."""
    return list(ids) == _BLANK


def with_blanks(rows: Dataset, count: int) -> Dataset:
    """The rows, and `count` blank ones after them."""
    blank = {"input_ids": _BLANK, "labels": [IGNORED] * len(_BLANK), "seq_lengths": [len(_BLANK)]}
    columns = {name: [blank[name]] * count for name in rows.column_names}
    return concatenate_datasets([rows, Dataset.from_dict(columns, features=rows.features)])


class Order(Sampler):  # type: ignore[misc]
    """The rows in the order in which one process takes them, then blanks until all have a share.

    `rows` is also the index of the blank row; `epoch` says which one begins. (Told by
    `set_epoch`, as stock samplers are, several processes that resume shuffle as in epoch 0.)
    """

    def __init__(self, rows: int, per_device: int, epoch: Callable[[], int]) -> None:
        self._shuffled = SeedableRandomSampler(range(rows))
        self._blank = rows
        self._blanks = -rows % (per_device * ranks.count())
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self._shuffled.set_epoch(self._epoch())
        yield from self._shuffled
        yield from [self._blank] * self._blanks

    def __len__(self) -> int:
        return self._blank + self._blanks
