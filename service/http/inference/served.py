"""What is served, as the protocol says it over HTTP and gRPC."""

from bundle.schema import Manifest
from service import __version__
from service.errors import ModelNotFound
from service.http.inference import schemas
from service.http.inference.asked import DATATYPE, INPUT, Reading
from service.http.inference.tensors import outputs_of
from service.pipeline.pipeline import Pipeline
from service.settings import Settings

SERVER = schemas.ServerMetadata(
    name="lookwhen",
    version=__version__,
    extensions=["binary_tensor_data", "classification", "parameters"],
)
PLATFORM = "lookwhen"


def max_clips(settings: Settings, *, keys: bool) -> int:
    """Clips of one request: more than may be in flight at once could never be taken.

    Args:
        keys: whether requests carry keys, which have limits of their own.
    """
    limits = [settings.max_request_clips, settings.max_requests_in_flight]
    if keys:
        limits.append(settings.key_max_requests_in_flight or settings.max_request_clips)
        if settings.key_requests_per_minute:
            limits.append(settings.key_burst_requests)
    return min(limits)


def require_model(pipeline: Pipeline, name: str, version: str = "") -> None:
    """Raises ModelNotFound where it is not the bundle that is served."""
    manifest = pipeline.manifest
    if name != manifest.name:
        raise ModelNotFound(name, manifest.name, manifest.version)
    if version not in ("", manifest.version):
        raise ModelNotFound(f"{name} in version {version}", manifest.name, manifest.version)


def model_metadata_of(pipeline: Pipeline, name: str, version: str = "") -> schemas.ModelMetadata:
    """The input and the outputs of the bundle.

    Raises:
        ModelNotFound: it is not of this name and version.
    """
    require_model(pipeline, name, version)
    manifest = pipeline.manifest
    return schemas.ModelMetadata(
        name=manifest.name,
        versions=[manifest.version],
        platform=PLATFORM,
        inputs=[schemas.TensorMetadata(name=INPUT, datatype=DATATYPE, shape=[-1])],
        outputs=[
            schemas.TensorMetadata(
                name=output.name, datatype=output.datatype, shape=list(output.dimensions)
            )
            for output in outputs_of(manifest)
        ],
    )


def reading_of(manifest: Manifest, most: int) -> Reading:
    """What reads the requests for a bundle, of at most so many clips."""
    return Reading(most, tuple(output.name for output in outputs_of(manifest)))
