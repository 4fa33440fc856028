"""What the graph makes of a sample, as features for other models.

Letters: ``N`` samples, ``E`` members, ``D`` width of a member's state.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from mmgraph.estimators.base import FusionEstimator


class StateTransformer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, FusionEstimator
):
    """Gives a fitted estimator scikit-learn's ``transform``."""

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
