"""The third lesson: questions with answers, while the labels of the second one stay.

The questions have labels too, for the way from their words to the line they ask about (routes.py).

Answers alone undo within some steps what labels taught: what stands behind a box is then no longer the words
for it, and the model must find anew where to look (docs/LOG.md). Own choice.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from components.pretraining.lessons import Report, learn, share
from components.pretraining.lines import (
    Line,
    judge_copies,
    judge_lines,
    judge_words,
    labels_of,
    likeness_of,
    lines_of,
)
from components.pretraining.recipe import Answers
from components.pretraining.routes import judge_asked, route_of, routes_in
from components.rcmu.tables import read_contexts, read_scenes, read_turns
from components.training.collator import Assembler, Collator
from components.training.forest import Forest, plant
from components.training.packing import Sequence, Stream
from components.training.processor import IGNORED, Processor
from components.training.rcvit import Rcvit

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

_ANSWERS = 2.0  # weight of their loss beside those of the labels


def teach_answers(
    model: "Qwen2VLForConditionalGeneration",
    processor: Processor,
    corpus: Path,
    lesson: Answers,
    *,
    seed: int,
    work: Path,
) -> Report:
    """Train the layers of the language model on a corpus; nothing else changes.

    Args:
        model: changed in place.
        processor: the model's.
        corpus: folder of scenes, contexts and turns.
        lesson: its section of the recipe.
        seed: of the order and the random tokens.
        work: an existing folder, where the tokenised corpus is kept, and taken from when it is there.

    Returns:
        As of `teach_lines`; besides the shares of answers' tokens that are right after those before them, and
        of answers right in all tokens.
    """
    forest = plant(corpus, corpus, processor, work / "forest", limit=lesson.sequence_tokens)
    scenes = {s.scene_id: s.model_copy(update={"image": b""}) for s in read_scenes(corpus)}
    contexts = {c.context_id: c for c in read_contexts(corpus)}
    lines = [lines_of(scenes[context.scene_id], context, processor) for context in contexts.values()]
    stream = Stream(forest, budget=lesson.sequence_tokens, seed=seed)
    assemble, collate = Assembler(forest, processor), Collator(processor, length=None)
    rcvit = Rcvit(model)
    likeness = likeness_of(model, processor)
    language: Any = model.model.language_model
    turns = {turn.turn_id: turn for turn in read_turns(corpus)}
    routes = [
        route_of(turn, scenes[turn.scene_id], contexts[turn.context_id], processor)
        for turn in (turns[turn_id] for turn_id in forest.names()["turns"])
    ]
    seen: list[torch.Tensor] = []

    def keep(module: Any, arguments: Any, output: Any) -> None:
        seen.append(output)

    def judge(step: int) -> tuple[torch.Tensor, Report]:
        packed = [stream[step * lesson.sequences + number] for number in range(lesson.sequences)]
        batch = collate([assemble(sequence) for sequence in packed])
        seen.clear()
        hidden = rcvit.hidden_states(
            batch["input_ids"],
            batch["position_ids"],
            batch["branch_ends"],
            batch["pixel_values"],
            batch["image_grid_thw"],
        )
        labels = labels_of(batch["input_ids"], [lines_in(s, forest, lines) for s in packed], processor)
        loss, report = judge_lines(seen[0], labels, likeness)
        copied, right = judge_copies(model, processor, lesson.copies, f"{seed}:answers:{step}")
        learned = batch["labels"] != IGNORED
        asked = routes_in(batch["branch_of"], routes)
        fitting, fit = judge_words(seen[1], asked.words, likeness)
        routed, found = judge_asked(seen[2], asked, likeness)
        logits, wanted = model.lm_head(hidden[learned]), batch["labels"][learned]
        hits = logits.argmax(-1) == wanted
        branches, of_branch = batch["branch_of"][learned].unique(return_inverse=True)
        missed = torch.zeros(len(branches)).index_add_(0, of_branch, (~hits).float())
        report |= right | fit | found | {"answers": share(hits), "exact": share(missed == 0)}
        return loss + copied + fitting + routed + _ANSWERS * cross_entropy(logits, wanted), report

    judged = (lesson.layers, lesson.word_layers, lesson.asked_layers)  # in this order
    hooks = [language.layers[number - 1].register_forward_hook(keep) for number in judged]
    try:
        return learn(
            "answers",
            model,
            list(language.layers.parameters()),
            judge,
            steps=lesson.steps,
            learning_rate=lesson.learning_rate,
            query_key_decay=lesson.query_key_decay,
        )
    finally:
        for hook in hooks:
            hook.remove()


def lines_in(sequence: Sequence, forest: Forest, lines: list[list[Line]]) -> list[Line]:
    """Of the text sets of a packed sequence, in the order in which their tokens lie."""
    found: list[Line] = []
    for tree in sequence:
        last = -1
        for branch in tree.branches:
            text_set = int(forest.text_set_of[branch])
            if text_set != last:
                found += lines[text_set]
                last = text_set
    return found
