"""What callers send, and what they get: each shape documents an answer and renders it. Where a
value comes from is said by its `source`; what nobody stores is worked out by the rows beside it."""
