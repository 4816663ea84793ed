"""Names that a person can read aloud, for users nobody has named: ``quiet-harbor-04182736``."""

from __future__ import annotations

import secrets

__all__ = ["readable_name"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_QUALITIES = _words("""
able aged agile airy alert ample amber aqua arctic ardent autumn azure balmy basic beige blithe blond blue bold brave
breezy brief bright brisk bronze brown bubbly busy calm candid canny careful casual cheery chilly civic civil clean
clear clever cloudy coastal cobalt common copper coral cosmic cosy cozy crimson crisp cubic curious cyan dainty dapper
daring dashing dawning deep deft devout dewy distant dizzy dotted dreamy dry dusky dusty eager early earnest earthy
easy ebony elated elder eminent even exact expert fabled fair famous fancy fast fearless fern festive fine firm first
fleet floral fluent flying foggy fond formal frank free fresh frosty full gentle gifted giving glad gleaming global
glossy golden good grand grateful gray green hardy happy hazel hearty helpful hidden high hollow honest humble icy
ideal indigo inner ivory jade jolly jovial joyful keen kind known large lasting late lavish leafy lean level light
lilac lime linear lively local lofty long loud loyal lucid lucky lunar magenta major maroon marble mellow merry mighty
mild minty misty modest mossy mutual native navy neat new nimble noble northern novel ochre olive open opal orange
orderly outer pastel patient peach pearly placid plain pleased polar polite precise prime proper proud pure purple
quaint quick quiet rapid rare ready regal rich rising robust rosy round royal ruby rustic sage sandy scarlet secret
serene shaded sharp shiny silent silken silver simple sleek slim smart smooth snowy social soft solar solid sound
southern spare spiral spry stable stark steady stellar still stout sturdy subtle sunny super supple sure swift tall tan
teal tender thankful tidal tidy timely topaz tranquil true trusty umber unique upbeat urban valid vast velvet verdant
vivid warm wavy western whole wide wild windy wise witty wooden woolly worthy young zesty
""")

_THINGS = _words("""
acorn alcove alder almond anchor antler apple apron arbor arch archer aspen atlas atoll aurora badge badger bakery
balcony bamboo banjo banner barley basin basket bay beacon beaver beech bell bench berry birch bison blossom bluff boat
bobcat bonfire book boulder branch bread breeze brick bridge brook broom bucket buffalo button cabin cactus camel
canal candle canoe canvas canyon cape caravan cardinal castle cave cedar cello chalk channel chapel cherry chestnut
chime cinder cliff clock cloud clover coast comet compass condor coral cottage cotton cove coyote crane crater creek
crest cricket crow crown crystal current cypress dahlia daisy dale dawn deer delta desert dew dolphin dove drum dune
eagle echo eddy egret elk elm ember engine estuary falcon feather fern ferry fiddle field finch fir fjord flame flint
flute foal forest forge fossil fountain fox frost galaxy garden gate gazelle geyser glacier glade glen goose gorge
granite grove gull harbor harp harvest hazel heath hedge heron hill hollow honey horizon ibis inlet iris island ivy
jasmine jay jetty juniper kestrel kettle kite ladder lagoon lake lamp lantern larch lark lattice laurel leaf ledge lily
linden lizard llama locket lodge loom lotus lynx magnet magpie mango mantle maple market marsh marten mast meadow
melody mesa meteor mill mint mirror moon moose moss moth mural needle nest nettle newt north oak oasis oat ocean orbit
orchard orchid oriole osprey otter owl paddle palm panda paper parade parrot pasture path peak pear pebble pelican
petal pier pine planet plateau plaza plum pond poplar poppy portal prairie prism puffin quail quarry quartz quill rabbit
raft rain raven reed reef ribbon ridge river robin rose rudder saddle sail salmon sand satchel sequoia shell shore
signal sky slate sledge sparrow spindle spring spruce squash squirrel star stone stork stream summit sunrise swallow
swan table tapir temple terrace thicket thistle thrush thunder tiger timber torch tower trail tulip tunnel turtle
valley vessel village violet viper voyage wagon walnut walrus water wave wharf wheat wheel whistle willow wind window
winter wolf wood wren yarrow yew zebra zenith zephyr
""")


def readable_name(prefix: str = "") -> str:
    """Return ``<prefix><word>-<word>-<8 digits>``, one of about ten million million."""
    return f"{prefix}{secrets.choice(_QUALITIES)}-{secrets.choice(_THINGS)}-{secrets.randbelow(10**8):08d}"
