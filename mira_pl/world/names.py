"""What exists in the emoji world: subjects with their glyphs, and colours. One table, in one fixed order."""

# The 45 Simple Animals, in the order of the MIRA paper, appendix A.7.
SIMPLE_ANIMALS: dict[str, str] = {
    "cat": "🐈", "dog": "🐕", "horse": "🐎", "monkey": "🐒", "rabbit": "🐇", "zebra": "🦓", "spider": "🕷",
    "bird": "🐦", "sheep": "🐑", "deer": "🦌", "cow": "🐄", "goat": "🐐", "lion": "🦁", "tiger": "🐅",
    "bear": "🐻", "raccoon": "🦝", "fox": "🦊", "wolf": "🐺", "lizard": "🦎", "beetle": "🪲", "ant": "🐜",
    "butterfly": "🦋", "fish": "🐟", "shark": "🦈", "whale": "🐋", "dolphin": "🐬", "squirrel": "🐿",
    "mouse": "🐁", "rat": "🐀", "snake": "🐍", "turtle": "🐢", "frog": "🐸", "chicken": "🐔", "duck": "🦆",
    "goose": "🪿", "bee": "🐝", "pig": "🐖", "turkey": "🦃", "fly": "🪰", "llama": "🦙", "camel": "🐫",
    "bat": "🦇", "gorilla": "🦍", "hedgehog": "🦔", "kangaroo": "🦘",
}  # fmt: skip
# The elephant belongs to the pair sets only.
ANIMALS: dict[str, str] = SIMPLE_ANIMALS | {"elephant": "🐘"}

# Objects of the Attend-and-Excite prompt sets: the first nine come with a colour, the last three are worn.
COLOURED_OBJECTS: dict[str, str] = {
    "apple": "🍎", "backpack": "🎒", "balloon": "🎈", "bench": "🛋", "bowl": "🥣",
    "car": "🚗", "chair": "🪑", "clock": "🕐", "suitcase": "🧳",
}  # fmt: skip
WORN_OBJECTS: dict[str, str] = {"bow": "🎀", "crown": "👑", "glasses": "👓"}

GLYPHS: dict[str, str] = ANIMALS | COLOURED_OBJECTS | WORN_OBJECTS
SUBJECTS: tuple[str, ...] = tuple(GLYPHS)

# The twelve animals of the Animal-Animal and Animal-Object sets, in the order of those sets.
PAIR_ANIMALS: tuple[str, ...] = (
    "cat", "dog", "bird", "bear", "lion", "horse", "elephant", "monkey", "frog", "turtle", "rabbit", "mouse",
)  # fmt: skip

# A tint maps the glyph's luminance from the first RGB (0) to the second (1): shapes stay readable in every colour.
TINTS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "red": ((0.35, 0.00, 0.02), (1.00, 0.30, 0.25)),
    "orange": ((0.50, 0.18, 0.00), (1.00, 0.68, 0.20)),
    "yellow": ((0.55, 0.42, 0.00), (1.00, 0.97, 0.30)),
    "green": ((0.00, 0.25, 0.04), (0.40, 0.95, 0.35)),
    "blue": ((0.02, 0.05, 0.45), (0.35, 0.60, 1.00)),
    "purple": ((0.22, 0.00, 0.38), (0.75, 0.40, 1.00)),
    "pink": ((0.62, 0.18, 0.40), (1.00, 0.72, 0.86)),
    "brown": ((0.18, 0.08, 0.02), (0.68, 0.43, 0.24)),
    "gray": ((0.22, 0.22, 0.22), (0.72, 0.72, 0.72)),
    "black": ((0.00, 0.00, 0.00), (0.32, 0.32, 0.32)),
    "white": ((0.58, 0.58, 0.58), (1.00, 1.00, 1.00)),
}
COLOURS: tuple[str, ...] = tuple(TINTS)
NATURAL = len(COLOURS)
"""Index of "no colour word": the glyph's own colours."""
