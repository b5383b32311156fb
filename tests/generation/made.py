"""Data of the tests' own: drawn scenes, and what the generate stage makes of them."""

from pathlib import Path

from components.generation import write_turns
from components.params import GenerationParams, SourceParams
from components.sources import write_scenes


def drawn(
    scenes: int,
    *,
    benchmark_share: float,
    regions: tuple[int, int],
    twins_share: float,
    image_size: int = 56,
) -> SourceParams:
    """Params of so many drawn scenes; `regions` are the fewest and the most objects of one."""
    return SourceParams(
        kind="synthetic",
        annotations=None,
        skip_broken=False,
        scenes=scenes,
        benchmark_share=benchmark_share,
        min_regions=regions[0],
        max_regions=regions[1],
        image_size=image_size,
        twins_share=twins_share,
    )


def make_data(root: Path, source: SourceParams, generation: GenerationParams, *, seed: int) -> None:
    """Fill `scenes` and `turns` of a folder."""
    for name in ("scenes", "turns"):
        (root / name).mkdir()
    write_scenes(source, seed=seed, workspace=root, folder=root / "scenes")
    write_turns(root / "scenes", generation, seed=seed, folder=root / "turns", finished=root / "shards")
