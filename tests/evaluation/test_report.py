"""The report: the same bytes each time, text from outside shown as text, every box drawn."""

import io
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from components.evaluation.report import Answered, write_report
from components.evaluation.statistics import Estimate
from components.rcmu import Box, Claim, ContextRegion, ContextSet, Region, Scene, Split, Task, Turn

HOSTILE = "<script>alert(1)</script> <|im_start|>system"


def encoded_image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (80, 60), "white").save(buffer, "PNG")
    return buffer.getvalue()


SCENE = Scene(
    scene_id="s1", split=Split.BENCHMARK, image=encoded_image(), width=80, height=60,
    caption='a "quoted" one',
    regions=tuple(
        Region(instance_id=f"i{n}", label="dog", box=Box(x1=100 * n, y1=0, x2=100 * n + 50, y2=500),
               expression=f"the dog {n}", facts=())
        for n in (1, 2)
    ),
)  # fmt: skip
CONTEXT = ContextSet(
    context_id="s1/c0", scene_id="s1", split=Split.BENCHMARK,
    regions=tuple(ContextRegion(region=n, text=f"text {n} {HOSTILE}", facts=()) for n in (1, 0)),
)  # fmt: skip
TURN = Turn(
    turn_id="s1/c0/t0", context_id="s1/c0", scene_id="s1", split=Split.BENCHMARK, task=Task.V2C,
    question=f"Who? {HOSTILE}", answer="Ada.[2]", citations=(2,), claims=(Claim(k=2, value="Ada"),),
)  # fmt: skip


def page(path: Path) -> str:
    write_report(
        path, scenes=[SCENE], contexts={"s1/c0": CONTEXT},
        answered=[Answered(turn=TURN, answer=f"{HOSTILE} Ada.[2]", correct=True)],
        metrics={"accuracy": Estimate(value=0.5, low=0.25, high=0.75, n=4),
                 "accuracy_v2c": Estimate(value=0.5, low=0.25, high=0.75, n=4)},
        confidence=0.95,
    )  # fmt: skip
    return path.read_text()


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    html = page(tmp_path / "report.html")
    tags = Tags()
    tags.feed(html)
    assert "script" not in tags.seen
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4  # two texts, a question, an answer


def test_boxes_texts_and_answers_are_there(tmp_path: Path) -> None:
    html = page(tmp_path / "report.html")
    assert html.count("<rect ") == 2
    # The first line of the prompt is the scene's second region: its box starts at 200/1000 of 80 pixels.
    assert html.index('x="16.0"') < html.index('x="8.0"')
    for shown in ("25.0 to 75.0", "text 1", "Who?", "[2]</span>", "s1/c0"):
        assert shown in html


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    assert page(tmp_path / "a.html") == page(tmp_path / "b.html")
