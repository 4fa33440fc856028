"""Radial basis functions around landmarks.

Letters: ``N`` samples, ``F`` features, ``L`` landmarks, ``D`` outputs.
"""

import torch
from torch import Tensor, nn

from mmgraph.kernels import mean_squared_distance, multiscale_rbf, signed_sqrt
from mmgraph.nn.scaling import StandardScaler

BLOCK_ROWS = 4096  # rows whose kernel is computed at once
JITTER = 1e-8
MIN_AVERAGED = 5  # training rows of a landmark in models without training rows
AVERAGED_RIDGE = 1e-3


class RBFMap(nn.Module):
    """Linear map of radial basis functions around landmarks, at three scales.

    Features are transformed by the signed square root and standardized; missing cells
    contribute to the distance of two rows through their indicators. The kernel is the
    mean of ``exp(-s d^2 / mean d^2)`` over the scales s, so that no bandwidth has to be
    chosen.

    Args:
        in_features: ``F``.
        out_channels: ``D``.
        num_landmarks: ``L``.

    References:
        Improving the Fisher Kernel for Large-Scale Image Classification, Perronnin,
        Sanchez, Mensink, 2010 (the signed square root). Using the Nystroem Method to
        Speed Up Kernel Machines, Williams, Seeger, 2000 (landmarks).
    """

    DIVISORS = ("spread",)

    landmark: Tensor
    spread: Tensor
    weight: Tensor

    def __init__(self, in_features: int, out_channels: int, num_landmarks: int) -> None:
        super().__init__()
        self.scaler = StandardScaler(in_features)
        width = self.scaler.out_channels
        self.register_buffer("landmark", torch.zeros(num_landmarks, width))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("weight", torch.zeros(num_landmarks, out_channels))

    def fit(self, x: Tensor, landmarks: Tensor) -> None:
        """Fit the scales, and store the landmarks.

        Args:
            x: ``[N, F]`` features.
            landmarks: ``[L]`` indices of the rows that are landmarks.
        """
        self.scaler.fit(signed_sqrt(x))
        self.landmark.copy_(self._inputs(x[landmarks]))
        self.spread.copy_(mean_squared_distance(self.landmark))

    def kernel(self, x: Tensor) -> Tensor:
        """Return the kernel of features ``[N, F]`` with the landmarks, ``[N, L]``.

        Computed in double precision, so that a row does not depend on the batch.
        """
        return self._kernel_of(self._inputs(x))

    def _kernel_of(self, inputs: Tensor) -> Tensor:
        return multiscale_rbf(inputs, self.landmark, self.spread)

    def averaged(self) -> "RBFMap":
        """Return an approximation whose landmarks are means of landmarks.

        Every landmark is the mean of at least ``MIN_AVERAGED`` similar ones (of all, if
        there are fewer), so that none is a row of a single training sample. Weights are
        fitted to the outputs of this map at its landmarks.

        References:
            Practical Data-Oriented Microaggregation for Statistical Disclosure Control,
            Domingo-Ferrer, Mateo-Sanz, 2002. Improved Nystroem Low-Rank Approximation
            and Error Analysis, Zhang, Tsang, Kwok, 2008 (means as landmarks).
        """
        means = torch.stack(means_of_similar(self.landmark))
        result = RBFMap(self.scaler.channels, self.weight.shape[1], len(means))
        kept = {k: v for k, v in self.state_dict().items() if k != "weight"}
        result.load_state_dict(kept | {"landmark": means, "weight": result.weight})
        target = self._kernel_of(self.landmark) @ self.weight.double()
        kernel, gram = result._kernel_of(self.landmark), result._kernel_of(means)
        normal = kernel.T @ kernel + AVERAGED_RIDGE * gram
        normal.diagonal().add_(JITTER * len(kernel))
        solved = torch.linalg.solve(normal, kernel.T @ target)
        result.weight.copy_(solved.to(result.weight.dtype))
        return result

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[N, F]``, NaN if missing, to ``[N, D]``."""
        weight = self.weight.double()
        blocks = [self.kernel(rows) @ weight for rows in x.split(BLOCK_ROWS)]
        return torch.cat(blocks).to(self.weight.dtype)

    def _inputs(self, x: Tensor) -> Tensor:
        return self.scaler(signed_sqrt(x))


def means_of_similar(x: Tensor) -> list[Tensor]:
    """Return means of groups of similar rows, split at medians until they are small."""
    groups, means = [x], []
    while groups:
        rows = groups.pop()
        if len(rows) < 2 * MIN_AVERAGED:
            means.append(rows.mean(0))
            continue
        order = rows[:, rows.var(0).argmax()].argsort(stable=True)
        groups += [rows[part] for part in order.tensor_split(2)]
    return means
