"""Labels of questions and answers: the lines that a word fits, the line and the kind of fact asked for.

Looking something up takes three steps, one after the other in the layers: from a word of the question to the
lines that it fits, from all its words to the line that is meant, from there to what the answer says next.
Each has its own labels, in the same words as along the lines, so that like finds like (own choice).
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import cross_entropy

from components.pretraining.lessons import Report, share
from components.pretraining.lines import KINDS, LINES, Likeness, normed
from components.pretraining.tasks import asked_of
from components.rcmu import ContextSet, Scene, Turn
from components.training.processor import IGNORED, Processor


class Route(NamedTuple):
    """What is labelled at one question and its answer."""

    words: tuple[tuple[int, tuple[int, ...]], ...]  # a token of the question, the lines that it fits
    lines: tuple[int, ...]  # for each token of the answer the line less one, or IGNORED
    kinds: tuple[int, ...]  # for each token of the answer one of KINDS, or IGNORED


class Routes(NamedTuple):
    """Of a batch of B sequences of L tokens."""

    words: torch.Tensor  # (B, L, LINES): the share of each line at a word of a question, else zeros
    lines: torch.Tensor  # (B, L): at the token before the one that it is of
    kinds: torch.Tensor  # (B, L)


def route_of(turn: Turn, scene: Scene, context: ContextSet, processor: Processor) -> Route:
    """The labels of a turn of the base's tasks."""
    words: dict[int, set[int]] = {}
    spans = _spans(processor, turn.question)
    for line, first, last in _mentioned(turn.question, scene, context):
        for token in _tokens(spans, first, last):
            words.setdefault(token, set()).add(line)
    spans = _spans(processor, turn.answer)
    asked, kind = asked_of(turn.turn_id)
    lines = [asked - 1 if asked else IGNORED] * (len(spans) + 1)  # the last one ends the answer
    kinds = [KINDS.index(kind) if kind else IGNORED] * len(lines)
    if not asked:
        # One line after the other: each part begins with its index.
        for part in re.finditer(r"\[(\d)\] \w.*?(?=\[|$)", turn.answer):
            k = int(part[1])
            values = _values(scene, context)[k - 1]
            for token in _tokens(spans, part.start() + len("[k]"), part.end()):
                lines[token] = k - 1
            for key, value in values:
                for match in _whole_words(value, part[0]):
                    for token in _tokens(spans, part.start() + match.start(), part.start() + match.end()):
                        kinds[token] = KINDS.index(key)
    ordered = tuple((token, tuple(sorted(fits))) for token, fits in sorted(words.items()))
    return Route(ordered, tuple(lines), tuple(kinds))


def _values(scene: Scene, context: ContextSet) -> list[list[tuple[str, str]]]:
    """For each line what is stated and what is seen, as kind and value."""
    found = []
    for told in context.regions:
        seen = scene.regions[told.region]
        found.append([*((f.key, f.value) for f in (*told.facts, *seen.facts)), ("shape", seen.label)])
    return found


def _mentioned(question: str, scene: Scene, context: ContextSet) -> Iterator[tuple[int, int, int]]:
    """Lines less one, each with the first and behind the last character of what fits it."""
    for line, values in enumerate(_values(scene, context)):
        for _, value in values:
            for match in _whole_words(value, question):
                yield line, match.start(), match.end()
        for match in re.finditer(rf"(?:\[|line ){line + 1}\b", question):
            yield line, match.end() - 1, match.end()


def _whole_words(value: str, text: str) -> Iterator[re.Match[str]]:
    return re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text)


def _spans(processor: Processor, text: str) -> list[tuple[int, int]]:
    encoded = processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(encoded["offset_mapping"])


def _tokens(spans: Sequence[tuple[int, int]], first: int, last: int) -> list[int]:
    return [token for token, (start, end) in enumerate(spans) if start < last and end > first]


def routes_in(branch_of: torch.Tensor, routes: Sequence[Route]) -> Routes:
    """The labels of a batch whose tokens belong to these branches, shape (B, L), or to none below 0."""
    words = torch.zeros(*branch_of.shape, LINES)
    lines, kinds = torch.full_like(branch_of, IGNORED), torch.full_like(branch_of, IGNORED)
    for row, own in enumerate(branch_of):
        for branch in own[own >= 0].unique().tolist():
            at = (own == branch).nonzero().flatten()
            route = routes[branch]
            for token, fits in route.words:
                words[row, at[token], list(fits)] = 1 / len(fits)
            before = at[-1 - len(route.lines) : -1]
            lines[row, before] = torch.tensor(route.lines)
            kinds[row, before] = torch.tensor(route.kinds)
    return Routes(words, lines, kinds)


def judge_asked(hidden: torch.Tensor, routes: Routes, likeness: Likeness) -> tuple[torch.Tensor, Report]:
    """The loss of line and kind where an answer is given, and the shares of right ones."""
    losses, report = [], {}
    for name, wanted in (("line", routes.lines), ("kind", routes.kinds)):
        known = wanted != IGNORED
        logits = normed(hidden[known]) @ likeness.words[name]
        losses.append(cross_entropy(logits, wanted[known]))
        report[f"asked {name}"] = share(logits.argmax(1) == wanted[known])
    return torch.stack(losses).sum(), report
