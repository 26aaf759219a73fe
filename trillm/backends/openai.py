"""Any server or cloud with OpenAI's API: taken when nothing more particular is recognised.

Source: OpenAI's API description. Its list of models says nothing of what a model can do, so everything is tried.
"""

import re
from urllib.parse import urlsplit

from trillm.backends.base import Backend, Card, Cards, Signs, Site, models
from trillm.errors import UpstreamFailed
from trillm.models import Found, Operation
from trillm.wire.control import Answer

# Of the clouds, those whose word there is for it. Any other is asked chat completions, which it has for sure.
_SPOKEN_BY = {"api.openai.com": frozenset({Operation.RESPONSES, Operation.RESPONSE_TOKENS})}
# Clouds keep the version in several places: /openai/v1, /v1beta/openai, /api/paas/v4.
_VERSION = re.compile(r"/v\d\w*(/|$)")


class OpenAI(Backend):
    """See the module's docstring. ``url`` is the API's base; without a version in it, ``/v1`` is appended."""

    kind = "openai"
    title = "The OpenAI-compatible server"
    health = "/models"
    counts_streams = False  # some refuse what they do not know

    def recognises(self, signs: Signs) -> bool:
        """Tell by a list of models."""
        return _cards(signs["/v1/models"]) is not None

    async def inspect(self, site: Site) -> Found:
        """List the models."""
        cards = _cards(await site.good("/models"))
        if cards is None:
            raise UpstreamFailed(f"GET {site.root}/models answers, but not with a list of models")
        spoken = _SPOKEN_BY.get(urlsplit(site.url).hostname or "", frozenset())
        return Found(self.kind, models=models(cards), speaks=spoken)

    def root(self, url: str) -> str:
        """Everything hangs under the base."""
        return self.base(url)

    def base(self, url: str) -> str:
        """Append ``/v1`` unless the address has a version."""
        url = url.rstrip("/")
        return url if _VERSION.search(urlsplit(url).path) else url + "/v1"


def _cards(answer: Answer) -> list[Card] | None:
    """Return the listed models; Together leaves the envelope out."""
    listed = answer.read(Cards[Card])
    return listed.data if listed else answer.read(list[Card])
