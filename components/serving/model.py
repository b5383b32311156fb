"""The model as MLflow serves it, written as models-from-code: MLflow runs this file to load the model."""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from components.evaluation.engine import answer_batch
from components.rcmu import cited
from components.serving.request import read_request
from components.training.model import load_for_inference

MAX_NEW_TOKENS = 128  # as in the published snippet (RCMU.md)


class RCQwen2VL(PythonModel):
    """Answers questions about boxed regions of images, with citations; signature.py has the columns."""

    def load_context(self, context: Any) -> None:
        """Load the model folder that was logged."""
        self.model, self.processor = load_for_inference(context.artifacts["model"])

    # Without type hints on purpose: MLflow would read them as another signature.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """A frame with columns image, regions, question to one with columns answer, citations."""
        requests = [
            read_request(row.image, row.regions, row.question, where=f"row {number}")
            for number, row in enumerate(model_input.itertuples(index=False), start=1)
        ]
        answers = answer_batch(self.model, self.processor, requests, max_new_tokens=MAX_NEW_TOKENS)
        return pd.DataFrame({"answer": answers, "citations": [list(cited(answer)) for answer in answers]})


set_model(RCQwen2VL())
