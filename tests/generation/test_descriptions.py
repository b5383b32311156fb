"""A grounded caption takes what the texts say where it speaks of an object; the rest follows."""

import pytest

from components.generation.questions import Draft, Line, describe
from components.rcmu import (
    Box,
    Claim,
    ContextRegion,
    Fact,
    Mention,
    Region,
    Scene,
    Split,
    cited,
    render_spans,
    without_citations,
)

CAPTION = "a man throws a ball to his dog near a tree."
SAID = {
    1: [(Fact(key="name", value="Bella"), "is called Bella")],
    2: [
        (Fact(key="name", value="John Smith"), "is called John Smith"),
        (Fact(key="job", value="baker"), "works as a baker"),
    ],
    3: [(Fact(key="price", value="9 dollars"), "cost 9 dollars")],
}


def region(number: int, label: str) -> Region:
    box = Box(x1=number * 100, y1=0, x2=number * 100 + 90, y2=90)
    return Region(instance_id=str(number), label=label, box=box, expression=f"the {label}", facts=())


def described(caption: str, mentions: list[tuple[int, str]]) -> Draft:
    """Regions: dog, man, ball; the prompt has them as [1], [2], [3]."""
    regions = tuple(region(number, label) for number, label in enumerate(("dog", "man", "ball")))
    at = [(number, caption.index(words), words) for number, words in mentions]
    scene = Scene(
        scene_id="s",
        split=Split.TRAIN,
        image=b"",
        width=9,
        height=9,
        caption=caption,
        regions=regions,
        mentions=tuple(Mention(region=n, start=start, end=start + len(words)) for n, start, words in at),
    )
    lines = [
        Line(
            k=k,
            seen=regions[k - 1],
            told=ContextRegion(region=k - 1, text="text", facts=tuple(f for f, _ in said)),
        )
        for k, said in SAID.items()
    ]
    return describe(scene, lines, SAID)


@pytest.mark.parametrize(
    ("caption", "mentions", "answer"),
    [
        (
            CAPTION,
            [(1, "a man"), (2, "a ball"), (0, "his dog")],
            "A man, who is called John Smith and works as a baker [2], throws a ball, which cost 9 "
            "dollars [3], to his dog, which is called Bella [1], near a tree.",
        ),
        (
            CAPTION.removesuffix(" near a tree."),
            [(0, "his dog")],
            "A man throws a ball to his dog, which is called Bella [1]. The man is called John Smith and "
            "works as a baker [2]. The ball cost 9 dollars [3].",
        ),
        (
            "A man, his dog.",
            [(1, "A man"), (0, "his dog")],
            "A man, who is called John Smith and works as a baker [2], his dog, which is called Bella [1]. "
            "The ball cost 9 dollars [3].",
        ),
        (
            CAPTION,
            [],
            "A man throws a ball to his dog near a tree. The dog is called Bella [1]. The man is called "
            "John Smith and works as a baker [2]. The ball cost 9 dollars [3].",
        ),
        (
            "",
            [],
            "The dog is called Bella [1]. The man is called John Smith and works as a baker [2]. "
            "The ball cost 9 dollars [3].",
        ),
    ],
)
def test_descriptions(caption: str, mentions: list[tuple[int, str]], answer: str) -> None:
    draft = described(caption, mentions)
    assert render_spans(draft.spans) == answer
    assert sorted(cited(answer)) == [1, 2, 3]
    assert "  " not in without_citations(answer)
    assert draft.claims == tuple(Claim(k=k, value=fact.value) for k, said in SAID.items() for fact, _ in said)


def test_an_object_that_is_mentioned_twice_is_told_of_once() -> None:
    draft = described("A dog and a man and the dog.", [(0, "A dog"), (1, "a man"), (0, "the dog")])
    assert render_spans(draft.spans) == (
        "A dog, which is called Bella [1], and a man, who is called John Smith and works as a baker [2], "
        "and the dog. The ball cost 9 dollars [3]."
    )


@pytest.mark.parametrize("spans", [[(0, 0, 0)], [(0, 5, 99)], [(3, 0, 2)], [(0, 0, 5), (1, 4, 6)]])
def test_a_mention_outside_its_caption_is_refused(spans: list[tuple[int, int, int]]) -> None:
    mentions = [Mention(region=region, start=start, end=end) for region, start, end in spans]
    with pytest.raises(ValueError, match="mention"):
        Scene(
            scene_id="s",
            split=Split.TRAIN,
            image=b"",
            width=9,
            height=9,
            caption=CAPTION,
            regions=tuple(region(number, "dog") for number in range(3)),
            mentions=tuple(mentions),
        )
