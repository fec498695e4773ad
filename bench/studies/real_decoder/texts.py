"""Held-out texts, on which no choice of export or of this study is made: none calibrates, and none is a parity text.

First-token cases, code, the bench's texts in sixteen languages, and documents of 5 to 400 tokens. The first token of a
text carries the largest activations, and a text of one token is almost that token alone.
"""

from collections import defaultdict

from tokenizers import Tokenizer

from bench.corpora.texts import cut, long_texts, read_texts

FIRST_TOKENS = ("import", "B", "7", "(", "The", "def", "<", "#", "\n", "Ω", "的", "🙂", "🦊🌲", "  ", "yes", "SELECT")
CODE = (
    "from collections import Counter\n\ndef most_common(words):\n    return Counter(words).most_common(3)\n",
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def pop(self):\n        self.items.pop()",
    "import sqlite3\nwith sqlite3.connect('notes.db') as db:\n    db.execute('DELETE FROM notes WHERE id = ?', (7,))\n",
    "const total = cart.reduce((sum, item) => sum + item.price * item.count, 0);\nconsole.log(total.toFixed(2));",
    'fn main() {\n    let names: Vec<&str> = vec!["Ada", "Grace"];\n    for name in &names { println!("{name}"); }\n}',
    '#include <stdio.h>\nint main(void) { for (int i = 1; i <= 10; i++) printf("%d\\n", i * i); return 0; }',
    "func Reverse(s string) string {\n\tr := []rune(s)\n\tslices.Reverse(r)\n\treturn string(r)\n}",
    "SELECT p.title, AVG(r.stars) AS mean FROM products p JOIN reviews r ON r.product = p.id GROUP BY p.title;",
    'for file in *.log; do gzip -9 "$file" && mv "$file.gz" /var/archive/; done',
    "name: build\non: [push]\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - run: make check\n",
    "--- a/setup.cfg\n+++ b/setup.cfg\n@@ -4,3 +4,3 @@\n-version = 1.2.0\n+version = 1.2.1\n",
    '<ul>\n  <li><a href="/about">About us</a></li>\n  <li><a href="/contact">Contact</a></li>\n</ul>',
    "\\begin{align} a^2 + b^2 &= c^2 \\\\ \\nabla \\cdot \\mathbf{E} &= \\rho / \\varepsilon_0 \\end{align}",
    "java.lang.NullPointerException: id is null\n\tat shop.Order.total(Order.java:42)\n\tat shop.Main.run(Main.java:7)",
    '192.168.1.17 - - [03/May/2025:07:12:55 +0200] "GET /index.html HTTP/1.1" 404 162 "-" "curl/8.5.0"',
)
SNIPPETS = len(FIRST_TOKENS) + len(CODE)
"""Number of single tokens and pieces of code, which are the first of the held-out texts; sentences follow."""
PER_LANGUAGE = 5
"""Number of texts of each language of the bench's texts, half of them queries."""
LENGTHS = (5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 400)
"""Numbers of tokens, end token included, of documents cut to them; each is another document."""


def held_out_texts(tokenizer: Tokenizer) -> list[str]:
    """Return the held-out texts; `tokenizer` measures LENGTHS."""
    found = list(zip(long_texts(), LENGTHS, strict=False))
    return [*FIRST_TOKENS, *CODE, *language_texts(), *(cut(tokenizer, text, tokens) for text, tokens in found)]


def language_texts() -> list[str]:
    """Return PER_LANGUAGE texts of each language."""
    texts: dict[str, list[str]] = defaultdict(list)
    for number, record in enumerate(read_texts()):
        if len(texts[record["language"]]) < PER_LANGUAGE:
            texts[record["language"]].append(record["query" if number % 2 else "text"])
    return [text for some in texts.values() for text in some]
