"""
Aliases that are made up: from a pattern (contract 02 §2.2), or of four words. Nothing here does I/O.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from hypha_common.errors import BadRequest, NotSupported

from .aliases import check_expanded

__all__ = ["expand_pattern", "random_alias"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_ZENODO = ("zenodo_id", "zenodo_conceptrecid")


def expand_pattern(
    pattern: str, *, uuid: UUID, user_id: str, config: Mapping[str, Any], parts: Mapping[str, Any]
) -> str:
    """
    Return one alias that a pattern stands for: ``{uuid}``, ``{timestamp}``, ``{user_id}``, or a part that the
    collection has words for, each time another; a random UUID for what nobody knows.

    Raises BadRequest, NotSupported.

    """

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name == "uuid":
            return str(uuid)
        if name == "timestamp":
            return str(int(time.time()))
        if name == "user_id":
            return user_id
        if name in _ZENODO:
            raise _no_zenodo(name, config)
        words = parts.get(name)
        if isinstance(words, list) and words:
            return str(secrets.choice(words))
        return words if isinstance(words, str) else str(uuid4())

    return check_expanded(_PLACEHOLDER.sub(fill, pattern))


def random_alias() -> str:
    """Return ``adjective-noun-verb-adverb``, one of about four hundred million."""
    return "-".join(secrets.choice(words) for words in (_ADJECTIVES, _NOUNS, _VERBS, _ADVERBS))


def _no_zenodo(name: str, config: Mapping[str, Any]) -> Exception:
    if config.get("publish_to") in ("zenodo", "sandbox_zenodo"):
        return NotSupported("Publishing to Zenodo is not supported by this server.")
    return BadRequest(
        f"Alias cannot contain the '{{{name}}}' placeholder, set publish_to to 'zenodo' or 'sandbox_zenodo'.",
        rpc_type="AssertionError",
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ADJECTIVES = _words("""
able aged agile airy amber ample arctic autumn azure balmy bold brave breezy brief bright brisk bronze busy calm candid
careful cheery civil clear clever coastal cobalt cosmic cozy crimson crisp curious dapper daring dear deep deft distant
dusty eager early earnest easy elegant exact fair famous fancy fast fearless fine firm fleet fond frank free fresh
frosty gentle gifted glad gleaming golden good graceful grand green happy hardy hearty helpful hidden honest humble icy
ideal jolly joyful keen kind large late lean light lively local lofty long loyal lucid lucky major mellow merry mighty
mild misty modest native neat new nimble noble novel olive open orange patient placid plain pleased polar polite proud
pure quaint quick quiet rapid rare ready rich robust rosy royal rustic sandy serene sharp shiny silent silver simple
sleek smart smooth snowy social solar solid spare spry steady sturdy sunny supple sure swift tall teal tender tidy
tranquil true trusty upbeat urban vast vivid warm wide wild windy wise witty young
""")
_NOUNS = _words("""
acorn anchor antler apple aspen atlas badger bamboo banjo barley basket beacon beaver bell berry birch bison boat
boulder branch breeze bridge brook bucket buffalo cabin canoe canyon castle cedar cello cherry cliff clock cloud clover
comet compass condor coral cottage coyote crane creek cricket crystal cypress daisy dawn deer delta desert dolphin dove
drum dune eagle echo elk ember falcon feather fern field finch fjord flame flute forest forge fossil fountain fox frost
galaxy garden gazelle geyser glacier goose granite grove gull harbor harp hawk hazel hedge heron hill honey horizon ibis
inlet iris island ivy jasmine jay juniper kestrel kettle kite lagoon lake lantern lark laurel leaf lemon lily lizard
llama lotus lynx magnet magpie mango maple marble market marsh meadow melody meteor mill mint mirror moon moose moss
mural nest newt oak oasis ocean olive orbit orchid otter owl paddle palm panda path peak pear pebble pelican penguin
pine planet plateau plum pond poplar poppy prairie puffin quail quartz quill rabbit raft rain raven reef ribbon ridge
river robin rocket rose rudder saddle sail salmon shell signal sparrow spring spruce squirrel star stone stork stream
summit swallow swan table tapir temple thicket thrush tiger timber torch tower trail tulip tunnel turtle valley vessel
village violet walnut walrus water wave whale wheat wheel willow wind winter wolf wren yarrow zebra zephyr
""")
_VERBS = _words("""
act add aim arrive ask bake balance beam begin bend blend bloom bounce bow build call carry carve catch chase cheer
chime climb collect cook count crawl cross dance dare dash deliver dig dive draw dream drift drive eat enter explore
feel find fish fix float flow fly fold follow gather give glide glow grow guide hear help hide hike hold hop hum hurry
invent join juggle jump keep knit land laugh lead lean leap learn leave lift listen look make march meet melt mend move
nod open paint pass pick plan plant play point pour print pull push race read rest return ride ring rise roam roll row
run sail save scan search see sew share shine sing sit skate sketch ski sleep slide smile soar solve speak spin stand
start stay steer step stir stretch stroll study sway swim swing talk taste teach think throw travel trust try turn visit
wait wake walk wander watch wave weave whisper whistle wink wonder work write
""")
_ADVERBS = _words("""
abroad again ahead almost aloud already always apart around away below best boldly bravely brightly briskly calmly
carefully cheerfully clearly closely daily deeply early easily evenly everywhere exactly fairly faithfully far fast
firmly fondly forever forward freely fully gently gladly gracefully happily here honestly indoors instantly jointly
joyfully keenly kindly late lightly loudly lively mostly nearby neatly nicely nobly now often onward openly outdoors
patiently perfectly plainly politely promptly proudly quickly quietly rapidly rarely readily safely seldom sharply
silently simply slowly smoothly softly soon steadily still surely sweetly swiftly tenderly today together tomorrow
truly twice upward usually vastly warmly well widely wildly wisely
""")
