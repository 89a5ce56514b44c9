"""The training step, once: loss = mean NLL + beta * KL / N.

N is the number of terms of that mean over the training set, KL the sum over layers in nats, so the
loss is the negative ELBO per term at beta = 1, the same under gradient accumulation and on several
devices.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.kinds.base import Batch, Objective, Validation
from lightning_modules.network.network import TextNetwork
from lightning_modules.reparameterizations import is_noise, kl, mix, redraw, set_mode
from lightning_modules.reparameterizations.course import Course
from lightning_modules.reparameterizations.seeds import seed_generators


class TextModule(pl.LightningModule):
    """Trains a reparameterized TextNetwork on what its objective asks for.

    Args:
        course: of its method, over the optimizer steps of the whole training; the schedules of
            learning rate and beta are shares of these.
        terms: N of KL / N.
        fused: one kernel for the whole optimizer step. It would undo the loss scale of float16 by
            itself, after the clipping and not before it.
    """

    def __init__(
        self,
        network: TextNetwork,
        objective: Objective,
        training: TrainingConfig,
        course: Course,
        *,
        terms: int,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.network, self.objective, self.config = network, objective, training
        self.course = course
        self.terms, self.fused = terms, fused
        self.gradient_norm = torch.zeros(())  # of the last step, before clipping
        self.learning_rate = 0.0  # of the last step
        self.validation: dict[str, float] = {}
        self._gathered: Validation | None = None
        self._drawn_for: int | None = None

    @property
    def beta(self) -> float:
        """Weight of KL / N at this step. From global_step, which resumes."""
        return self.course.beta(self.network, self.global_step)

    @property
    def settled(self) -> bool:
        """Whether the network has its final size."""
        return self.course.settled(self.network, self.global_step)

    def on_train_start(self) -> None:
        set_mode(self.network, "sample")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Randomness is a function of (seed, step, rank): a resumed training needs no generator
        state to go on exactly.

        The noise belongs to the optimizer step, so micro-batches of one step share it; dropout is
        drawn per batch.
        """
        seed_generators(mix(self.config.seed, self.global_step, batch_idx, self.global_rank))
        if self._drawn_for != self.global_step:
            self._drawn_for = self.global_step
            redraw(self.network, mix(self.config.seed, self.global_step, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        nll, own = self._losses(batch)
        if self.course.noise is None:
            return {"loss": own, "nll": nll.detach()}
        divergence, beta = kl(self.network), self.beta
        loss = own + (beta / self.terms) * divergence
        return {"loss": loss, "nll": nll.detach(), "kl": divergence.detach(), "beta": beta}

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """NLL of the model, and what is minimized, as means over the batch's terms."""
        loss = self.objective.loss(self.network, batch)
        own = loss.nats / loss.terms
        return own if loss.nll is None else loss.nll / loss.terms, own

    def on_validation_start(self) -> None:
        set_mode(self.network, "mean")
        self._gathered = self.objective.validation(cast(Any, self.trainer.val_dataloaders).table)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert self._gathered is not None
        self._gathered.add(self.network, batch)

    def on_validation_epoch_end(self) -> None:
        """`val/<metric>` count documents, as the evaluation of the test split does, so that the
        epoch is kept which serves best; `val/loss` is the objective, a mean over its terms plus its
        KL term."""
        assert self._gathered is not None
        metrics, self._gathered = self._gathered.metrics(), None
        if self.course.noise is not None:
            metrics["loss"] += self.beta / self.terms * float(kl(self.network))
        metrics |= self.course.figures(self.network)
        self.validation = {f"val/{name}": value for name, value in metrics.items()}

    def on_validation_end(self) -> None:
        set_mode(self.network, "sample")

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any
    ) -> None:
        # Trainer(gradient_clip_val=...) would clip as well, but throw the norm away. Called just
        # before the step, so this is also the rate that the step takes: the scheduler has moved on
        # when the batch ends.
        self.learning_rate = optimizer.param_groups[0]["lr"]
        self.course.before_step(self.network, self.global_step)
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.gradient_norm = nn.utils.clip_grad_norm_(trained, self.config.gradient_clip)

    def configure_optimizers(self) -> Any:
        """AdamW on what is not frozen; decay on weight matrices only. The noise's own parameters
        have their own group, and so has each part of the network that the recipe trains otherwise
        (training.groups).

        The rate rises over the warm-up, then falls to 0 or stays (schedule).
        """
        rate, config = self.config.learning_rate, self.config
        of_noise = self.course.noise
        factor = of_noise.noise_lr_factor if of_noise else 1.0
        noise: dict[str, Any] = {"params": [], "weight_decay": 0.0, "lr": rate * factor}
        rest = self._matrices_and_vectors({})
        of_part = {
            part: self._matrices_and_vectors({"lr": own.learning_rate or rate, "eps": own.epsilon})
            for part, own in config.groups.items()
        }
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                part = name.removeprefix("head.").partition(".")[0]
                matrices, vectors = of_part.get(part, rest)
                group = noise if is_noise(name) else matrices if parameter.ndim > 1 else vectors
                group["params"].append(parameter)
        groups = [*rest, noise, *chain.from_iterable(of_part.values())]
        used = [group for group in groups if group["params"]]
        optimizer = torch.optim.AdamW(used, lr=rate, fused=self.fused)
        rising = round(config.warmup * self.course.total)

        def share(step: int) -> float:
            if step < rising:
                return (step + 1) / (rising + 1)
            if config.schedule == "constant":
                return 1.0
            return max(0.0, (self.course.total - step) / max(1, self.course.total - rising))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _matrices_and_vectors(self, rates: dict[str, float]) -> tuple[dict[str, Any], ...]:
        """Two empty groups of AdamW's, of which the second does not decay."""
        decays = (self.config.weight_decay, 0.0)
        return tuple({"params": [], "weight_decay": decay, **rates} for decay in decays)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = trained_state(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {**frozen_state(self), **checkpoint["state_dict"]}


def frozen_state(module: nn.Module) -> dict[str, Tensor]:
    """The part of a state dict that training leaves as it was built, a backbone's weights: no
    checkpoint holds it.
    """
    named = module.named_parameters(remove_duplicate=False)
    return {name: parameter.detach() for name, parameter in named if not parameter.requires_grad}


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """The other part, buffers included."""
    frozen = frozen_state(module)
    return {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}
