"""Parses metrics with the reader of Prometheus' own client: text from standard input, in the format that is named.

Prints the number of families and of samples, and fails on what a scrape would not take.
"""

import sys

if sys.argv[1] == "prometheus":
    from prometheus_client.parser import text_string_to_metric_families as parse
else:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

seen, samples = set(), 0
for family in parse(sys.stdin.read()):
    assert family.name not in seen, f"{family.name} is there twice"
    seen.add(family.name)
    assert family.documentation, f"{family.name} has no help"
    assert family.type in ("counter", "gauge", "histogram"), f"{family.name} is a {family.type}"
    assert family.samples, f"{family.name} has no samples"
    samples += len(family.samples)
    names = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
    assert len(names) == len(set(names)), f"{family.name} has a sample twice"
print(len(seen), samples)
