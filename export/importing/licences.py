"""Under which licence weights are published, and whether it has to be accepted by name.

A model card says it itself, in the line ``license:`` of its head. Where there is no card, the place
is looked up among the publishers that we know, and then the family.
"""

import re
from dataclasses import dataclass

from bundle.schema import Licence
from export.importing.errors import ImportRefused

# Licences that a card names by these words and that allow commercial use.
_COMMERCIAL = {
    "afl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0",
    "cc-by-sa-4.0", "cc0-1.0", "isc", "mit", "unlicense",
}  # fmt: skip
_NAMES = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-2-clause": "BSD-2-Clause",
}
_URLS = {
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "cc-by-nc-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "mit": "https://opensource.org/license/mit",
}


@dataclass(frozen=True, slots=True)
class _Publication:
    """Who published weights, and under which licence: None where none is stated for them."""

    attribution: str
    licence: str | None


_VIDEOMAE = "VideoMAE (Tong et al., arXiv 2203.12602), MCG, Nanjing University"
_VIDEOMAE_V2 = "VideoMAE V2 (Wang et al., arXiv 2303.16727), OpenGVLab"
_UMT = "Unmasked Teacher (Li et al., arXiv 2303.16058), OpenGVLab"
_INTERNVIDEO2 = "InternVideo2 (Wang et al., arXiv 2403.15377), OpenGVLab"
_VJEPA2 = "V-JEPA 2 (Assran et al., arXiv 2506.09985), Meta"
_FLUXVIT = "FluxViT (Wang et al., arXiv 2503.14237), OpenGVLab"
_VIDEOMAMBA = "VideoMamba (Li et al., arXiv 2403.06977), OpenGVLab"
_SWIN = "Video Swin Transformer (Liu et al., arXiv 2106.13230), Microsoft"

# By the beginning of a hub id; read off their pages and repositories.
_PLACES = {
    "MCG-NJU/videomae": _Publication(_VIDEOMAE, "cc-by-nc-4.0"),
    "OpenGVLab/VideoMAEv2": _Publication(_VIDEOMAE_V2, "cc-by-nc-4.0"),
    "OpenGVLab/VideoMAE2": _Publication(_VIDEOMAE_V2, "apache-2.0"),
    "OpenGVLab/InternVideo2_distillation": _Publication(_INTERNVIDEO2, None),
    "OpenGVLab/InternVideo2-Stage1": _Publication(_INTERNVIDEO2, "apache-2.0"),
    "OpenGVLab/VideoMamba": _Publication(_VIDEOMAMBA, "apache-2.0"),
    "facebook/vjepa2": _Publication(_VJEPA2, "mit"),
}

# By family, for files that do not say where they are from. A repository's own licence is its
# code's: weights that lie beside it without a word count as unstated.
_FAMILIES = {
    "videomae": _Publication(_VIDEOMAE, "cc-by-nc-4.0"),
    "videomaev2": _Publication(_VIDEOMAE_V2, "cc-by-nc-4.0"),
    "umt": _Publication(_UMT, None),
    "internvideo2": _Publication(_INTERNVIDEO2, None),
    "vjepa2": _Publication(_VJEPA2, None),
    "fluxvit": _Publication(_FLUXVIT, None),
    "videomamba": _Publication(_VIDEOMAMBA, None),
    "video_swin": _Publication(_SWIN, None),
}


def licence_of(place: str, family: str, card: str) -> Licence:
    """The licence of weights, as far as it is stated.

    Args:
        place: hub id, or the name of a file or folder.
        family: of the network.
        card: the model card; "" where there is none.
    """
    published = next(
        (known for beginning, known in _PLACES.items() if place.startswith(beginning)), None
    )
    published = published or _FAMILIES.get(family) or _Publication(place, None)
    stated, name, url = _read_card(card)
    attribution = published.attribution
    if "/" in place:
        attribution += f"; weights from {place}"
    if stated is None:
        stated = published.licence
    if stated is None:
        return Licence(name="not stated", url=None, commercial=None, attribution=attribution)
    commercial: bool | None = True if stated in _COMMERCIAL else None
    if re.search(r"(^|-)nc(-|$)|non-?commercial|research", f"{stated} {name or ''}"):
        commercial = False
    return Licence(
        name=name or _NAMES.get(stated, stated.upper() if stated.startswith("cc") else stated),
        url=url or _URLS.get(stated),
        commercial=commercial,
        attribution=attribution,
    )


def _read_card(card: str) -> tuple[str | None, str | None, str | None]:
    """(licence in the hub's words, its own name, its address) out of a card's head."""
    head = re.match(r"\ufeff?---\s*\n(.*?)\n---", card, re.DOTALL)
    if head is None:
        return None, None, None

    def line(key: str) -> str | None:
        found = re.search(rf"^{key}:[ \t]*(?:\n\s*-[ \t]*)?([^\n#]+)", head[1], re.MULTILINE)
        text = found[1].strip().strip("\"'")[:200] if found else ""
        return text or None

    stated = line("license")
    return (stated.lower() if stated else None), line("license_name"), line("license_link")


def check_accepted(licence: Licence, accepted: bool) -> None:
    """Hold a licence against what the caller said.

    Raises:
        ImportRefused: it is not known to allow commercial use, and nobody accepted it.
    """
    if accepted or licence.commercial:
        return
    if licence.commercial is False:
        raise ImportRefused(
            f"the weights are under {licence.name}, which forbids commercial use; if yours is "
            "none, accept it with --accept-licence"
        )
    what = (
        "no licence is stated for the weights"
        if licence.name == "not stated"
        else f"whether {licence.name} allows commercial use is not known here"
    )
    raise ImportRefused(f"{what}; if you may use them, say so with --accept-licence")
