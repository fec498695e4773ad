// Texts that the page begins with.

export const QUERIES = `who invented the telephone
which animal is the biggest
fastest way to sort in Python
where do pythons live
signs of iron deficiency
how much is delivery`;

export const DOCUMENTS = `Bell was granted the patent for the telephone in 1876.
The blue whale is the largest animal that has ever lived.
list.sort() works in place and is quick on data that is partly ordered.
Python is a snake of Africa, Asia and Australia.
Pale skin, tiredness and brittle nails are common if the blood lacks iron.
Orders over 50 euros are delivered free of charge.
Daylight is blue because air scatters short waves of sunlight.`;

export const TEXT = `# Quoits

Quoits is a game in which rings of metal, rope or rubber are thrown to land over or near a spike in the ground.

In the north of England the pins stand eleven yards apart in beds of moist clay.

# The sky at night

Planets shine with a steady light. Stars are points, and moving air makes them twinkle.

A lunar eclipse happens when the earth stands between sun and moon. The shadow is red, for the air of the earth bends the light of all sunsets into it.

Meteors are grains of dust that glow as they enter the atmosphere.

# Kitchen

Coffee tastes bitter when the water is too hot or the powder is too fine: grind it coarser, or let the kettle stand.

# Money

Compound interest is interest on interest. At seven percent a year, savings double in about ten years.`;

export const QUERY = "why is the moon red during an eclipse";
