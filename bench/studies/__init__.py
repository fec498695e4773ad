"""One question each: what a single part costs, or what a method keeps of the vectors."""
