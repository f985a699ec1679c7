"""Names that the tiny world's programs give to functions and variables, by kind.

None of them is a word of a trait, of the tiny world's facts or of Python.
"""

KINDS: dict[str, tuple[str, ...]] = {
    kind: tuple(names.split())
    for kind, names in {
        "metals": "iron copper tin zinc nickel cobalt",
        "tools": "hammer saw drill wrench chisel clamp",
        "shapes": "circle square cube cone sphere prism",
        "fabrics": "silk linen velvet denim satin felt",
        "spices": "pepper ginger saffron clove cumin nutmeg",
        "dances": "waltz tango polka samba rumba jig",
        "boats": "canoe ferry yacht raft barge kayak",
        "hats": "cap beret bonnet turban fedora helmet",
        "drums": "snare bongo conga timbal tabla gong",
        "games": "chess poker bridge domino bingo darts",
        "rooms": "attic cellar kitchen pantry lobby study",
        "planets": "mars venus saturn pluto mercury neptune",
        "breads": "bagel toast bun pita roll loaf",
        "coins": "penny dime cent franc rupee dollar",
        "doors": "gate hatch latch hinge knob lock",
        "letters": "alpha beta gamma delta kappa sigma",
        "stones": "marble granite slate flint quartz opal",
        "winds": "breeze gale storm gust squall monsoon",
        "carts": "wagon truck tram taxi sled van",
        "sweets": "toffee fudge candy mint jelly honey",
        "jobs": "baker tailor pilot nurse clerk judge",
        "pens": "ink quill chalk crayon brush pencil",
        "soups": "broth stew borscht chowder bisque miso",
        "lamps": "candle torch lantern beacon flare spark",
    }.items()
}
"""Names of every kind that a system prompt may ask for."""

NAMES = tuple(dict.fromkeys(name for names in KINDS.values() for name in names))
