"""What a fitted estimator says of samples: its answers, and states of its graph.

Letters: ``N`` samples, ``E`` members, ``D`` width of a member's state.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.estimators.base import FloatArray, FusionEstimator
from mmgraph.estimators.inputs import with_all
from mmgraph.estimators.residual import ResidualFusion
from mmgraph.estimators.shapley import Explanation, explain


class StateTransformer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, FusionEstimator
):
    """Gives each sample an answer, and scikit-learn's ``transform`` its state."""

    def _predict(self, X: Any) -> FloatArray:  # noqa: ANN401, N803
        """Return answers ``[N, K]``: probabilities, or values of targets."""
        return self._in_units(self._ask(X, lambda model: model))

    def _in_units(self, said: Tensor) -> FloatArray:
        """Return outputs of the model as users read them."""
        answers: FloatArray = said.double().numpy()
        return answers

    def _ask(
        self,
        X: Any,  # noqa: ANN401, N803
        question: Callable[[ResidualFusion], Callable[..., Tensor]],
    ) -> Tensor:
        """Return what a method of the fitted model says of each sample, ``[N, D]``."""
        check_is_fitted(self, "model_")
        if isinstance(X, MultimodalStream):
            return torch.cat([self._ask(chunk, question) for chunk in X.chunks()])
        return self._answer(self._read(X, reset=False), question(self.model_))

    def explain(
        self,
        X: Any,  # noqa: ANN401, N803
        *,
        orders: int | None = None,
        seed: int = 0,
    ) -> Explanation:
        """Tell what each modality of a sample adds to its answer: Shapley values.

        The answer is that of ``predict_proba`` or, of a regressor, of ``predict``; what
        is shared out among the modalities is how far it is from the answer where
        nothing is observed. A coalition of modalities is worth what the model answers
        from just these, so that nothing is imputed. A missing modality gets exactly 0;
        if it tells something that it is missing, those that are present get that.

        Up to 8 modalities are asked about in every coalition: ``2 ** present`` answers
        a sample. With more of them, they are added in random orders; what the values
        sum up to does not depend on these.

        Args:
            X: The data, with any of the modalities of the training.
            orders: Random orders to use, each with its reverse; default: all orders of
                up to 8 modalities, 32 random ones of more.
            seed: Of the orders. They are the same for every sample.

        Returns:
            ``base [K]``, ``values [N, M, K]`` and the names of the modalities of the
            training; ``base + values.sum(1)`` is the answer ``[N, K]``.

        Raises:
            DataError: A modality that the training did not have, or of another width;
                fewer than one order.

        References:
            A Value for n-Person Games, Shapley, 1953. Polynomial Calculation of the
            Shapley Value Based on Sampling, Castro, Gomez, Tejada, 2009.
        """
        check_is_fitted(self, "model_")
        if isinstance(X, MultimodalStream):
            parts = [self.explain(x, orders=orders, seed=seed) for x in X.chunks()]
            return parts[0]._replace(values=np.concatenate([x.values for x in parts]))

        def ask(part: MultimodalData) -> FloatArray:
            return self._in_units(self._answer(part, self.model_))

        data = with_all(self._read(X, reset=False), self.schema_)
        return explain(ask, data, orders=orders, seed=seed)

    def transform(self, X: Any) -> npt.NDArray[np.float32]:  # noqa: ANN401, N803
        """Return what the graph's readout holds of each sample, ``[N, E D]``.

        The states of the members stand side by side: their axes have nothing in
        common, so a mean over them would cancel what each has learned. A sample with
        nothing observed has the learned state of an empty graph.

        Args:
            X: The data, with any of the modalities of the training.

        Raises:
            DataError: A modality that the training did not have, or of another width.
        """
        z: npt.NDArray[np.float32] = self._ask(X, lambda model: model.states).numpy()
        return z

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self, "model_")
        graph = self.model_.graph
        return int(self.members) * graph.readout.out_channels

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
