"""`make base`: the tiny base from scratch, lesson by lesson, and its folder in the package.

Killed and started again, it goes on from the last whole lesson.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from components.params import SCRATCH, EvaluationParams, ModelParams, SourceParams
from components.pretraining.answers import teach_answers
from components.pretraining.corpus import write_corpus
from components.pretraining.lessons import Report
from components.pretraining.lines import teach_lines
from components.pretraining.recipe import RECIPE, Lines, Recipe, load_recipe
from components.pretraining.sight import teach_sight
from components.pretraining.skills import measure_skills
from components.process import die_with_owner
from components.rcmu import Split
from components.stages import whole_folder
from components.training.forest import tokenizer_texts
from components.training.model import TINY_BASE_FOLDER, build_from_scratch, load_base, make_processor
from components.training.processor import Processor

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

CARD, DIGESTS, SKILLS, RECIPE_COPY = "README.md", "digests.json", "skills.json", "recipe.json"
_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_DECODING = EvaluationParams(
    batch_size=64, max_new_tokens=128, bootstrap_resamples=1000, confidence=0.95, report_scenes=1
)


def make_base(recipe: Recipe, *, work: Path, folder: Path) -> None:
    """Give all lessons of the recipe under `work`, measure what they have taught, and fill `folder`.

    What is written by hand in `folder`, its card, stays.
    """
    corpus, held_out = work / "corpus", work / "held-out"
    answers = recipe.answers
    _write(recipe, corpus, answers.source, Split.TRAIN)
    source = answers.source.model_copy(update={"scenes": recipe.held_out_scenes})
    _write(recipe, held_out, source, Split.BENCHMARK)
    sight, model = work / "1-sight", work / "3-answers"
    if not sight.exists():
        with whole_folder(sight) as building:
            _teach_sight(recipe, corpus, building)
    taught = sight
    for number, lesson in enumerate(recipe.lines, start=1):
        before, taught = taught, work / f"2-lines-{number}"
        if not taught.exists():
            with whole_folder(taught) as building:
                # Each with a seed of its own: it draws new scenes.
                _teach_lines(recipe, lesson, before, building, seed=recipe.seed + number - 1)
    if not model.exists():
        with whole_folder(model) as building:
            _teach_answers(recipe, taught, corpus, building)
    skills = measure_skills(model, held_out, _DECODING)
    for skill, measured in skills.items():
        print(f"| {skill} | {measured.exact} of {measured.n} | {measured.exact / measured.n:.1%} |")
    folder.mkdir(parents=True, exist_ok=True)
    for path in model.iterdir():
        shutil.copyfile(path, folder / path.name)
    (folder / RECIPE_COPY).write_text(recipe.model_dump_json(indent=1) + "\n", encoding="utf-8")
    measured_as_json = {skill: measured.model_dump() for skill, measured in skills.items()}
    (folder / SKILLS).write_text(json.dumps(measured_as_json, indent=1) + "\n", encoding="utf-8")
    (folder / DIGESTS).write_text(json.dumps(digests(folder), indent=1) + "\n", encoding="utf-8")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that makes the base, by name."""
    names = sorted(path.name for path in folder.iterdir() if path.name not in (CARD, DIGESTS))
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _write(recipe: Recipe, corpus: Path, source: SourceParams, split: Split) -> None:
    if not corpus.exists():
        with whole_folder(corpus) as building:
            write_corpus(
                source,
                recipe.answers.generation,
                recipe.answers.about,
                seed=recipe.seed,
                split=split,
                folder=building,
            )


def _teach_sight(recipe: Recipe, corpus: Path, folder: Path) -> None:
    """From random weights; the tokenizer knows the words of the corpus."""
    processor = make_processor(_model_params(recipe, SCRATCH), lambda: tokenizer_texts(corpus, corpus))
    model = build_from_scratch(recipe.model, processor, seed=recipe.seed)
    _save(model, processor, folder, teach_sight(model, processor, recipe.sight, seed=recipe.seed))


def _teach_lines(recipe: Recipe, lesson: Lines, before: Path, folder: Path, *, seed: int) -> None:
    params = _model_params(recipe, str(before))
    model, processor = load_base(params), make_processor(params, tuple)
    _save(model, processor, folder, teach_lines(model, processor, lesson, seed=seed))


def _teach_answers(recipe: Recipe, lines: Path, corpus: Path, folder: Path) -> None:
    params = _model_params(recipe, str(lines))
    model, processor = load_base(params), make_processor(params, tuple)
    right = teach_answers(model, processor, corpus, recipe.answers, seed=recipe.seed, work=folder.parent)
    _save(model, processor, folder, right)


def _save(
    model: "Qwen2VLForConditionalGeneration", processor: Processor, folder: Path, right: Report
) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    shares = ", ".join(f"{name} {share:.1%}" for name, share in right.items())
    print(f"right in the last steps: {shares}", file=sys.stderr, flush=True)


def _model_params(recipe: Recipe, base: str) -> ModelParams:
    smallest, largest = recipe.pixels
    return ModelParams(
        base=base, revision=None, min_pixels=smallest, max_pixels=largest, scratch=recipe.model
    )


def main() -> None:
    """Make the base with the package's recipe, or the one that is named."""
    import torch

    die_with_owner({})
    torch.set_num_threads(1)  # as everywhere on a CPU: the order of sums must not depend on the machine
    recipe = Path(sys.argv[1]) if len(sys.argv) > 1 else RECIPE
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else TINY_BASE_FOLDER
    work = _CHECKOUT / ".rcvit" / "base" / hashlib.sha256(recipe.read_bytes()).hexdigest()[:12]
    make_base(load_recipe(recipe), work=work, folder=folder)


if __name__ == "__main__":
    main()
