"""Adds up the orders of one file and says which lines it could not use."""

import csv
import json
import os
from collections import Counter
from decimal import Decimal, InvalidOperation
from pathlib import Path

source = Path(os.environ["STROEM_INPUT_TABLE"])

cents: Counter[str] = Counter()
rejected: list[str] = []
with source.open(newline="", encoding="utf-8") as handle:
    for row in csv.DictReader(handle):
        try:
            quantity, price = int(row["quantity"]), Decimal(row["unit_price"])
        except (ValueError, InvalidOperation):
            quantity, price = 0, Decimal(0)
        if quantity < 1:
            print(f"order {row['order']}: quantity {row['quantity']!r} makes no sense, left out")
            rejected.append(row["order"])
            continue
        cents[row["product"]] += int(quantity * price * 100)

print(
    f"{source.stem}: {sum(cents.values()) / 100:.2f} in {len(cents)} products, {len(rejected)}"
    " orders left out"
)
print("OUTPUT: " + json.dumps({"region": source.stem, "cents": cents, "rejected": rejected}))
