"""The rows of a run in batches, as torch's data loader reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch.utils.data import Dataset

from llava_cot.train.encode import RowEncoder, TrainingRow
from llava_cot.train.training_rows import RowSet


class BatchDataset(Dataset[list[TrainingRow]]):
    """Rows in batches, given by their numbers; each is encoded when it is read.

    With `numbers_from`, a row has its number, counted from there.
    """

    def __init__(
        self,
        encoder: RowEncoder,
        rows: RowSet,
        batches: Sequence[Sequence[int]],
        max_tokens: int,
        numbers_from: int | None = None,
    ) -> None:
        self._encoder, self._rows, self._batches, self._max_tokens = encoder, rows, batches, max_tokens
        self._numbers_from = numbers_from

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, at: int) -> list[TrainingRow]:
        return [self._row(i) for i in self._batches[at]]

    def _row(self, number: int) -> TrainingRow:
        row, label = (
            self._encoder.row(self._rows.records[number], self._max_tokens),
            self._rows.labels[number],
        )
        if label.prefix or label.unfinished:
            row = self._encoder.part(row, label.prefix, label.unfinished)
        if label.steps:
            text = self._rows.records[number].turns[-1].response or ""
            row = self._encoder.with_steps(row, text, label.steps)
        return row if self._numbers_from is None else replace(row, number=self._numbers_from + number)
