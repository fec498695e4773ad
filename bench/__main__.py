"""`python -m bench`: systems side by side, from the repository's root."""

import argparse
import json
from pathlib import Path

from bench import report, run

FAR = 0.15


def compare(options: argparse.Namespace) -> None:
    """Prints how far the ratios of two results are from each other, furthest first; fails beyond --most."""
    results = [json.loads(file.read_text()) for file in (options.one, options.other)]
    found = sorted(report.compare_results(*results), key=lambda each: -abs(each[2] / each[1] - 1))
    for what, first, second in found:
        print(f"{second / first - 1:+7.1%}  {first:7.3f} {second:7.3f}  {what}")
    far = sum(abs(second / first - 1) > options.most for _, first, second in found)
    print(f"{len(found)} ratios, {far} of them more than {options.most:.0%} apart")
    raise SystemExit(bool(far))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="quoit and others on the same texts.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("run", help="measure what is missing; an interrupted run goes on")
    run.add_arguments(command)
    command.set_defaults(run=run.run)
    command = commands.add_parser("report", help="a Markdown page with plots from a result")
    report.add_arguments(command)
    command.set_defaults(run=report.run)
    command = commands.add_parser("compare", help="how far two results are apart")
    command.add_argument("one", type=Path)
    command.add_argument("other", type=Path)
    command.add_argument("--most", type=float, default=FAR, help="how far a ratio may be off (default: 0.15)")
    command.set_defaults(run=compare)
    options = parser.parse_args()
    try:
        options.run(options)
    except KeyboardInterrupt:
        raise SystemExit("interrupted; what was measured is kept, and the same command goes on") from None


if __name__ == "__main__":
    main()
