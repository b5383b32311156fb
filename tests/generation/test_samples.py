"""The page of samples: both splits, every turn, outside text as text, the same bytes each time."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from components.errors import DataError
from components.generation import write_samples
from components.rcmu import ContextSet, Scene, Split, Turn
from components.rcmu.tables import write_models
from tests.evaluation.test_report import CONTEXT, HOSTILE, SCENE, TURN


def data(folder: Path) -> None:
    """Three scenes of each split, all alike, each with a hostile turn."""
    folder.mkdir()
    scenes: list[Scene] = []
    contexts: list[ContextSet] = []
    turns: list[Turn] = []
    for split in Split:
        for number in range(3):
            names = {"scene_id": f"{split}-{number}", "split": split}
            scenes.append(SCENE.model_copy(update=names))
            names["context_id"] = f"{split}-{number}/c0"
            contexts.append(CONTEXT.model_copy(update=names))
            turn = TURN.model_copy(update={**names, "turn_id": f"{split}-{number}/c0/t0"})
            turns.append(turn.model_copy(update={"answer": f"{HOSTILE} Ada.[2]"}))
    write_models(folder, "scenes", scenes)
    write_models(folder, "contexts", contexts)
    write_models(folder, "turns", turns)


def page(tmp_path: Path, *, number: int = 2, seed: int = 1) -> Path:
    folder = tmp_path / "data"
    written = tmp_path / f"pages/{number}-{seed}.html"
    if not folder.exists():
        data(folder)
    write_samples(folder, folder, number=number, seed=seed, page=written)
    return written


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def test_scenes_of_both_splits_with_boxes_texts_and_turns(tmp_path: Path) -> None:
    html = page(tmp_path).read_text()
    assert [html.count(f'id="{split}-') for split in Split] == [2, 2]
    assert html.count("<rect ") == 4 * 2
    assert "4 of 6 scenes" in html
    assert html.count(">[2]</span>") == 4 * 2  # beside a text, behind an answer
    assert page(tmp_path, number=9).read_text().count("<section") == 6


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    html = page(tmp_path).read_text()
    tags = Tags()
    tags.feed(html)
    assert "script" not in tags.seen
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4 * 4  # two texts, a question, an answer


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first = page(tmp_path, number=1).read_bytes()
    assert page(tmp_path, number=1).read_bytes() == first
    assert any(page(tmp_path, number=1, seed=seed).read_bytes() != first for seed in range(2, 8))


def test_without_data_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no scenes-\*\.parquet") as caught:
        write_samples(tmp_path, tmp_path, number=1, seed=1, page=tmp_path / "page.html")
    assert "rcvit run" in caught.value.hint
