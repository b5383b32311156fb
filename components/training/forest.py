"""The training split as trees, tokenised once and kept: image -> set of texts -> question with answer.

One image of the published data set has about 12 sets of texts, and each of those about 7 questions. A
trunk is the chat up to and with the image, a text set the prompt's lines and instruction, a branch the
question and its answer. Joined, their ids are those of the whole sample, as serving makes them.
"""

import io
import json
import shutil
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from components.errors import DataError
from components.rcmu import Scene, Split, Task, prompt_of, render_prompt, special_token_strings
from components.rcmu.tables import read_contexts, read_scenes, read_turns, shard_paths
from components.training.processor import SYSTEM_MESSAGE, Processor

if TYPE_CHECKING:
    from PIL.Image import Image

TASKS = tuple(Task)
_Row = TypeVar("_Row")
Ids = NDArray[np.int32]
_FIND = "`dvc repro validate` finds every such"


class Bounds(NamedTuple):
    """Where the segments of one kind lie: `start` has one entry more than there are segments."""

    start: NDArray[np.int64]

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every segment."""
        return np.diff(self.start)


class Forest:
    """What `plant` has written, mapped into memory: ranks and data workers share its pages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ids: Ids = np.memmap(folder / "ids.bin", np.int32, "r")
        self._images = np.memmap(folder / "images.bin", np.uint8, "r")
        with np.load(folder / "index.npz") as index:
            self.trunks, self.text_sets, self.branches = (
                Bounds(index[name]) for name in ("trunks", "text_sets", "branches")
            )
            self._image_start: NDArray[np.int64] = index["images"]
            self.grids: NDArray[np.int32] = index["grids"]  # per trunk: height and width in patches
            self.trunk_of: NDArray[np.int32] = index["trunk_of"]  # per text set
            self.text_set_of: NDArray[np.int32] = index["text_set_of"]  # per branch
            self.tasks: NDArray[np.int8] = index["tasks"]  # per branch, an index into TASKS
            self.answer_tokens: NDArray[np.int32] = index["answer_tokens"]  # per branch, at its end

    def __len__(self) -> int:
        """How many branches, that is training samples, it has."""
        return len(self.text_set_of)

    def ids(self, kind: Bounds, row: int) -> Ids:
        """The token ids of one segment."""
        return self._ids[kind.start[row] : kind.start[row + 1]]

    def image(self, trunk: int) -> "Image":
        """The image of a trunk. Raises DataError, naming the scene, when it does not decode."""
        from PIL import Image

        encoded = self._images[self._image_start[trunk] : self._image_start[trunk + 1]].tobytes()
        try:
            with Image.open(io.BytesIO(encoded)) as file:
                return file.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(
                f"the image of scene {self.names()['scenes'][trunk]} does not decode: {error}",
                hint=f"{_FIND} image",
            ) from error

    def names(self) -> dict[str, list[str]]:
        """The scene ids of the trunks and the turn ids of the branches."""
        names: dict[str, list[str]] = json.loads((self.folder / "names.json").read_text(encoding="utf-8"))
        return names

    def report(self) -> dict[str, Any]:
        """Counts, the turns dropped as too long, and those that hold special-token strings."""
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return report


def plant(scenes: Path, turns: Path, processor: Processor, folder: Path, *, limit: int) -> Forest:
    """Tokenise the training split into `folder`, or take what stands there: it appears whole or not at all.

    A sample of more than `limit` tokens is dropped whole, counted and listed.

    Raises:
        DataError: for a file that cannot be read, an image that does not open, a turn without its scene,
            text set or region, and when nothing is left to train on.
    """
    if not folder.exists():
        building = folder.with_name(f".{folder.name}")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        with (building / "ids.bin").open("wb") as ids, (building / "images.bin").open("wb") as images:
            planter = _Planter(processor, ids, limit)
            planter.plant_trunks(scenes, images)
            planter.plant_text_sets(turns)
            planter.plant_branches(turns)
        planter.finish(building)
        building.rename(folder)
    return Forest(folder)


class _Planter:
    """Writes the segments kind by kind, and collects the index over them."""

    def __init__(self, processor: Processor, ids: BinaryIO, limit: int) -> None:
        self.processor = processor
        self.limit = limit
        self._file = ids
        self._trunk_rows: dict[str, int] = {}
        self._set_rows: dict[str, int] = {}
        self._scenes: dict[str, Scene] = {}  # without their images
        self._bounds = {name: array("q", [0]) for name in ("trunks", "text_sets", "branches", "images")}
        self._grids, self._trunk_of, self._text_set_of = array("i"), array("i"), array("i")
        self._tasks, self._answer_tokens = array("b"), array("i")
        self._turn_ids: list[str] = []
        self._dropped: list[str] = []
        self._set_strings: dict[str, tuple[str, ...]] = {}
        self._strings: dict[str, list[str]] = {}

    def plant_trunks(self, folder: Path, images: BinaryIO) -> None:
        bounds, starts = self._bounds["trunks"], self._bounds["images"]
        for scene in rows(read_scenes, folder):
            height, width = _grid(scene, self.processor)
            self._trunk_rows[scene.scene_id] = len(self._trunk_rows)
            self._scenes[scene.scene_id] = scene.model_copy(update={"image": b""})
            self._grids.extend((height, width))
            images.write(scene.image)
            starts.append(starts[-1] + len(scene.image))
            self._write(bounds, self.processor.trunk_ids(image_tokens=height * width // 4))
        self._bounds["text_sets"][0] = bounds[-1]

    def plant_text_sets(self, folder: Path) -> None:
        bounds = self._bounds["text_sets"]
        for context in rows(read_contexts, folder):
            try:
                prompt = prompt_of(self._scenes[context.scene_id], context, "?")
            except (KeyError, IndexError) as error:
                raise DataError(
                    f"{folder}: text set {context.context_id} has no such scene or region "
                    f"(scene {context.scene_id}): {error}",
                    hint=f"{_FIND} text set; run the generate stage again",
                ) from error
            self._set_rows[context.context_id] = len(self._set_rows)
            self._trunk_of.append(self._trunk_rows[context.scene_id])
            texts = " ".join(f"{region.label} {region.text}" for region in prompt.regions)
            self._set_strings[context.context_id] = special_token_strings(texts)
            self._write(bounds, self.processor.context_ids(prompt))
        self._bounds["branches"][0] = bounds[-1]

    def plant_branches(self, folder: Path) -> None:
        bounds = self._bounds["branches"]
        for turn in rows(read_turns, folder):
            text_set = self._set_rows.get(turn.context_id)
            if text_set is None or self._trunk_of[text_set] != self._trunk_rows.get(turn.scene_id):
                raise DataError(
                    f"{folder}: turn {turn.turn_id} has no such scene or text set "
                    f"(scene {turn.scene_id}, text set {turn.context_id})",
                    hint=f"{_FIND} turn; run the generate stage again",
                )
            strings = special_token_strings(f"{turn.question} {turn.answer}")
            if strings := tuple(dict.fromkeys(self._set_strings[turn.context_id] + strings)):
                self._strings[turn.turn_id] = list(strings)
            question, answer = (
                self.processor.question_ids(turn.question),
                self.processor.answer_ids(turn.answer),
            )
            if self._length(text_set) + len(question) + len(answer) > self.limit:
                self._dropped.append(turn.turn_id)
                continue
            self._turn_ids.append(turn.turn_id)
            self._text_set_of.append(text_set)
            self._tasks.append(TASKS.index(turn.task))
            self._answer_tokens.append(len(answer))
            self._write(bounds, question + answer)
        if not self._turn_ids:
            raise DataError(
                f"{folder} has no training turn of at most {self.limit} tokens "
                f"({len(self._dropped)} are longer)",
                hint="raise training.sequence_tokens or source.scenes in params.yaml",
            )

    def finish(self, folder: Path) -> None:
        arrays = {name: np.asarray(bounds) for name, bounds in self._bounds.items()}
        arrays["grids"] = np.asarray(self._grids).reshape(-1, 2)
        for name in ("trunk_of", "text_set_of", "tasks", "answer_tokens"):
            arrays[name] = np.asarray(getattr(self, f"_{name}"))
        np.savez(folder / "index.npz", allow_pickle=False, **arrays)
        report = {
            "samples": len(self._turn_ids),
            "answer_tokens": sum(self._answer_tokens),
            "dropped_too_long": self._dropped,
            "special_token_strings": self._strings,
        }
        _write_json(folder / "report.json", report)
        _write_json(folder / "names.json", {"scenes": list(self._trunk_rows), "turns": self._turn_ids})

    def _length(self, text_set: int) -> int:
        """Tokens before a question of this text set."""
        trunks, sets, trunk = self._bounds["trunks"], self._bounds["text_sets"], self._trunk_of[text_set]
        return trunks[trunk + 1] - trunks[trunk] + sets[text_set + 1] - sets[text_set]

    def _write(self, bounds: "array[int]", ids: list[int]) -> None:
        array("i", ids).tofile(self._file)
        bounds.append(bounds[-1] + len(ids))


def _grid(scene: Scene, processor: Processor) -> tuple[int, int]:
    """Height and width of the resized image in patches, from the file's header."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(scene.image)) as file:
            return processor.grid(width=file.width, height=file.height)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"the image of scene {scene.scene_id} does not open: {error}", hint=f"{_FIND} image"
        ) from error


def rows(read: Callable[[Path, Split], Iterator[_Row]], folder: Path) -> Iterator[_Row]:
    """The training split's rows of one kind. Raises DataError for a file that cannot be read."""
    try:
        yield from read(folder, Split.TRAIN)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the data cannot be read: {error}", hint="run the stage that writes the file again"
        ) from error


def training_shards(scenes: Path, turns: Path) -> list[Path]:
    """The files that `plant` reads. Raises DataError when they are not there."""
    try:
        return [
            *shard_paths(scenes, "scenes", Split.TRAIN),
            *shard_paths(turns, "contexts", Split.TRAIN),
            *shard_paths(turns, "turns", Split.TRAIN),
        ]
    except FileNotFoundError as error:
        raise DataError(str(error), hint="`dvc repro generate` makes the data") from error


def tokenizer_texts(scenes: Path, turns: Path) -> Iterator[str]:
    """What the small tokenizer is trained on: texts, questions, answers, and the chat's words, once each."""
    yield from (f"system\n{SYSTEM_MESSAGE}", "user\n", "assistant\n")
    by_id = {s.scene_id: s.model_copy(update={"image": b""}) for s in rows(read_scenes, scenes)}
    for context in rows(read_contexts, turns):
        if context.scene_id in by_id:
            yield render_prompt(prompt_of(by_id[context.scene_id], context, "?"))
    for turn in rows(read_turns, turns):
        yield turn.question
        yield turn.answer


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
