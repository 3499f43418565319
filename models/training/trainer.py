"""The training loop: CTC or CTC-CRF with optional frame targets and distillation, checkpoints, exact resume."""

from __future__ import annotations

import ctypes
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.families.base import AcousticNet
from models.training.batches import Batch, BatchSource
from models.training.config import ConfigError, TrainingConfig
from models.training.crf import PhoneModel, crf_loss
from models.training.ctc import ctc_loss

CHECKPOINT = "checkpoint.pt"
"""Name of the file in a run folder that a run goes on from."""

Progress = Callable[[float, dict[str, float]], None]
"""Called after each step with epochs done and the running losses."""


@dataclass(slots=True)
class Position:
    """Where a run stands: everything random is derived from it and the seed."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


class Trainer:
    """Trains one network; `folder` holds `checkpoint.pt`, `model.pt` (averaged weights) and `log.jsonl`."""

    def __init__(
        self,
        config: TrainingConfig,
        net: AcousticNet,
        source: BatchSource,
        folder: Path,
        device: str,
        phone_model: PhoneModel | None = None,
    ) -> None:
        """`phone_model` is needed where the configuration asks for the CTC-CRF loss."""
        if config.crf is not None and phone_model is None:
            raise ConfigError("[crf] needs a phone model")
        self.config, self.source, self.folder, self.phone_model = config, source, folder, phone_model
        self.device = torch.device(device)
        self.net = net.to(self.device)
        self.optimiser = torch.optim.AdamW(
            net.parameters(), lr=config.train.learning_rate, betas=(0.9, 0.98), weight_decay=config.train.weight_decay
        )
        self.average = {name: value.detach().clone() for name, value in net.state_dict().items()}
        self.position = Position()
        keep_freed_memory()

    def run(
        self,
        *,
        progress: Progress | None = None,
        validate: Callable[[AcousticNet], dict[str, float]] | None = None,
        save_every: float = 120.0,
        stop_after: int | None = None,
    ) -> None:
        """Train to the end of the configuration, or for `stop_after` steps."""
        saved = time.monotonic()
        seed, train = self.config.drawing_seed, self.config.train
        running: dict[str, float] = {}
        while self.position.epoch < train.epochs:
            plan = self.source.plan(seed, self.position.epoch)
            batches = self.source.epoch(seed, self.position.epoch, self.position.batch, self.config.augment)
            for batch in batches:
                done = self.position.epoch + self.position.batch / len(plan)
                if done >= train.epochs:
                    break
                for name, value in self._step(batch, done).items():
                    running[name] = value if name not in running else 0.98 * running[name] + 0.02 * value
                self.position.batch += 1
                self.position.step += 1
                if progress is not None:
                    progress(done, running)
                if stop_after is not None and self.position.step >= stop_after:
                    self.save()
                    return
                if time.monotonic() - saved > save_every:
                    self.save()
                    saved = time.monotonic()
            self.position = Position(self.position.epoch + 1, 0, self.position.step)
            self.save()
            if validate is not None:
                with self.averaged() as net:
                    self._log({"epoch": self.position.epoch, **running, **validate(net)})

    def _step(self, batch: Batch, done: float) -> dict[str, float]:
        train = self.config.train
        torch.manual_seed(hash((self.config.drawing_seed, self.position.step)) % 2**31)
        share = done / train.epochs
        rate = min(1.0, share / train.warm_up) if train.warm_up else 1.0
        rate *= 0.5 * (1 + math.cos(math.pi * max(0.0, share - train.warm_up) / (1 - train.warm_up)))
        for group in self.optimiser.param_groups:
            group["lr"] = train.learning_rate * max(rate, 1e-3)
        self.net.train()
        log_probs = self.net(batch.features.to(self.device))
        loss, parts = self._loss(log_probs, batch, frames_only=done < train.frame_epochs)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), train.gradient_clip)
        if torch.isfinite(norm):
            self.optimiser.step()
        decay = min(train.average, (1 + self.position.step) / (10 + self.position.step))
        with torch.no_grad():
            for name, value in self.net.state_dict().items():
                if value.is_floating_point():  # the places and indices of compressed weights stay
                    self.average[name].lerp_(value, 1 - decay)
        return parts

    def _loss(self, log_probs: Tensor, batch: Batch, *, frames_only: bool) -> tuple[Tensor, dict[str, float]]:
        distill, weight = self.config.distill, self.config.train.frame_weight
        parts: dict[str, float] = {}
        total = log_probs.new_zeros(())
        if frames_only or weight > 0:
            frame = nn.functional.nll_loss(
                log_probs.flatten(0, 1), batch.labels.to(self.device).flatten(), ignore_index=-1
            )
            parts["frame"] = frame.item()
            total = total + frame * (1.0 if frames_only else weight)
        soft_weight = 0.0
        if distill is not None and batch.soft is not None:
            soft_weight = distill.weight
            soft = batch.soft.to(self.device)
            mask = torch.arange(soft.shape[1], device=self.device)[None] < batch.lengths.to(self.device)[:, None]
            divergence = (soft.exp() * (soft - log_probs)).sum(-1)[mask].mean()
            parts["distill"] = divergence.item()
            total = total + soft_weight * divergence
        if not frames_only and soft_weight < 1:
            share = (1 - soft_weight) * (1 - weight)
            crf_weight = 0.0 if self.config.crf is None else self.config.crf.weight
            if self.phone_model is not None and crf_weight > 0:
                crf = crf_loss(log_probs, batch, self.phone_model)
                parts["crf"] = crf.item()
                total = total + share * crf_weight * crf
            if crf_weight < 1:
                ctc = ctc_loss(log_probs, batch)
                parts["ctc"] = ctc.item()
                total = total + share * (1 - crf_weight) * ctc
        return total, parts

    @contextmanager
    def averaged(self) -> Iterator[AcousticNet]:
        """The network with the running average of its weights inside the block, with its own again after it."""
        current = {name: value.detach().clone() for name, value in self.net.state_dict().items()}
        self.net.load_state_dict(self.average)
        self.net.eval()
        try:
            yield self.net
        finally:
            self.net.load_state_dict(current)

    def save(self) -> None:
        """Write the checkpoint and the averaged model, each in one step that cannot leave half a file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "config": self.config.model_dump(mode="json"),
            "net": self.net.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "position": [self.position.epoch, self.position.batch, self.position.step],
        }
        _save(state, self.folder / CHECKPOINT)
        _save({"config": state["config"], "net": self.average}, self.folder / "model.pt")

    def resume(self) -> bool:
        """Continue from the folder's checkpoint; False when there is none.

        Raises:
            ConfigError: the checkpoint belongs to another configuration.
        """
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        if TrainingConfig.model_validate(state["config"]) != self.config:
            raise ConfigError(f"{path} was made with another configuration; choose another folder or remove it")
        self.net.load_state_dict(state["net"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.position = Position(*state["position"])
        return True

    def _log(self, entry: dict[str, Any]) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({k: round(v, 5) for k, v in entry.items()}) + "\n")


def saved_network(folder: Path) -> dict[str, Tensor] | None:
    """The parameters in a run folder's checkpoint; None when there is none."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["net"]
    return found


def keep_freed_memory() -> None:
    """Ask glibc to reuse large freed blocks instead of returning them: page faults cost more than the arithmetic."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 2**31 - 1)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        return  # another C library: only slower


def _save(state: dict[str, Any], path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.rename(path)
