"""What trains: vision tower, merger and language model, each frozen or at its own rate, whole or by LoRA."""

from typing import TYPE_CHECKING, Any, Literal

from components.params import LoraParams, TrainingParams

if TYPE_CHECKING:
    import torch

Part = Literal["vision", "merger", "language"]
_ADAPTED = r".*language_model\.layers\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def part_of(parameter: str) -> Part:
    """The part that a parameter of Qwen2-VL belongs to, by its name."""
    if "visual.merger." in parameter:
        return "merger"
    return "vision" if "visual." in parameter else "language"


def choose_trained(qwen: "torch.nn.Module", training: TrainingParams) -> None:
    """Freeze what has no rate; with LoRA, of the language model only the adapters train."""
    if training.lora:
        add_adapters(qwen, training.lora)
    for name, parameter in qwen.named_parameters():
        part = part_of(name)
        whole = part != "language" or not training.lora
        rate = getattr(training.learning_rates, part)
        parameter.requires_grad_(rate is not None and (whole or ".lora_" in name))


def add_adapters(qwen: "torch.nn.Module", lora: LoraParams) -> None:
    """Put LoRA adapters, which change nothing yet, around the language model's linear layers."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=_ADAPTED, init_lora_weights=True)
    inject_adapter_in_model(config, qwen)


def merge_adapters(qwen: "torch.nn.Module") -> None:
    """Add every adapter to the layer it stands around, and take it away."""
    from peft.tuners.lora import LoraLayer

    adapted = [(name, module) for name, module in qwen.named_modules() if isinstance(module, LoraLayer)]
    for name, layer in adapted:
        layer.merge()
        qwen.set_submodule(name, layer.get_base_layer())


def parameter_groups(model: "torch.nn.Module", training: TrainingParams) -> list[dict[str, Any]]:
    """The optimizer's groups, one per part and kind; norms and biases have no weight decay.

    `orthogonal` marks what Muon takes: matrices, but not the embedding, nor a head of its own.
    """
    groups: dict[tuple[str, bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # ds_shape: under ZeRO-3 the parameter itself is empty.
            dimensions = len(getattr(parameter, "ds_shape", parameter.shape))
            matrix = dimensions == 2 and "embed_tokens" not in name and "lm_head" not in name
            kind = (part_of(name), dimensions > 1, matrix and training.optimizer == "muon")
            groups.setdefault(kind, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": getattr(training.learning_rates, part),
            "weight_decay": training.weight_decay if decays else 0.0,
            "orthogonal": orthogonal,
        }
        for (part, decays, orthogonal), parameters in groups.items()
    ]
