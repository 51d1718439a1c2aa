/**
 * A colour for each venue: the same one wherever the venue stands, and as long as the same venues are there.
 */

const COLOURS = 12;
const given = new Map();

function preferred(name) {
  let hash = 2_166_136_261;
  for (const letter of name) hash = Math.imul(hash ^ letter.codePointAt(0), 16_777_619) >>> 0;
  return hash % COLOURS;
}

/**
 * Give out colours: by name, and the next free one where two names come to the same.
 * @param {string[]} names
 */
export function give(names) {
  for (const name of [...names].sort()) {
    if (given.has(name)) continue;
    const used = new Set(given.values());
    let colour = preferred(name);
    for (let tries = 0; tries < COLOURS && used.has(colour); tries += 1) colour = (colour + 5) % COLOURS;
    given.set(name, colour);
  }
}

/**
 * Give the class that sets a venue's colour.
 * @param {string} name
 */
export function colourOf(name) {
  if (!given.has(name)) give([name]);
  return `venue-${given.get(name)}`;
}
