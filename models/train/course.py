"""The loop of a training: one learning-rate cycle, and a line of a curve file now and then."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Course:
    """How long and how fast.

    Attributes:
        steps: optimizer steps.
        rate: the highest learning rate, reached after `warm_up` steps; it then falls along a cosine.
        table_rate: that of the token table and the norms.
        measurements: how often the development pairs are measured, beside the start.
        curve: the file of JSON lines that the measurements go to.
        seed: of what is drawn on the way.
    """

    steps: int
    rate: float
    table_rate: float
    warm_up: int
    measurements: int
    curve: Path
    seed: int


def optimizers(model: nn.Module, rate: float, table_rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan, 2024) for the layers' matrices, AdamW for the token table and the norms.

    Muon's steps are scaled to AdamW's size, so that one learning rate serves both.
    """
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    outer = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=table_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]


def follow(
    course: Course, model: nn.Module, loss: Callable[[], Tensor], measure: Callable[[], dict[str, float]]
) -> None:
    """Trains `model` in place on what `loss` returns, gradients clipped to norm 1."""
    both = optimizers(model, course.rate, course.table_rate)
    rising = min(0.5, course.warm_up / course.steps)
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            one, one.param_groups[0]["lr"], course.steps, pct_start=rising, cycle_momentum=False
        )
        for one in both
    ]
    began, losses = time.perf_counter(), list[float]()
    with course.curve.open("w") as log:

        def note(step: int) -> None:
            line: dict[str, float | None] = {"step": step, "seconds": round(time.perf_counter() - began, 1)}
            line |= {"loss": round(float(np.mean(losses)), 4) if losses else None, **measure()}
            log.write(json.dumps(line) + "\n")
            log.flush()
            print(line, flush=True)
            losses.clear()

        for step in range(course.steps):
            if step % max(1, course.steps // course.measurements) == 0:
                note(step)
            found: Any = loss()
            found.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, schedule in zip(both, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            losses.append(found.item())
        note(course.steps)
