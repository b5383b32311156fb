"""The second lesson: at the end of each box of a prompt, what is there; along each line, its number.

The lower layers of the language model learn to read a box's digits, to find the place in the image and to
keep what is seen there, as the words for it, where a question can look it up like any text. Beside it all
layers go on with random tokens that came before, or they would forget how (training/circuits.py). Nothing is
asked yet, and no label of a text depends on the image (own choice).
"""

import io
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from components.generation.write import write_context
from components.params import GenerationParams, SourceParams
from components.pretraining.lessons import Report, embeddings_of, learn, share
from components.rcmu import ContextSet, Scene, Split, prompt_of
from components.rcmu.prompt import BOX_END
from components.sources.geometry import POSITIONS
from components.sources.synthetic import COLORS, SHAPES, SIZES, draw_scene
from components.training.processor import Processor

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

_WORDS = {
    "color": tuple(COLORS),
    "shape": tuple(SHAPES),
    "size": tuple(SIZES),
    "position": tuple(position.split()[-1] for position in POSITIONS),
}
_NUMBERS = tuple("123456789")
_QUESTION = "Describe the image."  # it comes after all that is labelled: no label depends on it
_SHARPNESS = 2.0  # of the likeness to an embedding
_REPEATED, _BETWEEN = 40, 60  # tokens that come twice, at most so many others between


class Lines(NamedTuple):
    """A batch of B prompts of L tokens with R regions in all."""

    inputs: dict[str, torch.Tensor]
    ends: torch.Tensor  # (B, L), true where a box ends
    looks: torch.Tensor  # (R, 4): the number of the word for color, shape, size and position, box by box
    numbers: torch.Tensor  # (B, L): from the end of a box to the end of its line the line's number, else 0


def teach_lines(
    model: "Qwen2VLForConditionalGeneration",
    processor: Processor,
    source: SourceParams,
    generation: GenerationParams,
    *,
    layers: int,
    steps: int,
    images: int,
    copies: int,
    learning_rate: float,
    seed: int,
) -> Report:
    """Train the layers of the language model, the first `layers` of them on lines; nothing else changes.

    Args:
        model: changed in place.
        processor: the model's.
        source: of the scenes, new ones each step.
        generation: of their texts.
        layers: after how many the labels of lines are to be known.
        steps: how many.
        images: scenes a step.
        copies: sequences of random tokens a step.
        learning_rate: of Muon.
        seed: of scenes, texts and random tokens.

    Returns:
        The shares of boxes with the right color, shape, size and position, of tokens with the right number
        of their line, and of tokens rightly gone on with, in the last steps.
    """
    likeness = {
        kind: _SHARPNESS * embeddings_of(model, processor, [f" {word}" for word in words])
        for kind, words in _WORDS.items()
    }
    likeness["line"] = _SHARPNESS * embeddings_of(model, processor, _NUMBERS)
    language: Any = model.model.language_model
    whole = language.layers
    parameters = list(whole.parameters())
    trained = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)

    def judge(step: int) -> tuple[torch.Tensor, Report]:
        names = [f"base-lines-{step}-{number}" for number in range(images)]
        scenes = [draw_scene(name, source, split=Split.TRAIN, seed=seed) for name in names]
        lines = lines_of([(s, write_context(s, 0, generation, seed=seed)) for s in scenes], processor)
        language.layers = whole[:layers]
        try:
            hidden = model.model(**lines.inputs, use_cache=False).last_hidden_state
        finally:
            language.layers = whole
        loss, report = _judge(hidden, lines, likeness)
        ids = repeated(processor, copies, random.Random(f"{seed}:copies:{step}"))  # noqa: S311 - makes data
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        logits, wanted = logits[:, -_REPEATED:-1], ids[:, 1 - _REPEATED :]
        loss = loss + cross_entropy(logits.flatten(0, 1), wanted.flatten())
        return loss, report | {"copy": share(logits.argmax(-1) == wanted)}

    try:
        return learn("lines", parameters, judge, steps=steps, learning_rate=learning_rate)
    finally:
        for parameter, before in zip(model.parameters(), trained, strict=True):
            parameter.requires_grad_(before)


def _judge(
    hidden: torch.Tensor, lines: Lines, likeness: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, Report]:
    hidden = torch.nn.functional.rms_norm(hidden, hidden.shape[-1:])
    within = lines.numbers > 0
    asked = [(kind, hidden[lines.ends], labels) for kind, labels in zip(_WORDS, lines.looks.T, strict=True)]
    asked.append(("line", hidden[within], lines.numbers[within] - 1))
    losses, report = [], {}
    for kind, features, labels in asked:
        logits = features @ likeness[kind]
        losses.append(cross_entropy(logits, labels))
        report[kind] = share(logits.argmax(1) == labels)
    return torch.stack(losses).sum(), report


def lines_of(drawn: Sequence[tuple[Scene, ContextSet]], processor: Processor) -> Lines:
    """Scenes with texts as the model reads them, labelled."""
    requests, looks, lengths = [], [], []
    for scene, context in drawn:
        for told in context.regions:
            seen = scene.regions[told.region]
            facts = {fact.key: fact.value.split()[-1] for fact in seen.facts} | {"shape": seen.label}
            looks.append([words.index(facts[kind]) for kind, words in _WORDS.items()])
            # A newline ends a token, so the tokens of a line's rest are those it has alone.
            rest = processor.tokenizer(f" in the image: {told.text}\n", add_special_tokens=False)
            lengths.append(len(rest["input_ids"]))
        image = Image.open(io.BytesIO(scene.image)).convert("RGB")
        requests.append((prompt_of(scene, context, _QUESTION), image))
    inputs = processor.batch_for_scoring(requests, [()] * len(requests))
    ends = inputs["input_ids"] == processor.id_of(BOX_END)
    numbers = torch.zeros_like(inputs["input_ids"])
    length = iter(lengths)
    for row, positions in zip(numbers, ends, strict=True):
        for k, end in enumerate(positions.nonzero().flatten().tolist(), start=1):
            row[end : end + 1 + next(length)] = k
    return Lines(inputs, ends, torch.tensor(looks), numbers)


def repeated(processor: Processor, number: int, rng: random.Random) -> torch.Tensor:
    """Sequences of random plain tokens that end as they began, shape (number, tokens)."""
    plain = sorted(set(range(len(processor.tokenizer))) - set(processor.tokenizer.all_special_ids))
    between = rng.randint(0, _BETWEEN)
    drawn = [rng.choices(plain, k=_REPEATED + between) for _ in range(number)]
    return torch.tensor([ids + ids[:_REPEATED] for ids in drawn])
