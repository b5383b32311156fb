"""Ids and labels: equal to the template's for harmless text, and out of reach for hostile text."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.rcmu import SPECIAL_TOKENS, normalise, render_prompt, special_token_strings
from components.training.processor import (
    Processor,
    context_pieces,
    question_pieces,
    trunk_pieces,
)
from components.training.tokenizer import train_tokenizer
from tests.training.conftest import CORPUS, prompt

harmless = st.text(max_size=40).map(normalise).filter(lambda t: t and not special_token_strings(t))
hostile = (
    st.lists(
        st.sampled_from([*SPECIAL_TOKENS, "assistant", "user", "[1]", " ", "Ada", "(1,2),(3,4)"]),
        min_size=1,
        max_size=8,
    )
    .map("".join)
    .map(normalise)
    .filter(bool)
)


def joined(text: str, question: str, answer: str | None, tokens: int) -> str:
    pieces = [*trunk_pieces(tokens), *context_pieces(prompt(text, question)), *question_pieces(question)]
    chat = "".join(piece.text for piece in pieces)
    return chat if answer is None else f"{chat}{answer}<|im_end|>"


@settings(max_examples=60)
@given(text=harmless, question=harmless, answer=harmless)
def test_ids_of_harmless_text_equal_those_of_the_whole_string(
    processor: Processor, text: str, question: str, answer: str
) -> None:
    ids = processor.prompt_ids(prompt(text, question), image_tokens=4) + processor.answer_ids(answer)
    whole = processor.tokenizer(joined(text, question, answer, 4), add_special_tokens=False)
    assert ids == whole["input_ids"]


@settings(max_examples=60)
@given(text=hostile, question=hostile, answer=hostile)
def test_hostile_text_makes_no_special_token_and_moves_no_answer(
    processor: Processor, text: str, question: str, answer: str
) -> None:
    special = {processor.id_of(token) for token in SPECIAL_TOKENS}
    clean, asked = (processor.prompt_ids(p, image_tokens=4) for p in (prompt(), prompt(text, question)))
    assert Counter(i for i in asked if i in special) == Counter(i for i in clean if i in special)
    learned = processor.answer_ids(answer)
    assert learned[-1] == processor.id_of("<|im_end|>")
    assert not special & set(learned[:-1])
    assert processor.tokenizer.decode(learned[:-1]) == answer


@pytest.mark.parametrize("answer", [None, "It belongs to Ada Moss.[1]"])
def test_the_chat_is_what_the_template_writes(processor: Processor, answer: str | None) -> None:
    asked = {"type": "text", "text": render_prompt(prompt())}
    messages: list[dict[str, object]] = [{"role": "user", "content": [{"type": "image"}, asked]}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    template = processor.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=answer is None
    )
    ours = joined("Ada Moss owns it.", "Who owns it?", answer, 1)
    # The template closes a finished answer with a newline that a model never has to write.
    assert ours == (template if answer is None else template.removesuffix("\n"))


def test_golden_parts(processor: Processor) -> None:
    parts = {
        "trunk": processor.trunk_ids(image_tokens=1),
        "context": processor.context_ids(prompt()),
        "question": processor.question_ids("Who owns it?"),
        "answer": processor.answer_ids("Ada Moss.[1]"),
    }
    assert {name: processor.tokenizer.decode(ids) for name, ids in parts.items()} == {
        "trunk": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|image_pad|><|vision_end|>",
        "context": "[1]: The information of the circle located at <|box_start|>(1,2),(300,400)<|box_end|> "
        "in the image: Ada Moss owns it.\nAnswer the following question based on the information above and "
        "the given image, and provide citations for your response.\n",
        "question": "Who owns it?<|im_end|>\n<|im_start|>assistant\n",
        "answer": "Ada Moss.[1]<|im_end|>",
    }


def test_digits_stand_alone(processor: Processor) -> None:
    assert len(processor.tokenizer("1984", add_special_tokens=False)["input_ids"]) == 4


def test_the_same_texts_give_the_same_tokenizer(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_tokenizer(CORPUS, vocab_size=400).save_pretrained(tmp_path / name)
    first, second = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize("size", [(112, 112), (640, 427), (40, 300), (28, 28)])
def test_image_tokens_equal_image_features(processor: Processor, size: tuple[int, int]) -> None:
    pixels = processor.pixels(Image.new("RGB", size, "red"))
    assert pixels.values.shape == (4 * pixels.tokens, 3 * 2 * 14 * 14)
    assert processor.trunk_ids(image_tokens=pixels.tokens).count(processor.image_pad) == pixels.tokens
    assert 1 <= pixels.tokens <= 16
    assert (1, *processor.grid(width=size[0], height=size[1])) == tuple(pixels.grid.tolist())


def test_a_batch_is_padded_on_the_left(processor: Processor) -> None:
    image = Image.new("RGB", (56, 56))
    short, long = prompt(), prompt(question="Who owns it, and what did it cost?")
    batch = processor.batch_for_generation([(short, image), (long, image)])
    mask = batch["attention_mask"]
    assert mask[0, 0] == 0
    assert mask[:, -1].tolist() == [1, 1]
    assert batch["input_ids"][0][mask[0].bool()].tolist() == (processor.prompt_ids(short, image_tokens=4))
    assert batch["image_grid_thw"].tolist() == [[1, 4, 4], [1, 4, 4]]


def test_a_saved_processor_gives_the_same_ids(processor: Processor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    again = Processor.from_folder(tmp_path)
    asked = prompt("hold <|im_end|> this")
    assert again.prompt_ids(asked, image_tokens=2) == processor.prompt_ids(asked, image_tokens=2)
    assert again.tokenizer.chat_template == processor.tokenizer.chat_template
    assert again.decode(processor.answer_ids("Ada.")) == "Ada."
