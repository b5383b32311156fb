"""`make bench-train`: questions per second of RCVIT in four forms, same model, data and hardware, one run.

padded: a sequence per question, padded to the longest of its batch. multi-turn: a sequence per text set,
its questions as turns of one chat, as LLaMA-Factory and QwenLM's script put them. packed: sequences of
many samples, each with an image and texts of its own. tree: `components.training`. The first two go
through transformers' own forward. Every column shows the best of the batch sizes or budgets tried.
"""

import io
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from components.params import load_params
from components.rcmu import Box, ContextRegion, ContextSet, Region, Scene, Split, Task, Turn
from components.rcmu.tables import write_models
from components.training.collator import MEASURED, Assembler, Collator
from components.training.forest import Forest, plant, tokenizer_texts
from components.training.model import build_from_scratch, make_processor
from components.training.packing import Sequence, Tree, plan_epoch
from components.training.processor import IGNORED, Processor
from components.training.rcvit import Rcvit

REPO = Path(__file__).resolve().parents[2]
PLOT = REPO / ".rcvit/bench/training.png"
SIDE, REGIONS, WORDS = 448, 3, 60  # 256 visual tokens; RCMU's texts have 30 to 180 words
SHAPES = ((12, 7), (1, 1), (1, 4), (2, 6), (8, 6))  # text sets and questions of each
QUESTIONS = 48  # about so many are timed in each shape
ROUNDS = 2
BATCHES = (1, 8)  # padded and multi-turn
BUDGETS = (1024, 2048)  # packed and tree
STEPS = 12  # of the loss curves
SYLLABLES = ("ka", "lo", "mi", "nu", "re", "so", "ta", "den", "ria", "tok", "vel", "zu")

Batch = dict[str, Any]


class Column(NamedTuple):
    """A form: its batches, and what a label's loss is summed from."""

    name: str
    setting: int  # sequences a batch, or tokens a sequence
    batches: list[Batch]


def write_data(folder: Path, *, scenes: int, text_sets: int, questions: int) -> None:
    """Noise for images and words for texts: no figure here depends on what they say."""
    rng = random.Random(7)

    def words(count: int) -> str:
        return " ".join("".join(rng.choices(SYLLABLES, k=2)) for _ in range(count))

    made, contexts, turns = [], [], []
    for s in range(scenes):
        file = io.BytesIO()
        Image.frombytes("RGB", (SIDE, SIDE), rng.randbytes(3 * SIDE * SIDE)).save(file, "PNG")
        regions = [
            Region(
                instance_id=f"{s}/{r}",
                label="object",
                box=Box(x1=50 * r, y1=100, x2=50 * r + 400, y2=800),
                expression=f"object {r}",
                facts=(),
            )
            for r in range(REGIONS)
        ]
        made.append(
            Scene(
                scene_id=str(s),
                split=Split.TRAIN,
                image=file.getvalue(),
                width=SIDE,
                height=SIDE,
                regions=tuple(regions),
            )
        )
        for c in range(text_sets):
            texts = [ContextRegion(region=r, text=words(WORDS), facts=()) for r in range(REGIONS)]
            contexts.append(
                ContextSet(context_id=f"{s}/{c}", scene_id=str(s), split=Split.TRAIN, regions=tuple(texts))
            )
            turns += [
                Turn(
                    turn_id=f"{s}/{c}/{q}",
                    context_id=f"{s}/{c}",
                    scene_id=str(s),
                    split=Split.TRAIN,
                    task=Task.V2C,
                    question=f"{words(rng.randint(6, 12))}?",
                    answer=f"{words(rng.randint(4, 14))}.[1]",
                    citations=(1,),
                    claims=(),
                )
                for q in range(questions)
            ]
    write_models(folder, "scenes", made)
    write_models(folder, "contexts", contexts)
    write_models(folder, "turns", turns)


class Forms:
    """The same branches as batches of each form."""

    def __init__(self, forest: Forest, processor: Processor) -> None:
        self.forest, self.processor = forest, processor
        self.assemble, self.collate = Assembler(forest, processor), Collator(processor, length=None)
        turn_ends = processor.tokenizer("\n", add_special_tokens=False)["input_ids"]
        user = processor.tokenizer("user\n", add_special_tokens=False)["input_ids"]
        self.next_turn = [*turn_ends, processor.id_of("<|im_start|>"), *user]

    def padded(self, branches: list[int], size: int) -> Iterator[Batch]:
        """A sequence per question."""
        yield from self._plain([[branch] for branch in branches], size)

    def multi_turn(self, branches: list[int], size: int) -> Iterator[Batch]:
        """A sequence per text set."""
        sets = self.forest.text_set_of
        yield from self._plain(
            [list(rows) for _, rows in groupby(branches, key=lambda b: int(sets[b]))], size
        )

    def packed(self, branches: list[int], budget: int) -> Iterator[Batch]:
        """Samples side by side, nothing shared."""
        sequence: list[Tree] = []
        used = 0
        for branch in branches:
            length = len(self._ids([branch])[0])
            if used + length > budget and sequence:
                yield self._trees(tuple(sequence))
                sequence, used = [], 0
            sequence.append(Tree(self._trunk(branch), (branch,)))
            used += length
        yield self._trees(tuple(sequence))

    def tree(self, branches: list[int], budget: int) -> Iterator[Batch]:
        """As in training; `branches` are all of the forest."""
        assert len(branches) == len(self.forest)
        for sequence in plan_epoch(self.forest, budget=budget, seed=1, epoch=0):
            yield self._trees(sequence)

    def _trees(self, sequence: Sequence) -> Batch:
        batch = self.collate([self.assemble(sequence)])
        return {name: batch[name] for name in batch if name not in MEASURED}

    def _trunk(self, branch: int) -> int:
        return int(self.forest.trunk_of[self.forest.text_set_of[branch]])

    def _ids(self, branches: list[int]) -> tuple[list[int], list[int]]:
        """Ids and labels of a chat with these questions, of one text set."""
        forest, text_set = self.forest, int(self.forest.text_set_of[branches[0]])
        ids = forest.ids(forest.trunks, self._trunk(branches[0])).tolist()
        ids += forest.ids(forest.text_sets, text_set).tolist()
        labels = [IGNORED] * len(ids)
        for turn, branch in enumerate(branches):
            own = (self.next_turn if turn else []) + forest.ids(forest.branches, branch).tolist()
            asked = len(own) - int(forest.answer_tokens[branch])
            ids += own
            labels += [IGNORED] * asked + own[asked:]
        return ids, labels

    def _plain(self, groups: list[list[int]], size: int) -> Iterator[Batch]:
        pad = self.processor.tokenizer.pad_token_id
        for start in range(0, len(groups), size):
            rows = [self._ids(group) for group in groups[start : start + size]]
            images = [
                self.processor.pixels(self.forest.image(self._trunk(group[0])))
                for group in groups[start : start + size]
            ]
            longest = max(len(ids) for ids, _ in rows)
            ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in rows])
            labels = [own + [IGNORED] * (longest - len(own)) for _, own in rows]
            yield {
                "input_ids": ids,
                "labels": torch.tensor(labels),
                "attention_mask": torch.tensor([[1] * len(i) + [0] * (longest - len(i)) for i, _ in rows]),
                "mm_token_type_ids": (ids == self.processor.image_pad).int(),
                "pixel_values": torch.cat([image.values for image in images]),
                "image_grid_thw": torch.stack([image.grid for image in images]),
            }


def loss_sum(rcvit: Rcvit, batch: Batch) -> torch.Tensor:
    """The sum over the labels of a batch, by the form that the batch has."""
    if "branch_ends" in batch:
        count = (batch["labels"] != IGNORED).sum()
        loss: torch.Tensor = rcvit(**batch)["loss"] * count
        return loss
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    kept = batch["labels"][:, 1:] != IGNORED
    logits = rcvit.qwen(**inputs, logits_to_keep=torch.nn.functional.pad(kept, (0, 1))).logits
    return cross_entropy(logits.float(), batch["labels"][:, 1:][kept], reduction="sum")


def seconds(rcvit: Rcvit, batches: list[Batch]) -> float:
    """Forward and backward of all batches."""
    rcvit.zero_grad(set_to_none=True)
    start = time.perf_counter()
    for batch in batches:
        torch.autograd.backward(loss_sum(rcvit, batch))
    return time.perf_counter() - start


def columns(forms: Forms) -> dict[str, list[Column]]:
    """Every setting of every form over all questions of the forest, images decoded beforehand."""
    branches = sorted(range(len(forms.forest)), key=lambda b: int(forms.forest.text_set_of[b]))
    made: dict[str, list[Column]] = {}
    for name, form, tried in (
        ("padded", forms.padded, BATCHES),
        ("multi-turn", forms.multi_turn, BATCHES),
        ("packed", forms.packed, BUDGETS),
        ("tree", forms.tree, BUDGETS),
    ):
        made[name] = [Column(name, setting, list(form(branches, setting))) for setting in tried]
    return made


def measure(folder: Path, text_sets: int, questions: int) -> dict[str, float]:
    """Print and return the questions per second of the four columns."""
    scenes = max(1, round(QUESTIONS / (text_sets * questions)))
    write_data(folder, scenes=scenes, text_sets=text_sets, questions=questions)
    rcvit, forms = _build(folder)
    count = len(forms.forest)
    best: dict[str, float] = {}
    made = columns(forms)
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS):  # in turn, so that what else the machine does falls on all
        for name, settings in made.items():
            for column in settings:
                times.setdefault((name, column.setting), []).append(seconds(rcvit, column.batches))
    for (name, setting), found in times.items():
        rate = count / statistics.median(found)
        if rate > best.get(name, 0):
            best[name] = rate
            best[f"{name} setting"] = setting
    row = "  ".join(f"{name} {best[name]:7.1f} ({best[f'{name} setting']:.0f})" for name in made)
    others = max(best[name] for name in made if name != "tree")
    print(
        f"{text_sets:2} text sets x {questions:2} questions: {row}   "
        f"tree / padded {best['tree'] / best['padded']:.1f}, tree / best other {best['tree'] / others:.1f}",
        flush=True,
    )
    return best


def _build(folder: Path) -> tuple[Rcvit, Forms]:
    params = load_params(REPO / "params.yaml").model.model_copy(update={"max_pixels": SIDE * SIDE})
    processor = make_processor(params, lambda: tokenizer_texts(folder, folder))
    forest = plant(folder, folder, processor, folder / "forest", limit=min(BUDGETS))
    if len(forest.report()["dropped_too_long"]):
        sys.exit("a question is longer than the smallest budget")
    return Rcvit(build_from_scratch(params.scratch, processor, seed=7)), Forms(forest, processor)


def curves(folder: Path) -> None:
    """Train on the same questions step by step, padded and as trees, and draw both losses."""
    import matplotlib.pyplot as plt

    write_data(folder, scenes=1, text_sets=3, questions=7)
    figure, (by_step, by_time) = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True)
    for name, setting in (("padded", 4), ("tree", 2048)):
        rcvit, forms = _build(folder)
        branches = list(range(len(forms.forest)))
        batches = list(getattr(forms, name)(branches, setting))
        labels = int(forms.forest.answer_tokens.sum())
        optimizer = torch.optim.AdamW(rcvit.parameters(), lr=1e-3)
        losses, times = [], []
        start = time.perf_counter()
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            total = 0.0
            for batch in batches:
                loss = loss_sum(rcvit, batch) / labels
                torch.autograd.backward(loss)
                total += loss.item()
            optimizer.step()
            losses.append(total)
            times.append(time.perf_counter() - start)
        by_step.plot(range(1, STEPS + 1), losses, label=name, linestyle="-" if name == "padded" else "--")
        by_time.plot(times, losses, label=name)
        print(f"loss after {STEPS} steps, {name}: {losses[-1]:.6f}, {times[-1]:.1f} s", flush=True)
    by_step.set(xlabel="step", ylabel="loss per answer token", title="the same questions")
    by_time.set(xlabel="seconds", title="the same loss, sooner")
    by_step.legend()
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=120)
    print(f"curves: {PLOT}")


def exactness(folder: Path) -> None:
    """What the multi-turn form costs: its loss is another one, later questions see the earlier ones."""
    write_data(folder, scenes=1, text_sets=2, questions=7)
    rcvit, forms = _build(folder)
    branches = list(range(len(forms.forest)))
    labels = int(forms.forest.answer_tokens.sum())
    with torch.inference_mode():
        found = {
            name: sum(float(loss_sum(rcvit, b)) for b in getattr(forms, name)(branches, setting)) / labels
            for name, setting in (("padded", 1), ("multi_turn", 1), ("packed", 2048), ("tree", 2048))
        }
    for name, loss in found.items():
        print(f"loss of the untrained model, {name:10}: {loss:.7f}  ({loss - found['padded']:+.1e})")


def main() -> None:
    """The table, the price in exactness, and the curves."""
    torch.set_num_threads(1)  # as a rank of the launcher
    print(f"questions per second, median of {ROUNDS} rounds (best batch size or token budget in brackets)")
    with tempfile.TemporaryDirectory() as scratch:
        for text_sets, questions in SHAPES:
            folder = Path(scratch) / f"{text_sets}-{questions}"
            folder.mkdir()
            measure(folder, text_sets, questions)
        for name, part in (("exactness", exactness), ("curves", curves)):
            (Path(scratch) / name).mkdir()
            part(Path(scratch) / name)


if __name__ == "__main__":
    main()
