"""Options one by one give what a padded batch gives; the whole ablation, cut down, to MLflow."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from components.ablation.choice import choose, options_of
from components.ablation.report import Ablation
from components.ablation.variants import VARIANTS, Data
from components.params import ModelParams, load_params
from components.rcmu import Task, prompt_of, render_prompt
from components.training.model import build_from_scratch, load_for_inference, make_processor

SHAPE = {
    "vocab_size": 400, "hidden_size": 32, "intermediate_size": 32, "layers": 2, "heads": 2, "kv_heads": 1,
    "vision_depth": 1, "vision_width": 32, "vision_heads": 2, "text_init": 0.3, "mrope_section": [2, 3, 3],
}  # fmt: skip


@pytest.fixture(scope="module")
def model_folder(repo: Path, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, large enough that options are told apart."""
    content = load_params(repo / "params.yaml").model.model_dump()
    content["scratch"].update(SHAPE)
    params = ModelParams.model_validate(content)
    pairs = zip(data.scenes, data.contexts, strict=True)
    processor = make_processor(params, lambda: [render_prompt(prompt_of(s, c, "?")) for s, c in pairs])
    folder = tmp_path_factory.mktemp("model")
    build_from_scratch(params.scratch, processor, seed=2).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_the_choice_is_the_option_that_is_likeliest_alone(model_folder: Path, data: Data) -> None:
    scenes = {scene.scene_id: scene for scene in data.scenes}
    contexts = {context.context_id: context for context in data.contexts}
    turns = [turn for turn in data.turns if turn.task in (Task.V2C, Task.C2V)][:24]
    chosen = choose(model_folder, scenes, contexts, turns)
    model, processor = load_for_inference(model_folder)
    expected = {}
    for turn in turns:
        image = Image.open(io.BytesIO(scenes[turn.scene_id].image)).convert("RGB")
        prompt = prompt_of(scenes[turn.scene_id], contexts[turn.context_id], turn.question)
        likelihoods = []
        for option in options_of(turn):
            batch = processor.batch_for_generation([(prompt, image)])
            answer = torch.tensor([processor.answer_ids(option)[:-1]])
            before = batch["input_ids"].shape[1]
            ids = torch.cat([batch["input_ids"], answer], 1)
            kind = torch.cat([batch["mm_token_type_ids"], torch.zeros_like(answer)], 1).int()
            with torch.inference_mode():
                logits = model(
                    input_ids=ids,
                    mm_token_type_ids=kind,
                    pixel_values=batch["pixel_values"],
                    image_grid_thw=batch["image_grid_thw"],
                ).logits[0]
            losses = torch.nn.functional.cross_entropy(logits[before - 1 : -1], answer[0], reduction="sum")
            likelihoods.append(-float(losses))
        if len(likelihoods) > 1:
            expected[turn.turn_id] = (likelihoods[0] > max(likelihoods[1:]), len(likelihoods))
    assert {turn_id: (choice.right, choice.options) for turn_id, choice in chosen.items()} == expected
    assert 0 < sum(right for right, _ in expected.values()) < len(expected)


@pytest.mark.long
def test_the_whole_ablation_of_a_finished_run(repo: Path, tmp_path: Path) -> None:
    """Cut down: two steps a training. The second call trains nothing."""
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", str(repo), str(checkout)], check=True)
    params = yaml.safe_load((checkout / "params.yaml").read_text())
    params["source"].update(scenes=12, benchmark_share=0.3)
    params["model"]["base"] = "scratch"
    params["model"]["scratch"].update(SHAPE, vocab_size=600)
    params["training"].update(steps=2, warmup_steps=1, checkpoint_every=2)
    params["evaluation"].update(max_new_tokens=8, bootstrap_resamples=100)
    (checkout / "params.yaml").write_text(yaml.safe_dump(params))
    environment = {**os.environ, "PYTHONPATH": str(checkout), "HOME": str(tmp_path)}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    early = call("flows.cli", "ablate")
    assert early.returncode != 0
    assert "`rcvit run` first" in early.stderr
    for stage in ("source", "generate"):
        assert call("components.stages", stage).returncode == 0
    first = call("flows.cli", "ablate", "--jobs", "2")
    assert first.returncode == 0, first.stderr
    (folder,) = checkout.glob(".rcvit/ablation/*/results")
    ablation = Ablation.model_validate_json((folder / "ablation.json").read_text())
    assert [row.variant for row in ablation.rows] == [variant.name for variant in VARIANTS]
    assert {row.variant: row.seeds for row in ablation.rows}["rcvit"] == 3
    assert Image.open(folder / "ablation.png").size[0] > 600
    assert all(row.title in (folder / "ablation.md").read_text() for row in ablation.rows)
    again = call("flows.cli", "ablate")
    assert again.returncode == 0, again.stderr
    assert "training samples" not in again.stderr
    assert json.loads((folder / "ablation.json").read_text()) == json.loads(ablation.model_dump_json())
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{checkout}/.rcvit/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'rc-qwen2-vl-ablation'")
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == len(VARIANTS)  # the second call had nothing new
