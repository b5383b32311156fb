"""The signature of the served model: image, regions, question -> answer, citations."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.models import ModelSignature


def signature() -> "ModelSignature":
    """Image bytes (base64 in JSON), regions with COCO boxes ([x, y, width, height] in pixels), a question."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, Array, Object, Property

    region = Object(
        [
            Property("label", DataType.string),
            # Array(double) refuses a box of whole numbers, which JSON and COCO write without a point;
            # request.py checks the numbers.
            Property("bbox", Array(AnyType())),  # type: ignore[no-untyped-call]  # its constructor has no types
            Property("text", DataType.string),
        ]
    )
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(DataType.binary, "image"),
                ColSpec(Array(region), "regions"),
                ColSpec(DataType.string, "question"),
            ]
        ),
        outputs=Schema([ColSpec(DataType.string, "answer"), ColSpec(Array(DataType.long), "citations")]),
    )
