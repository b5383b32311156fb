"""A gate means something: the thresholds that pass a trained model refuse the untrained one."""

from collections.abc import Callable
from pathlib import Path

import yaml

from tests.e2e.conftest import Checkout, small_params


def test_trained_passes_and_untrained_is_refused_with_the_same_thresholds(
    repo: Path, make_checkout: Callable[..., Checkout]
) -> None:
    thresholds = yaml.safe_load((repo / "params.yaml").read_text())["gate"]["staging"]
    assert all(threshold > 0 for threshold in thresholds.values())
    params = small_params(
        repo,
        source={"scenes": 60},
        generation={"context_sets": 3},
        training={"micro_batch_size": 8, "steps": 250, "learning_rate": 0.004, "checkpoint_every": 250},
        evaluation={"max_new_tokens": 40},
    )
    checkout = make_checkout("gate", params)
    trained = checkout.run("run")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "staging gate: passed" in trained.stdout
    params["training"].update(steps=0, warmup_steps=0)
    (checkout.root.parent / "untrained.yaml").write_text(yaml.safe_dump(params))
    untrained = checkout.run("run", "--profile", "../untrained.yaml")
    assert untrained.returncode == 0, untrained.stdout + untrained.stderr
    assert "staging gate: refused" in untrained.stdout
    assert "is short of" in untrained.stdout
    aliases = {str(version.version): sorted(version.aliases) for version in checkout.versions()}
    assert aliases == {"1": ["staging"], "2": ["candidate"]}
