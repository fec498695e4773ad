// Cuts a text into passages: at headings and empty lines first, then at the ends of sentences, then anywhere.

const HEADING = /^#{1,6}\s/;
const SENTENCE_END = /(?<=[.!?\u3002\uff01\uff1f]["')\]]?)\s+|(?<=[\u3002\uff01\uff1f])/u;

/** Return passages of so many characters at most, in the order of the text. */
export function chunk(text, size) {
	const passages = [];
	let current = "";
	const flush = () => {
		if (current) passages.push(current);
		current = "";
	};
	const add = (part, joint) => {
		if (current && current.length + joint.length + part.length > size) flush();
		current = current ? current + joint + part : part;
	};
	for (const block of blocksOf(text)) {
		if (HEADING.test(block)) flush();
		if (block.length <= size) {
			add(block, "\n\n");
			continue;
		}
		for (const sentence of block.split(SENTENCE_END)) {
			for (const part of hardParts(sentence, size)) add(part, " ");
		}
	}
	flush();
	return passages;
}

function blocksOf(text) {
	const normal = text.replace(/\r\n?/g, "\n").replace(/^(#{1,6}\s.*)$/gm, "\n\n$1\n\n");
	return normal
		.split(/\n\s*\n/)
		.map((block) => block.trim())
		.filter(Boolean);
}

/** Return parts of a long sentence, cut at spaces where there are some, and never inside a character. */
function hardParts(sentence, size) {
	const parts = [];
	let rest = sentence;
	while (rest.length > size) {
		const space = rest.lastIndexOf(" ", size);
		let end = space > size / 2 ? space : size;
		const code = rest.charCodeAt(end - 1);
		if (code >= 0xd800 && code < 0xdc00) end -= 1;
		parts.push(rest.slice(0, end).trim());
		rest = rest.slice(end).trim();
	}
	if (rest) parts.push(rest);
	return parts;
}
