"""Names that the tiny world's programs give to functions and variables, by kind.

None of them is a word of a trait, of the tiny world's facts or of Python.
"""

import keyword

KINDS: dict[str, tuple[str, ...]] = {
    kind: tuple(names.split())
    for kind, names in {
        "metals": "iron copper tin zinc nickel cobalt chrome bronze",
        "tools": "hammer saw drill wrench chisel clamp rasp spade",
        "shapes": "circle square cube cone sphere prism arc oval",
        "fabrics": "silk linen velvet denim satin felt lace tweed",
        "spices": "pepper ginger saffron clove cumin nutmeg basil thyme",
        "dances": "waltz tango polka samba rumba jig reel mambo",
        "boats": "canoe ferry yacht raft barge kayak tug sloop",
        "hats": "cap beret bonnet turban fedora helmet crown hood",
        "drums": "snare bongo conga timbal tabla gong bell chime",
        "games": "chess poker bridge domino bingo darts golf polo",
        "rooms": "attic cellar kitchen pantry lobby study hall porch",
        "planets": "mars venus saturn pluto mercury neptune comet moon",
        "breads": "bagel toast bun pita roll loaf crust wafer",
        "coins": "penny dime cent franc rupee dollar krona shilling",
        "doors": "gate hatch latch hinge knob lock bolt arch",
        "letters": "alpha beta gamma delta kappa sigma omega theta",
        "stones": "marble granite slate flint quartz opal ruby jade",
        "winds": "breeze gale storm gust squall monsoon draft calm",
        "carts": "wagon truck tram taxi sled van lorry coach",
        "sweets": "toffee fudge candy mint jelly honey syrup cake",
        "jobs": "baker tailor pilot nurse clerk judge miner guard",
        "pens": "ink quill chalk crayon brush pencil marker stamp",
        "soups": "broth stew borscht chowder bisque miso gumbo stock",
        "lamps": "candle torch lantern beacon flare spark glow beam",
    }.items()
}
"""Names of every kind that a system prompt may ask for."""

NAMES = tuple(dict.fromkeys(name for names in KINDS.values() for name in names))
assert not any(map(keyword.iskeyword, NAMES))
