import isOdd from "is-odd";
import { readFileSync } from "node:fs";

const rows: string[] = readFileSync("/workspace/data.csv", "utf-8").trim().split("\n").slice(1);
const odd = rows.filter((row) => isOdd(row.split(",")[1])).length;
console.log(`OUTPUT: ${JSON.stringify({ odd })}`);
