// Texts that the page begins with.

export const QUERIES = `how do I get my money back
why is the sky blue
fastest way to sort a list in Python
symptoms of iron deficiency`;

export const DOCUMENTS = `Refunds are paid to your card within five working days of the return.
Air scatters short waves of sunlight more strongly than long ones, so blue reaches us from all sides.
list.sort() works in place with Timsort, which is quick on data that is partly ordered.
Pale skin, tiredness and brittle nails are common in people whose blood lacks haemoglobin.
The blue whale is the largest animal that has ever lived.
Orders over 50 euros are delivered free of charge.
Python is a snake of the family Pythonidae, found in Africa, Asia and Australia.`;

export const TEXT = `# Quoits

Quoits is a game in which rings of metal, rope or rubber are thrown over a set distance, to land over or near a spike in the ground.

In the northern game of England the pins stand eleven yards apart in beds of moist clay. A ring weighs a little over five pounds, and a ringer around the pin counts two points.

The old Greeks threw a discus; Roman soldiers may have brought the sport to Britain. In the fifteenth century it was so popular in pubs that kings forbade it, since it kept men from archery.

# A small kitchen

Bread needs flour, water, salt and time. A cold night in the refrigerator gives the dough more taste than any extra yeast.

Cast iron pans are cleaned with hot water and a brush, dried at once, and rubbed with a thin film of oil. They last for generations.

Coffee tastes bitter when the water is too hot or the powder is too fine: grind it coarser, or let the kettle stand for a minute.

# The sky at night

Planets shine with a steady light, because they are near enough to be small discs; stars are points, and moving air makes them twinkle.

A lunar eclipse happens when the earth stands between sun and moon. The shadow is red, for the air of the earth bends the light of all sunsets into it.

Meteors are grains of dust that glow as they enter the atmosphere. The Perseids return every August, when the earth crosses the trail of a comet.

# Money

Compound interest is interest on interest. At seven percent a year, savings double in about ten years.

A budget begins with a list of what is spent. Rent and food come first; what is left is divided between savings and pleasure.

# The garden

Tomatoes want sun, warmth and even watering. Brown spots at the end of the fruit come from a lack of calcium, mostly because the soil dried out.

Bees visit lavender, thyme and borage. A dish of water with a few stones helps them on hot days.

Compost needs brown and green in equal parts: dry leaves and twigs, and the peels of the kitchen. Turn it once a month.`;

export const QUERY = "why is the moon red during an eclipse";
