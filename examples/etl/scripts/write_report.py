"""Joins the regions into one table, printed to the log, and one total, handed on as output."""

import json
import os
from collections import Counter
from pathlib import Path

# All inputs of the step, as JSON.
given = json.loads(Path(os.environ["STROEM_INPUT_FILE"]).read_text(encoding="utf-8"))
regions, currency = json.loads(given["regions"]), given["currency"]

products: Counter[str] = Counter()
for region in regions:
    products.update(region["cents"])

print(f"{'product':<10}{currency:>12}")
for product, cents in products.most_common():
    print(f"{product:<10}{cents / 100:>12.2f}")
total = sum(products.values())
rejected = [order for region in regions for order in region["rejected"]]
print(f"{'total':<10}{total / 100:>12.2f}")
print(f"left out: {', '.join(rejected) or 'nothing'}")
print(
    "OUTPUT: "
    + json.dumps({"total": f"{total / 100:.2f}", "currency": currency, "rejected": rejected})
)
