"""Muon, as torch's, in the number format that the device multiplies fast."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from training.processes import multiplies_bfloat16


class Muon(torch.optim.Muon):
    """``torch.optim.Muon``: its options, state and updates, in a fraction of a CPU's time.

    torch orthogonalises every update in bfloat16, wherever it runs. A CPU without instructions for
    bfloat16 takes about fifty times as long for that as in float32 (measured on an AMD Zen 3,
    matrices of 192 to 1536), which was most of a training's time there. Such a CPU gets float32.
    Matrices of one shape are orthogonalised together, so that a network of 12 blocks launches a
    few products instead of hundreds.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step. ``closure`` computes the loss anew; its result is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[tuple[torch.Size, torch.device], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape, parameter.device].append(parameter)
            for parameters in alike.values():
                self._step_together(group, parameters)
        return loss

    def _step_together(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Step matrices of one shape: n tensors of [rows, columns]."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(gradient)
        momenta = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = momenta
        if group["nesterov"]:
            updates = list(torch._foreach_lerp(gradients, momenta, group["momentum"]))
        steps = orthogonalise(
            torch.stack(updates), group["ns_coefficients"], group["ns_steps"], group["eps"]
        )
        rate = float(group["lr"])
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        rows, columns = parameters[0].shape
        if group["adjust_lr_fn"] == "match_rms_adamw":
            rate *= 0.2 * max(rows, columns) ** 0.5
        else:
            rate *= max(1.0, rows / columns) ** 0.5
        torch._foreach_add_(parameters, list(steps.to(parameters[0].dtype)), alpha=-rate)


def orthogonalise(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Bring the singular values of each matrix near 1 by Newton-Schulz iterations.

    Args:
        matrices: [n, rows, columns].
        coefficients: of the quintic polynomial, as ``torch.optim.Muon`` takes them.
        steps: iterations.
        eps: the least norm that a matrix is divided by.

    Returns:
        [n, rows, columns] in bfloat16 where the device multiplies in it, otherwise in float32.
    """
    a, b, c = coefficients
    fast = multiplies_bfloat16(matrices.device)
    found = matrices.to(torch.bfloat16 if fast else torch.float32)
    tall = matrices.shape[1] > matrices.shape[2]
    if tall:  # the smaller Gram matrix
        found = found.mT
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.mT
        found = torch.baddbmm(
            found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a
        )
    return found.mT if tall else found
