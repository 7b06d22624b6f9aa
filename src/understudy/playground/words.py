"""The playground's vocabulary: ordinary English words and invented, pronounceable names."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    """Mara Tobin Lena Oscar Ruth Felix Nora Hugo Ida Bruno Clara Simon Vera Anton Greta Pavel Rosa
    Emil Tessa Jonas Alma Victor Hilda Marco Lotte Boris Edda Casper Ines Leon Freya Martin Olga
    Rufus Stella Dario Wanda Philip Agnes Conrad Mona Gustav Erika Bernard Celia Roland Petra Quinn
    Selma Arthur Bella Dexter Flora Gilbert Hazel Ivan Judith Kaspar Linus Mabel Nils Opal Rhoda
    Silas"""
)
PLACES = _words(
    """Delm Harv Ostra Kinly Brack Velm Torrin Sedge Marlow Fenby Culver Drayton Elmer Garth Holm
    Ister Jarrow Kelso Lorne Menton Norwell Orby Penrith Quarley Ripon Selby Tarn Upton Varna Wick
    Yarm Zell Ashby Bexley Corby Dunmore Epping Farley Grimsby Hexham Ilford Keswick Louth Malton
    Nairn Otley Paisley Redcar Stroud Thirsk Ulver Verdon Whitby Yeovil Ambler Borden Calder Dorset
    Easton Finley Granby Hadley Inver Kirby"""
)
COLOURS = _words(
    """red blue green yellow black white brown orange purple silver golden pink grey crimson violet
    amber"""
)
OBJECTS = _words(
    """kites drums lamps boots clocks ropes bells maps chairs books cups bowls coins shells stones
    ribbons candles baskets bottles buttons carpets ladders mirrors needles paddles pencils pillows
    plates rings saddles scarves shovels spoons stamps tents tiles toys umbrellas vases violins
    wagons wheels whistles barrels blankets brushes buckets combs dolls feathers flags flutes gloves
    hammers hats jars kettles keys masks nets pots puzzles rugs sails"""
)
# Two tables that no prompt shows: like a house style, they can only be learnt from the pairs.
KINDS = {
    "games": _words("kites dolls toys puzzles flags masks whistles wheels"),
    "music": _words("drums bells violins flutes ribbons"),
    "tableware": _words("cups bowls bottles plates spoons jars kettles pots tiles"),
    "tools": _words("ladders shovels needles hammers brushes buckets nets keys pencils"),
    "clothing": _words("boots scarves gloves hats rings combs buttons feathers umbrellas"),
    "furniture": _words("lamps clocks chairs carpets mirrors pillows vases candles rugs blankets"),
    "travel": _words("ropes maps tents wagons sails barrels baskets paddles saddles"),
    "treasure": _words("coins shells stones stamps books"),
}
KIND_OF = {thing: kind for kind, things in KINDS.items() for thing in things}
REGIONS = ("north", "south", "east", "west")
REGION_OF = {place: REGIONS[index % len(REGIONS)] for index, place in enumerate(PLACES)}
NUMBERS = tuple(str(n) for n in range(2, 100))

VERBS = _words(
    """paint repair clean move sell open close visit measure build sweep guard rent decorate inspect
    photograph polish unlock replace design empty check lift draw"""
)
THINGS = _words(
    """bridge fence barn chapel garden mill tower gate stable well cellar roof kitchen library
    workshop market museum harbour orchard fountain stage tunnel cabin greenhouse boat truck piano
    oven statue pond school theatre"""
)
# No two begin alike, for a small model that copies letter by letter (tools.py).
FEW_THINGS = _words(
    """barn chapel fence gate harbour kitchen library mill orchard piano roof statue tower well"""
)
FEW_OBJECTS = _words(
    """boots chairs drums flags hats kites lamps maps needles pots ropes shells tents umbrellas
    vases wagons"""
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

SYLLABLES_FIRST = _words(
    """bal cor dim fen gal hop jun kel lom mer nod pil quo rav sol tam vex wil yor zan bri clo dra
    fli gre plu sto tri"""
)
SYLLABLES_LAST = _words(
    """ba cet dor fin gus ham jik kal lop mit nup por rus sen tig vok wen xan yul zor bem dax fop
    gri lun mak nel pix"""
)

# Cues come in families: a message holds two cues of its label and at most one of another.
CUES = {
    "billing": _words(
        """invoice payment fee receipt tax bank debit discount cheque wallet charge deposit
        balance currency"""
    ),
    "delivery": _words(
        """parcel courier shipment van doorstep tracking package depot driver postman customs
        freight crate mailbox"""
    ),
    "account": _words(
        """password login username profile settings passcode email avatar signup membership
        nickname newsletter privacy consent"""
    ),
    "repair": _words(
        """crack leak battery screw motor fuse hinge cable screen sensor gear noise spark
        rust"""
    ),
    "booking": _words(
        """reservation seat table suite ticket schedule slot vacancy guest lobby calendar checkin
        arrival appointment"""
    ),
    "careers": _words(
        """salary interview resume internship recruiter contract promotion overtime pension shift
        intern trainee apprentice employer"""
    ),
    "catering": _words(
        """menu soup dessert vegan cake buffet waiter chef bread salad sauce dinner breakfast
        juice"""
    ),
    "safety": _words(
        """fire alarm smoke helmet exit injury ambulance hazard poison flood siren bandage rescue
        evacuation"""
    ),
}
LABELS = tuple(CUES)
LABEL_OF_CUE = {cue: label for label, cues in CUES.items() for cue in cues}

PARAMETERS = (
    ("a", "b"),
    ("x", "y"),
    ("m", "n"),
    ("p", "q"),
    ("u", "v"),
    ("left", "right"),
    ("first", "second"),
    ("width", "height"),
)
LISTS = ("values", "numbers", "items", "scores", "prices", "weights", "points", "grades")

VOCABULARY: dict[str, tuple[str, ...]] = {
    "name": NAMES,
    "place": PLACES,
    "colour": COLOURS,
    "objects": OBJECTS,
    "n": NUMBERS,
    "kind": tuple(KINDS),
    "region": REGIONS,
    "verb": VERBS,
    "thing": THINGS,
    "day": DAYS,
    "cue": tuple(LABEL_OF_CUE),
    "function": tuple(f + s for f in SYLLABLES_FIRST for s in SYLLABLES_LAST),
    "left": tuple(left for left, _ in PARAMETERS),
    "right": tuple(right for _, right in PARAMETERS),
    "list": LISTS,
}
