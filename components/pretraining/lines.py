"""The second lesson: at the end of each box of a prompt, what is there; along each line, its number.

The lower layers of the language model learn to read a box's digits, to find the place in the image and to
keep what is seen there, as the words for it, where a question can look it up like any text: as if the words
had been said before, so that the layers above find them as they find any token that came before. A question
of nothing but words for looks has labels for the lines that each fits. Beside it all layers go on with random
tokens, or they would forget how (training/circuits.py). No label of a text depends on the image (own choice).
"""

import io
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from components.generation.facts import kinds_of
from components.generation.shard import write_context
from components.pretraining.lessons import Report, embeddings_of, learn, share
from components.pretraining.recipe import Lines
from components.rcmu import ContextRegion, ContextSet, Scene, Split, prompt_of
from components.rcmu.prompt import BOX_END
from components.sources.geometry import POSITIONS
from components.sources.synthetic import COLORS, SHAPES, SIZES, draw_scene
from components.training.circuits import carried
from components.training.processor import IGNORED, Processor
from components.training.tokenizer import END_OF_TURN

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

_WORDS = {
    "color": tuple(COLORS),
    "shape": tuple(SHAPES),
    "size": tuple(SIZES),
    "position": tuple(position.split()[-1] for position in POSITIONS),
}
_NUMBERS = tuple("123456789")
KINDS = (*_WORDS, *(kind.key for kind in kinds_of("circle")))  # of facts, those that texts state behind
_ASKED = "Which is"  # the question begins so; it comes after the lines: no label of theirs depends on it
LINES = 9  # a line's number is one digit
_SHARPNESS = 2.0  # of the likeness to an embedding
_REPEATED, _BETWEEN = 40, 60  # tokens that come twice, at most so many others between


class Line(NamedTuple):
    """What is labelled at one line of a prompt."""

    number: int
    looks: tuple[int, ...]  # the number of the word for color, shape, size and position
    kinds: tuple[int, ...]  # of KINDS or IGNORED, for each token behind the end of the box


class Labels(NamedTuple):
    """Of a batch of B sequences of L tokens with R boxes in all."""

    ends: torch.Tensor  # (B, L), true where a box ends
    looks: torch.Tensor  # (R, 4), box by box; the first is asked of the token behind the end, and so on
    numbers: torch.Tensor  # (B, L): from the end of a box to the end of its line the line's number, else 0
    kinds: torch.Tensor  # (B, L): which of KINDS a token is a value of, or IGNORED


class Likeness(NamedTuple):
    """What features are compared with: features times these are logits."""

    words: dict[str, torch.Tensor]  # for each kind of label the embeddings of its words, (hidden, words)
    before: torch.Tensor  # (hidden, vocabulary): the marks of having stood before (training/circuits.py)
    tokens: dict[str, torch.Tensor]  # for each kind of looks the tokens of its words, (words,)


def teach_lines(
    model: "Qwen2VLForConditionalGeneration",
    processor: Processor,
    lesson: Lines,
    *,
    seed: int,
) -> Report:
    """Train the language model's layers, the first `lesson.layers` of them on lines; nothing else changes.

    Returns:
        The shares of boxes with the right color, shape, size and position, and with each found as if said
        before; of tokens with the right number of their line and with the right kind of fact; of words of
        the question whose likeliest line is one that they fit; of tokens rightly gone on with. Of the last
        steps.
    """
    likeness = likeness_of(model, processor)
    language: Any = model.model.language_model
    whole = language.layers

    def judge(step: int) -> tuple[torch.Tensor, Report]:
        names = [f"base-lines-{step}-{number}" for number in range(lesson.images)]
        scenes = [draw_scene(name, lesson.source, split=Split.TRAIN, seed=seed) for name in names]
        inputs, labels, words = prompts_of(
            [(scene, write_context(scene, 0, lesson.generation, seed=seed)) for scene in scenes],
            processor,
            random.Random(f"{seed}:words:{step}"),  # noqa: S311 - makes data, not keys
        )
        language.layers = whole[: lesson.word_layers or lesson.layers]
        try:
            output = model.model(**inputs, use_cache=False, output_hidden_states=True)
        finally:
            language.layers = whole
        loss, report = judge_lines(output.hidden_states[lesson.layers], labels, likeness)
        if lesson.word_layers:
            fitting, fit = judge_words(output.last_hidden_state, words, likeness)
            loss, report = loss + fitting, report | fit
        copied, right = judge_copies(model, processor, lesson.copies, f"{seed}:copies:{step}")
        return loss + copied, report | right

    return learn(
        "lines",
        model,
        list(whole.parameters()),
        judge,
        steps=lesson.steps,
        learning_rate=lesson.learning_rate,
        query_key_decay=lesson.query_key_decay,
    )


def likeness_of(model: "Qwen2VLForConditionalGeneration", processor: Processor) -> Likeness:
    """Of the words for all labels, as the model embeds them now."""
    words = {kind: [f" {word}" for word in words] for kind, words in _WORDS.items()}
    tokens = {kind: torch.tensor([_token(word, processor) for word in words[kind]]) for kind in _WORDS}
    words["line"] = list(_NUMBERS)
    words["kind"] = [f" {kind}" for kind in KINDS]
    config: Any = model.config.get_text_config()
    marks = carried(
        model.get_input_embeddings().weight.detach(),
        heads=config.num_attention_heads,
        rope_theta=config.rope_parameters["rope_theta"],
    )
    return Likeness(
        {kind: _SHARPNESS * embeddings_of(model, processor, of_kind) for kind, of_kind in words.items()},
        _SHARPNESS * marks.T,
        tokens,
    )


def _token(word: str, processor: Processor) -> int:
    """The last one of a word; with all but the smallest vocabularies it is the only one."""
    return int(processor.tokenizer(word, add_special_tokens=False)["input_ids"][-1])


def judge_lines(hidden: torch.Tensor, labels: Labels, likeness: Likeness) -> tuple[torch.Tensor, Report]:
    """The loss of the labels, and the shares of right ones; `hidden` has shape (B, L, hidden)."""
    hidden = normed(hidden)
    asked = []
    # Each attribute has a token of its own, so that a question chooses between them as between words.
    for behind, (kind, of_kind) in enumerate(zip(_WORDS, labels.looks.T, strict=True), start=1):
        features = hidden[labels.ends.roll(behind, dims=1)]
        asked.append((kind, features @ likeness.words[kind], of_kind))
        # Of the whole vocabulary, or what has the mark of one word would be found by others too.
        asked.append((f"found {kind}", features @ likeness.before, likeness.tokens[kind][of_kind]))
    within = labels.numbers > 0
    asked.append(("line", hidden[within] @ likeness.words["line"], labels.numbers[within] - 1))
    stated = labels.kinds != IGNORED
    asked.append(("kind", hidden[stated] @ likeness.words["kind"], labels.kinds[stated]))
    losses, report = [], {}
    for kind, logits, wanted in asked:
        losses.append(cross_entropy(logits, wanted))
        report[kind] = share(logits.argmax(1) == wanted)
    return torch.stack(losses).sum(), report


def judge_words(hidden: torch.Tensor, words: torch.Tensor, likeness: Likeness) -> tuple[torch.Tensor, Report]:
    """The loss of the lines that words fit, and the share of words whose likeliest line is one of them.

    Args:
        hidden: shape (B, L, hidden).
        words: shape (B, L, LINES), the share of each line at a word of a question, else zeros.
        likeness: of the model.
    """
    known = words.sum(-1) > 0
    logits = normed(hidden[known]) @ likeness.words["line"]
    best = logits.argmax(1, keepdim=True)
    return cross_entropy(logits, words[known]), {"word": share(words[known].gather(1, best) > 0)}


def normed(hidden: torch.Tensor) -> torch.Tensor:
    """As a layer reads it, but for the layer's own weights."""
    return torch.nn.functional.rms_norm(hidden, hidden.shape[-1:])


def lines_of(scene: Scene, context: ContextSet, processor: Processor) -> list[Line]:
    """The lines of a text set, in their order."""
    lines = []
    for number, told in enumerate(context.regions, start=1):
        seen = scene.regions[told.region]
        facts = {fact.key: fact.value.split()[-1] for fact in seen.facts} | {"shape": seen.label}
        looks = tuple(words.index(facts[kind]) for kind, words in _WORDS.items())
        lines.append(Line(number, looks, _kinds(told, processor)))
    return lines


def _kinds(told: ContextRegion, processor: Processor) -> tuple[int, ...]:
    """The tokens of a line behind its box: those that stand for what is seen, and those of stated values."""
    before = " in the image: "
    # A newline ends a token, so the tokens of a line's rest are those it has alone.
    rest = processor.tokenizer(
        f"{before}{told.text}\n", add_special_tokens=False, return_offsets_mapping=True
    )
    kinds = [IGNORED] * len(rest["input_ids"])
    kinds[: len(_WORDS)] = range(len(_WORDS))
    for fact in told.facts:
        start = len(before) + told.text.index(fact.value)
        for token, (first, last) in enumerate(rest["offset_mapping"]):
            if first < start + len(fact.value) and last > start:
                kinds[token] = KINDS.index(fact.key)
    return tuple(kinds)


def labels_of(ids: torch.Tensor, rows: Sequence[Sequence[Line]], processor: Processor) -> Labels:
    """Labels of sequences, shape (B, L), each with the lines of its text sets one after the other."""
    ends = ids == processor.id_of(BOX_END)
    numbers, kinds = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (positions, lines) in enumerate(zip(ends, rows, strict=True)):
        for line, end in zip(lines, positions.nonzero().flatten().tolist(), strict=True):
            behind = slice(end + 1, end + 1 + len(line.kinds))
            numbers[row, end : behind.stop] = line.number
            kinds[row, behind] = torch.tensor(line.kinds)
    looks = [line.looks for lines in rows for line in lines]
    # Questions about the image alone may fill a batch: then there is no line in it.
    return Labels(ends, torch.tensor(looks, dtype=torch.long).reshape(-1, len(_WORDS)), numbers, kinds)


def prompts_of(
    drawn: Sequence[tuple[Scene, ContextSet]], processor: Processor, rng: random.Random
) -> tuple[dict[str, torch.Tensor], Labels, torch.Tensor]:
    """Scenes with texts as the model reads them, their labels, and those of the words of `judge_words`.

    The question is of all words for looks, in any order.
    """
    requests, fitting = [], []
    lines = [lines_of(scene, context, processor) for scene, context in drawn]
    for (scene, context), own in zip(drawn, lines, strict=True):
        words = [(place, n) for place, of_kind in enumerate(_WORDS.values()) for n in range(len(of_kind))]
        rng.shuffle(words)
        named = list(_WORDS.values())
        question = f"{_ASKED} {' '.join(named[place][n] for place, n in words)}"
        image = Image.open(io.BytesIO(scene.image)).convert("RGB")
        requests.append((prompt_of(scene, context, question), image))
        fitting.append([[line.number - 1 for line in own if line.looks[place] == n] for place, n in words])
    inputs = processor.batch_for_scoring(requests, [()] * len(requests))
    ids = inputs["input_ids"]
    labels = labels_of(ids, lines, processor)
    return inputs, labels, _words_in(ids, [request.question for request, _ in requests], fitting, processor)


def _words_in(
    ids: torch.Tensor, questions: Sequence[str], fitting: Sequence[list[list[int]]], processor: Processor
) -> torch.Tensor:
    """Labels of the questions' words behind `_ASKED`: for each token of a word the lines less one it fits."""
    words = torch.zeros(*ids.shape, LINES)
    for row, (question, fits) in enumerate(zip(questions, fitting, strict=True)):
        encoded = processor.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)
        tokens, spans = encoded["input_ids"], encoded["offset_mapping"]
        # The question ends before the last turn but one of the chat ends, and is padded on the left.
        end = int((ids[row] == processor.id_of(END_OF_TURN)).nonzero()[-1])
        start = end - len(tokens)
        behind = [at for at, (first, _) in enumerate(spans) if first >= len(_ASKED)]
        for at in behind:
            word = question[len(_ASKED) : spans[at][1]].split()
            if lines := fits[len(word) - 1]:
                words[row, start + at, lines] = 1 / len(lines)
    return words


def judge_copies(
    model: "Qwen2VLForConditionalGeneration", processor: Processor, number: int, seed: str
) -> tuple[torch.Tensor, Report]:
    """The loss of going on with repeated tokens, and the share of right ones."""
    ids = repeated(processor, number, random.Random(seed))  # noqa: S311 - makes data, not keys
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    logits, wanted = logits[:, -_REPEATED:-1], ids[:, 1 - _REPEATED :]
    loss = cross_entropy(logits.flatten(0, 1), wanted.flatten())
    return loss, {"copy": share(logits.argmax(-1) == wanted)}


def repeated(processor: Processor, number: int, rng: random.Random) -> torch.Tensor:
    """Sequences of random plain tokens that end as they began, shape (number, tokens)."""
    plain = sorted(set(range(len(processor.tokenizer))) - set(processor.tokenizer.all_special_ids))
    between = rng.randint(0, _BETWEEN)
    drawn = [rng.choices(plain, k=_REPEATED + between) for _ in range(number)]
    return torch.tensor([ids + ids[:_REPEATED] for ids in drawn])
