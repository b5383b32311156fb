"""`make base`: the tiny base from scratch, stage by stage, and its folder in the package.

Killed and started again, it goes on from the last whole corpus, checkpoint or stage; a lesson, of minutes,
begins anew.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from components.params import SCRATCH, EvaluationParams, ModelParams
from components.pretraining.corpus import write_corpus
from components.pretraining.lessons import Report
from components.pretraining.lines import teach_lines
from components.pretraining.recipe import RECIPE, Recipe, Stage, load_recipe
from components.pretraining.sight import teach_sight
from components.pretraining.skills import measure_skills
from components.process import die_with_owner
from components.rcmu import Split
from components.stages import whole_folder
from components.training import train_model
from components.training.forest import tokenizer_texts
from components.training.model import TINY_BASE_FOLDER, build_from_scratch, load_base, make_processor

CARD, DIGESTS, SKILLS, RECIPE_COPY = "README.md", "digests.json", "skills.json", "recipe.json"
_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_DECODING = EvaluationParams(
    batch_size=64, max_new_tokens=128, bootstrap_resamples=1000, confidence=0.95, report_scenes=1
)


def make_base(recipe: Recipe, *, work: Path, folder: Path) -> None:
    """Train every stage of the recipe under `work`, measure what all have taught, and fill `folder`.

    What is written by hand in `folder`, its card, stays.
    """
    folders = [work / f"{number}-{stage.name}" for number, stage in enumerate(recipe.stages, start=1)]
    for number, (stage, own) in enumerate(zip(recipe.stages, folders, strict=True), start=1):
        _write(recipe, number, stage, own / "corpus")
    sight, model = work / "0-sight", work / "0-lines"
    if not sight.exists():
        with whole_folder(sight) as building:
            _teach_sight(recipe, [own / "corpus" for own in folders], building)
    if not model.exists():
        with whole_folder(model) as building:
            _teach_lines(recipe, sight, building)
    for number, (stage, own) in enumerate(zip(recipe.stages, folders, strict=True), start=1):
        print(f"stage {number} of {len(recipe.stages)}: {stage.name}", file=sys.stderr, flush=True)
        model = _train(recipe, number, stage, base=model, work=own)
    held_out = work / "held-out"
    last = recipe.stages[-1]
    source = last.source.model_copy(update={"scenes": recipe.held_out_scenes})
    with whole_folder(held_out) as building:
        taught = {subject for stage in recipe.stages for subject in stage.about}
        write_corpus(
            source, last.generation, taught, seed=recipe.seed, split=Split.BENCHMARK, folder=building
        )
    skills = measure_skills(model, held_out, _DECODING)
    for skill, measured in skills.items():
        print(f"| {skill} | {measured.exact} of {measured.n} | {measured.exact / measured.n:.1%} |")
    folder.mkdir(parents=True, exist_ok=True)
    for path in model.iterdir():
        if path.name != "training.json":  # counts of the last stage's samples
            shutil.copyfile(path, folder / path.name)
    (folder / RECIPE_COPY).write_text(recipe.model_dump_json(indent=1) + "\n", encoding="utf-8")
    measured_as_json = {skill: measured.model_dump() for skill, measured in skills.items()}
    (folder / SKILLS).write_text(json.dumps(measured_as_json, indent=1) + "\n", encoding="utf-8")
    (folder / DIGESTS).write_text(json.dumps(digests(folder), indent=1) + "\n", encoding="utf-8")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that makes the base, by name."""
    names = sorted(path.name for path in folder.iterdir() if path.name not in (CARD, DIGESTS))
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _write(recipe: Recipe, number: int, stage: Stage, corpus: Path) -> None:
    if not corpus.exists():
        with whole_folder(corpus) as building:
            write_corpus(
                stage.source,
                stage.generation,
                stage.about,
                seed=recipe.seed + number,
                split=Split.TRAIN,
                folder=building,
            )


def _teach_sight(recipe: Recipe, corpora: Sequence[Path], folder: Path) -> None:
    """A model folder: random weights and the first lesson; the tokenizer knows the words of all stages."""
    import torch

    torch.set_num_threads(1)  # as everywhere on a CPU: the order of sums must not depend on the machine
    texts = (text for corpus in corpora for text in tokenizer_texts(corpus, corpus))
    processor = make_processor(_model_params(recipe, SCRATCH), lambda: texts)
    model = build_from_scratch(recipe.model, processor, seed=recipe.seed)
    sight = recipe.sight
    right = teach_sight(
        model,
        processor,
        sight.source,
        steps=sight.steps,
        images=sight.images,
        learning_rate=sight.learning_rate,
        seed=recipe.seed,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    _say_what_is_right("visual tokens", right)


def _teach_lines(recipe: Recipe, sight: Path, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    params = _model_params(recipe, str(sight))
    model, processor = load_base(params), make_processor(params, tuple)
    lines = recipe.lines
    right = teach_lines(
        model,
        processor,
        lines.source,
        lines.generation,
        layers=lines.layers,
        steps=lines.steps,
        images=lines.images,
        copies=lines.copies,
        learning_rate=lines.learning_rate,
        seed=recipe.seed,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    _say_what_is_right("lines", right)


def _say_what_is_right(about: str, right: Report) -> None:
    shares = ", ".join(f"{name} {share:.1%}" for name, share in right.items())
    print(f"right about {about}: {shares}", file=sys.stderr, flush=True)


def _model_params(recipe: Recipe, base: str) -> ModelParams:
    smallest, largest = recipe.pixels
    return ModelParams(
        base=base, revision=None, min_pixels=smallest, max_pixels=largest, scratch=recipe.model
    )


def _train(recipe: Recipe, number: int, stage: Stage, *, base: Path, work: Path) -> Path:
    corpus, model = work / "corpus", work / "model"
    if not model.exists():
        with whole_folder(model) as building:
            train_model(
                scenes=corpus,
                turns=corpus,
                model=_model_params(recipe, str(base)),
                training=stage.training,
                seed=recipe.seed + number,
                deepspeed_configs=_CHECKOUT / "infra" / "deepspeed",
                checkpoints=work / "checkpoints",
                curves=work / "curves",
                folder=building,
            )
    return model


def main() -> None:
    """Make the base with the package's recipe, or the one that is named."""
    die_with_owner({})
    recipe = Path(sys.argv[1]) if len(sys.argv) > 1 else RECIPE
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else TINY_BASE_FOLDER
    work = _CHECKOUT / ".rcvit" / "base" / hashlib.sha256(recipe.read_bytes()).hexdigest()[:12]
    make_base(load_recipe(recipe), work=work, folder=folder)


if __name__ == "__main__":
    main()
