"""Short texts of four themes, which topics and classes are made of."""

THEMES = {
    "cooking": [
        "Boil the pasta in salted water until it is tender.",
        "Knead the dough, let it rise, and bake the bread in a hot oven.",
        "Fry the onions and garlic in butter before the tomatoes.",
        "The soup needs carrots, celery and a pinch of pepper.",
        "Whisk the eggs with sugar to make the cake light.",
    ],
    "astronomy": [
        "The telescope shows the rings of the planet Saturn.",
        "A comet passed close to the sun last night.",
        "Galaxies contain billions of stars and dark matter.",
        "The moon causes the eclipse when it hides the sun.",
        "Astronomers measured the light of a distant supernova.",
    ],
    "programming": [
        "The compiler reports a type error in this function.",
        "Write a unit test before you change the Python code.",
        "The program crashed because of a null pointer in memory.",
        "This library parses JSON files and returns a dictionary.",
        "Commit the source code to the git repository.",
    ],
    "medicine": [
        "The doctor prescribed an antibiotic for the infection.",
        "A fever and a cough are symptoms of the flu.",
        "The surgeon operated on the patient's heart.",
        "Vaccines protect children from measles.",
        "The nurse measured the blood pressure of the patient.",
    ],
}
UNSEEN = {
    "cooking": "Roast the chicken with potatoes in the oven.",
    "astronomy": "The orbit of the planet around its star.",
    "programming": "The function returns a wrong value, so the test fails.",
    "medicine": "The hospital treats patients with a lung infection.",
}
TEXTS = [text for texts in THEMES.values() for text in texts]
LABELS = [theme for theme, texts in THEMES.items() for _ in texts]
