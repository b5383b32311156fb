"""Benchmark texts that training has too, in other words or with other names (both rules are our own choice).

- Names and numbers aside: two long texts that become the same when every capitalised word inside a sentence
  and every number is taken out. Short texts by templates are alike by nature, so only longer ones count.
- Overlap: 13 words in a row, the length by which GPT-3's benchmarks were cleaned (arXiv 2005.14165,
  appendix C).
"""

import re
from collections.abc import Iterable, Iterator, Sequence

_LONG = 25  # words from which a text that differs in names and numbers alone counts
_IN_A_ROW = 13

_WORD = re.compile(r"\w+")
_NAME = re.compile(r"(?<![.!?] )(?<!^)\b[A-Z]\w*|\b\w*\d\w*")


def find_shared_words(
    benchmark: Sequence[tuple[str, str]], training: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """(benchmark id, what it shares with which training text) for pairs of (id, text)."""
    skeletons: dict[str, str] = {}
    runs: dict[tuple[str, ...], str] = {}
    for id_, text in training:
        if skeleton := _skeleton(text):
            skeletons.setdefault(skeleton, id_)
        for run in _runs(text):
            runs.setdefault(run, id_)
    for id_, text in benchmark:
        other = skeletons.get(_skeleton(text) or "")
        if other is not None:
            yield id_, f"the text of {other} with other names or numbers"
            continue
        shared = next((run for run in _runs(text) if run in runs), None)
        if shared is not None:
            yield id_, f"shares with {runs[shared]}: {' '.join(shared)!r}"


def _skeleton(text: str) -> str | None:
    """The text without names and numbers; None for a short one."""
    if len(_WORD.findall(text)) < _LONG:
        return None
    return " ".join(_WORD.findall(_NAME.sub(" ", text))).casefold()


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    for start in range(len(words) - _IN_A_ROW + 1):
        yield tuple(words[start : start + _IN_A_ROW])
