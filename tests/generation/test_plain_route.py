"""The plain route stays as it is to the byte: the tiny base that ships was taught its wording."""

import hashlib
from pathlib import Path

from components.generation import write_turns
from components.params import GenerationParams, SourceParams
from components.rcmu.tables import read_contexts, read_turns
from components.sources import write_scenes

SOURCE = SourceParams(
    kind="synthetic",
    annotations=None,
    skip_broken=False,
    scenes=24,
    benchmark_share=0.25,
    min_regions=2,
    max_regions=3,
    image_size=56,
    twins_share=0.5,
)
# Of texts and turns as JSON, not of the Parquet files: those are other bytes under another pyarrow.
TEXTS = "7f4ae20e64cab7ec90e1e01632595b2104db0076aee48bf26ded35b6b122c417"
TURNS = "a932b056a7d6c0a35bf1701055f42d3af10f603781c55964597c52e4f2a6a21f"


def test_the_plain_route_gives_the_same_texts_and_turns(tmp_path: Path) -> None:
    for name in ("scenes", "turns"):
        (tmp_path / name).mkdir()
    write_scenes(SOURCE, seed=3, workspace=tmp_path, folder=tmp_path / "scenes")
    params = GenerationParams(context_sets=2, facts_per_text=2, questions_per_task=2)
    write_turns(
        tmp_path / "scenes", params, seed=3, folder=tmp_path / "turns", finished=tmp_path / "finished"
    )
    texts, turns = hashlib.sha256(), hashlib.sha256()
    for context in read_contexts(tmp_path / "turns"):
        texts.update(context.model_dump_json().encode())
    for turn in read_turns(tmp_path / "turns"):
        turns.update(turn.model_dump_json().encode())
    assert (texts.hexdigest(), turns.hexdigest()) == (TEXTS, TURNS)
