"""The private names of other libraries that vtg overrides or calls: all of them, why, and what breaks without.

No release note says when such a name changes, and an override of a method that is gone is never called, without an
error. So trainers compare this table with what is installed before they train, and tests hold that each override is
called in a training. What can be done in public does not belong here.
"""

import importlib
import importlib.metadata
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vtg.errors import RunError


@dataclass(frozen=True)
class PrivateName:
    """A private name.

    Attributes:
        owner: `module` or `module:Class` that has it.
        parameters: their names, but `self`.
        why: it is used.
        breaks: what goes wrong where it changes.
        overrides: whether vtg puts its own in its place.
    """

    library: str
    owner: str
    name: str
    parameters: tuple[str, ...]
    why: str
    breaks: str
    overrides: bool = False

    def __str__(self) -> str:
        return f"{self.owner.replace(':', '.')}.{self.name}"

    def found(self) -> Any:
        """The object of that name. Raises ImportError or AttributeError where there is none."""
        module, _, cls = self.owner.partition(":")
        holder = importlib.import_module(module)
        return getattr(getattr(holder, cls) if cls else holder, self.name)

    def difference(self) -> str | None:
        """What is not as this says; None if nothing is."""
        try:
            private = self.found()
        except (ImportError, AttributeError):
            return "is gone"
        # Names and order: what is passed by position must not silently become another argument.
        names = tuple(name for name in inspect.signature(private).parameters if name != "self")
        if names == self.parameters:
            return None
        return f"takes ({', '.join(names)}), not ({', '.join(self.parameters)})"


TRAINER = "transformers.trainer:Trainer"
GRPO = "trl.trainer.grpo_trainer:GRPOTrainer"
ROLLED = "the clip is not in the prompt: TRL samples and trains without the video"

# All of them. A name that a library documents is not private, whatever its module is called.
PRIVATE_NAMES = (
    # The guard against losses that are not finite, and checkpoints that are whole or not there.
    PrivateName(
        *("transformers", TRAINER, "_get_grad_norm", ("model", "grad_norm")),
        why="the one place between the gradient norm and the update",
        breaks="a loss that is no number trains on (the guard then ends the run at its first step)",
        overrides=True,
    ),
    PrivateName(
        *("transformers", TRAINER, "_save_checkpoint", ("model", "trial")),
        why="a checkpoint is written beside and takes its name when it is whole",
        breaks="a kill leaves half a checkpoint, and what vtg keeps in one is missing",
        overrides=True,
    ),
    PrivateName(
        *("transformers", TRAINER, "_get_output_dir", ("trial",)),
        why="where _save_checkpoint writes; args.output_dir would be saved with the checkpoint",
        breaks="checkpoints are not written beside",
        overrides=True,
    ),
    PrivateName(
        *("transformers", TRAINER, "_save", ("output_dir", "state_dict")),
        why="DeepSpeed's copy of the weights no longer shows which of them are tied",
        breaks="tied weights are saved twice under ZeRO-1 and ZeRO-2",
        overrides=True,
    ),
    PrivateName(
        *("transformers", TRAINER, "_load_from_checkpoint", ("resume_from_checkpoint", "model")),
        why="loads the weights of a checkpoint, adapters too, into the model that is there; a damaged file is named",
        breaks="the best checkpoint cannot be loaded, and a damaged one ends in a traceback",
        overrides=True,
    ),
    PrivateName(
        *(
            "transformers",
            TRAINER,
            "_prepare_for_training",
            ("max_steps", "train_dataloader", "resume_from_checkpoint"),
        ),
        why="where DeepSpeed's engine is made and its optimizer state loaded",
        breaks="a run under DeepSpeed does not resume on another number of GPUs",
        overrides=True,
    ),
    PrivateName(
        *("transformers", TRAINER, "_init_training_state"),
        ("max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint", "trial"),
        why="says in which epoch and batch a run resumes; with other ranks than before both are counted anew",
        breaks="a run on another number of GPUs resumes at the wrong sample",
        overrides=True,
    ),
    # Names of weights in checkpoints, and a cache of keys and values that grows in place.
    PrivateName(
        *("transformers", "transformers.core_model_loading", "revert_weight_conversion", ("model", "state_dict")),
        why="saving applies the reverse of model._weight_conversions; loading under ZeRO-3 notes every renaming there, "
        "applied or not, and vtg.models.loading empties them",
        breaks="checkpoints of full training under ZeRO-3 get wrong names",
    ),
    PrivateName(
        *(
            "transformers",
            "transformers.cache_utils:DynamicLayer",
            "update",
            ("key_states", "value_states", "args", "kwargs"),
        ),
        why="a layer of the cache that holds what each row has written (vtg.decoding.key_pool.OwnKeys)",
        breaks="rollouts and answers cannot be decoded",
        overrides=True,
    ),
    PrivateName(
        *("torch", "torch._dynamo.config", "patch", ("arg1", "arg2", "kwargs")),
        why="allow_unspec_int_on_nn_module: all layers run one compiled function (vtg.decoding.compiled_step)",
        breaks="on a GPU a layer is compiled as often as there are layers, or decoding fails after a thousand steps",
    ),
    # GRPO on video: TRL's trainer knows images, not videos, so each step that touches the prompt is replaced.
    PrivateName(
        *("trl", GRPO, "_prepare_inputs", ("generation_batch",)),
        why="turns a micro-step of the stream of prompts into the tensors of its loss",
        breaks=ROLLED,
        overrides=True,
    ),
    PrivateName(
        *("trl", GRPO, "_generate_and_score_completions", ("inputs",)),
        why="samples, rewards and advantages of a rollout",
        breaks="nothing is sampled",
    ),
    PrivateName(
        *("trl", GRPO, "_tokenize_prompts", ("prompts",)),
        why="token ids of a prompt are those that its clip was spelled out in",
        breaks=ROLLED,
        overrides=True,
    ),
    PrivateName(
        *("trl", GRPO, "_generate_single_turn"),
        ("prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"),
        why="completions are sampled by vtg's engine, which sees the clip",
        breaks=ROLLED,
        overrides=True,
    ),
    PrivateName(
        *("trl", GRPO, "_calculate_rewards", ("inputs", "prompts", "completions", "completion_ids_list")),
        why="rewards and texts of every completion go into the log and on record",
        breaks="nothing is logged of completions, and no curriculum is kept",
        overrides=True,
    ),
    PrivateName(
        *("trl", GRPO, "_get_per_token_logps_and_entropies"),
        (
            *("model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy"),
            *("compute_aux_loss", "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask"),
            *(
                "spatial_shapes",
                "num_tiles",
                "image_sizes",
                "token_type_ids",
                "mm_token_type_ids",
                "image_position_ids",
            ),
        ),
        why="log-probs of completions given the clip, with each prompt run once",
        breaks="the loss is computed without the video",
        overrides=True,
    ),
    # Generation under ZeRO-3, whose hooks gather parameters layer by layer and so bind ranks to equal steps.
    PrivateName(
        *("trl", "trl.models.utils", "add_hooks", ("model",)),
        why="puts ZeRO-3's hooks back after the gathered model has answered",
        breaks="evaluation under ZeRO-3 fails",
    ),
    PrivateName(
        *("trl", "trl.models.utils", "remove_hooks", ("model",)),
        why="takes ZeRO-3's hooks off, for ranks answer for different numbers of tokens",
        breaks="evaluation under ZeRO-3 waits for ever",
    ),
    PrivateName(
        *("peft", "peft.tuners.tuners_utils:BaseTunerLayer", "get_base_layer", ()),
        why="tells adapted layers apart to merge them one at a time (vtg.decoding.adapter_merging)",
        breaks="vLLM samples without the adapter",
    ),
    # Resuming with another world size: DeepSpeed's optimizer state is saved by rank.
    PrivateName(
        *("deepspeed", "deepspeed.checkpoint.ds_to_universal", "main", ("args",)),
        why="writes the optimizer's state by parameter instead of by rank",
        breaks="a run under DeepSpeed does not resume on another number of GPUs",
    ),
    PrivateName(
        *("deepspeed", "deepspeed.runtime.engine:DeepSpeedEngine", "load_universal_checkpoint", ()),
        why="says what engine._config.load_universal_checkpoint is, which is taken back once the state is loaded",
        breaks="later checkpoints of a run that changed its number of GPUs cannot be resumed from",
    ),
)


def check_private_names(libraries: Iterable[str]) -> None:
    """Compares the table with what is installed of these libraries.

    Raises:
        RunError: a name is gone or takes other arguments: says which, what it would break and what to install.
    """
    wanted = set(libraries)
    # Of these libraries alone: importing TRL for supervised fine-tuning would take seconds.
    compared = [(name, name.difference()) for name in PRIVATE_NAMES if name.library in wanted]
    lines = [f"  {name} {difference}: {name.breaks}" for name, difference in compared if difference]
    if lines:
        versions = " and ".join(f"{lib} {importlib.metadata.version(lib)}" for lib in sorted(wanted))
        raise RunError(
            f"{versions}: vtg stands on private names that are not as they were:\n" + "\n".join(lines) + "\n"
            "install versions that were tried: pip install -e . -c env/constraints.txt"
        )
