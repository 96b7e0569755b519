"""The Trainer under DeepSpeed: partitioned weights are gathered to load and to generate; the world size may change."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from vtg.training.part_rates import PartRatesTrainer
from vtg.training.zero.universal_checkpoint import resharded, restore_groups, shards


class ZeroTrainer(PartRatesTrainer):
    """A Trainer that loads, saves, generates and resumes under DeepSpeed as it does without."""

    _group_settings: Sequence[dict[str, Any]] = ()

    def create_optimizer(self, model: Any = None) -> Any:
        """The optimizer; remembers the settings of its parameter groups for `restore_groups`."""
        optimizer = super().create_optimizer(model)
        self._group_settings = [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
            if group["params"]  # DeepSpeed drops empty groups, and the lists have to match
        ]
        return optimizer

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        """Also loads an optimizer state that was partitioned among another number of processes."""
        checkpoint = Path(resume_from_checkpoint or "")
        ranks = shards(checkpoint) if resume_from_checkpoint and self.is_deepspeed_enabled else 0
        if ranks in (0, self.args.world_size):
            return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        with resharded(checkpoint, self.accelerator):
            prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
            restore_groups(self.optimizer, self._group_settings)
        engine: Any = self.deepspeed
        engine._config.load_universal_checkpoint = False  # later checkpoints are of these processes
        return prepared

    def load_weights(self, folder: str) -> None:
        """Loads the weights of a checkpoint; under ZeRO-3 every rank keeps its part of them."""
        # Rank 0's copy is the one that counts, and is partitioned again at the end.
        with self._gathered(modifier_rank=0):
            self._load_from_checkpoint(folder)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self.is_deepspeed_enabled and not is_deepspeed_zero3_enabled():
            state_dict = None  # the Trainer's copy of it no longer shows which weights are tied, and are saved once
        super()._save(output_dir, state_dict)

    @contextmanager
    def whole_model(self) -> Iterator[Any]:
        """The model without its wrappers, to generate with; under ZeRO-3 with all weights on every rank inside."""
        # Partitioned weights are gathered layer by layer by all ranks at once: a rank that generates more tokens than
        # the others would wait for them for ever.
        if not is_deepspeed_zero3_enabled():
            yield self.accelerator.unwrap_model(self.model)
            return
        from trl.models.utils import add_hooks, remove_hooks

        with self._gathered():
            if self.model_wrapped is self.model:
                yield self.model
                return
            engine: Any = self.model_wrapped
            remove_hooks(engine)
            yield self.accelerator.unwrap_model(self.model)
            add_hooks(engine)

    def _gathered(self, modifier_rank: int | None = None) -> AbstractContextManager[Any]:
        """Inside, ZeRO-3's partitioned weights are whole on every rank; the changes of `modifier_rank` are kept."""
        if not is_deepspeed_zero3_enabled():
            return nullcontext()
        import deepspeed  # type: ignore[import-not-found]

        model: Any = self.model
        return deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=modifier_rank)
