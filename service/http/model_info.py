"""What is served, as ``GET /model`` shows it."""

from bundle.sampling import spatial_choices
from bundle.schema import Manifest
from bundle.tokens import tokens_to_keep
from service.decoding.pool import DecodePool
from service.engine import Engine
from service.http import engine_info, model_schemas, schemas
from service.pipeline.journey import usual_window
from service.settings import Settings

# Shown when every sparsity is exact and there is no grid to show.
_EXAMPLE_SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95)


def model(
    manifest: Manifest, settings: Settings, engine: Engine | None, pool: DecodePool
) -> model_schemas.Model:
    """The answer of ``GET /model``; before warm-up there is no engine to describe."""
    geometry, sampling, meant = manifest.geometry, manifest.sampling, manifest.sparsity
    source = manifest.provenance.source
    return model_schemas.Model(
        bundle=schemas.BundleAnswer(name=manifest.name, version=manifest.version),
        labels=manifest.labels,
        geometry=model_schemas.GeometryAnswer(
            frames=geometry.frames,
            size=geometry.size,
            patch=geometry.patch,
            tubelet=geometry.tubelet,
            tokens=geometry.tokens,
        ),
        sampling=model_schemas.SamplingAnswer(
            kind=sampling.kind,
            stride=sampling.stride,
            framing=sampling.framing,
            spatial_views=list(spatial_choices(sampling.framing)),
        ),
        default_views=sampling.default_views,
        timeline_window_seconds=usual_window(manifest, settings.timeline_window_seconds),
        selector=model_schemas.SelectorAnswer(
            kind=manifest.selector.kind,
            downscale_time=manifest.selector.downscale.time,
            downscale_space=manifest.selector.downscale.space,
            macs=manifest.macs.selector,
        ),
        answer=model_schemas.AnswerKindAnswer(
            **manifest.answer.model_dump(exclude={"known"}),
            unknown_by="best" if manifest.answer.known is None else "video",
        ),
        sparsity=model_schemas.SparsityRangeAnswer(
            lowest=meant.lowest,
            highest=meant.highest,
            default=meant.default,
            basis=meant.basis,
            levels=[
                model_schemas.LevelAnswer(sparsity=level, tokens=kept, macs=manifest.macs.at(kept))
                for level in settings.sparsity_levels or _EXAMPLE_SPARSITIES
                for kept in (tokens_to_keep(level, geometry.tokens),)
            ],
            exact=not settings.sparsity_levels,
            degrade_to=settings.degrade_max_sparsity,
        ),
        accuracy=[
            model_schemas.AccuracyAnswer.model_validate(point.model_dump(exclude={"recall"}))
            for point in manifest.accuracy
        ],
        rivals=[
            model_schemas.RivalAnswer.model_validate(rival.model_dump())
            for rival in manifest.rivals
        ],
        licence=None
        if manifest.licence is None
        else model_schemas.LicenceAnswer.model_validate(manifest.licence.model_dump()),
        source=None if source is None else source.place,
        engine=engine_info.engine(engine),
        decoding=model_schemas.DecodingAnswer(
            workers=pool.live,
            sandbox=pool.sandbox,
            device=settings.decoding_device,
            torchcodec=pool.versions[0],
            ffmpeg=pool.versions[1],
        ),
        limits=model_schemas.LimitsAnswer(
            **{name: getattr(settings, name) for name in model_schemas.LimitsAnswer.model_fields}
        ),
    )
